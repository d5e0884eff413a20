// `unvme serve`: a device for programs that know nothing of it, by NBD or NVMe/TCP, and the software controller by vfio-user.

import { UsageError } from '../../../lib/errors.ts'
import { onAbort } from '../../../lib/sys/abort.ts'
import { argument, choice, defineCommand, flag, forceOption, valueOr } from '../define.ts'
import { print } from '../output.ts'
import { text } from '../parse.ts'
import { namespaceOption } from '../transfer.ts'
import { nbdOptions, serveByNbd } from './serve-nbd.ts'
import { serveOverTcp, tcpOptions } from './serve-tcp.ts'

export const serve = defineCommand({
  name: 'serve',
  group: 'System',
  summary: 'Offer a device by NBD or NVMe/TCP, or a software controller at a vfio-user socket',
  details: `With --nbd, ADDR is a device, and clients are QEMU, nbdcopy, the kernel's nbd and others. With --tcp, it is one for hosts \
of NVMe/TCP: Linux's nvme connect, unvme itself (nvme+tcp:), and others.

Without either, ADDR is vfio-user:PATH, where clients are unvme itself (unvme info vfio-user:/run/nvme/cntrl) and others \
that speak vfio-user, one at a time; the next one waits.

A port is served on this machine's loopback, to every user of it, and a socket to processes of the same user; no other client is \
let in without --allow-remote. A device that the system uses is served with --read-only alone. Who may connect is said on stderr.

It runs until Ctrl-C. What is in flight is finished then, and flushed.

Doorbells in shared memory (mapped) cost a client nothing, but have to be looked at: while a client has the \
controller enabled, an idle server takes 1 to 2 % of a processor, and after a pause finds a command up to 16 ms late. \
With --doorbells shadow (Doorbell Buffer Config) it sleeps until a message wakes it.`,
  arguments: {
    address: argument(
      'ADDR',
      text,
      'the device, or where clients find a software controller: vfio-user:PATH; a folder stands for cntrl in it',
    ),
  },
  options: {
    ...nbdOptions,
    ...tcpOptions,
    namespaceId: namespaceOption(),
    readOnly: flag('nothing can be written', 'r'),
    allowRemote: flag('listen at addresses that other machines can reach'),
    force: forceOption(),
    device: valueOr('ADDR', text, 'sim:', 'the controller that is offered at a vfio-user socket'),
    doorbells: choice(['mapped', 'shadow'], 'how clients of a vfio-user socket ring'),
  },
  examples: [
    ['serve 0a:00.0 --nbd unix:/run/disk.sock', 'a device for QEMU: nbd+unix:///?socket=/run/disk.sock'],
    ["serve 'sim:disk.img' --nbd 10809 --read-only", 'an image on the loopback'],
    [
      'serve 0a:00.0 --also data=0b:00.0 --nbd 10809',
      'two devices: nbd://127.0.0.1/ and nbd://127.0.0.1/data',
    ],
    ["serve 'sim:disk.img?size=1G' --tcp 127.0.0.1:4420", 'an image for hosts that connect by NVMe/TCP'],
    [
      "serve vfio-user:/run/nvme/cntrl --device 'sim:disk.img?size=1G'",
      'an image as an NVMe device of other processes',
    ],
    ['serve vfio-user:/tmp/nvme --doorbells shadow', 'a server that costs nothing while its client is idle'],
  ],
  async run({ args, options, signal }) {
    const { nbd, tcp, device, doorbells } = options
    if (nbd !== undefined && tcp.length > 0) throw new UsageError('--nbd or --tcp: one of both')
    if (nbd !== undefined) return serveByNbd(args.address, nbd, options, signal)
    if (tcp.length > 0) return serveOverTcp(args.address, options, signal)
    const { serve: start } = await import('../../servers/index.ts')
    const server = await start(args.address, { device, doorbells })
    print(`serving ${device} at ${server.address}`)
    await new Promise<void>((resolve) => {
      if (signal.aborted) resolve()
      else onAbort(signal, resolve)
    })
    server.close()
  },
})
