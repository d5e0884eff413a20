// `unvme serve`: a device for programs that know nothing of it, by NBD, NVMe/TCP or vfio-user.

import { UsageError } from '../../../lib/errors.ts'
import { argument, defineCommand, flag, forceOption } from '../define.ts'
import { text } from '../parse.ts'
import { namespaceOption } from '../transfer.ts'
import { nbdOptions, serveByNbd } from './serve-nbd.ts'
import { serveOverTcp, tcpOptions } from './serve-tcp.ts'
import { serveByVfioUser, vfioUserOptions } from './serve-vfio-user.ts'

export const serve = defineCommand({
  name: 'serve',
  group: 'System',
  summary: 'Offer a device by NBD, NVMe/TCP or vfio-user',
  details: `With --nbd, ADDR is a device, and clients are QEMU, nbdcopy, the kernel's nbd and others. With --tcp, it is one for hosts \
of NVMe/TCP: Linux's nvme connect, unvme itself (nvme+tcp:), and others.

With --vfio-user, it is a namespace of an NVMe controller for one process at a time that speaks vfio-user: unvme itself \
(unvme info vfio-user:/run/nvme/cntrl), SPDK, and others; the next one waits. With --exclusive, ADDR is a software controller, \
which is offered as a whole, with all of its commands. The same is done by vfio-user:PATH in place of ADDR, with --device.

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
      'the device; or vfio-user:PATH, where clients find the software controller of --device',
    ),
  },
  options: {
    ...nbdOptions,
    ...tcpOptions,
    ...vfioUserOptions,
    namespaceId: namespaceOption(),
    readOnly: flag('nothing can be written', 'r'),
    allowRemote: flag('listen at addresses that other machines can reach'),
    force: forceOption(),
  },
  examples: [
    ['serve 0a:00.0 --nbd unix:/run/disk.sock', 'a device for QEMU: nbd+unix:///?socket=/run/disk.sock'],
    ["serve 'sim:disk.img' --nbd 10809 --read-only", 'an image on the loopback'],
    [
      'serve 0a:00.0 --also data=0b:00.0 --nbd 10809',
      'two devices: nbd://127.0.0.1/ and nbd://127.0.0.1/data',
    ],
    ["serve 'sim:disk.img?size=1G' --tcp 127.0.0.1:4420", 'an image for hosts that connect by NVMe/TCP'],
    ['serve 0a:00.0 --vfio-user /run/nvme', 'a device as an NVMe controller of another process'],
    [
      "serve 'sim:disk.img?size=1G&ns=2' --vfio-user /run/nvme --exclusive",
      'a software controller with all of its namespaces',
    ],
    ['serve vfio-user:/tmp/nvme --doorbells shadow', 'a server that costs nothing while its client is idle'],
  ],
  async run({ args, options, signal }) {
    const { nbd, tcp, vfioUser, device } = options
    const ways = [nbd !== undefined, tcp.length > 0, vfioUser !== undefined].filter(Boolean)
    if (ways.length > 1) throw new UsageError('--nbd, --tcp or --vfio-user: one of them')
    if (device !== undefined && ways.length > 0) {
      throw new UsageError('--device is for vfio-user:PATH in place of ADDR')
    }
    if (nbd !== undefined) return serveByNbd(args.address, nbd, options, signal)
    if (tcp.length > 0) return serveOverTcp(args.address, options, signal)
    if (vfioUser !== undefined) {
      return serveByVfioUser(args.address, `vfio-user:${vfioUser}`, options, signal)
    }
    return serveByVfioUser(device ?? 'sim:', args.address, { ...options, exclusive: true }, signal)
  },
})
