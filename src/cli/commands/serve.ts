// `unvme serve`: the software controller behind a vfio-user socket, for other processes.
// Trade-off: it says one line when clients can come, and nothing after; DEBUG=unvme:vfio-user tells of each.

import { onAbort } from '../../../lib/sys/abort.ts'
import { argument, choice, defineCommand, valueOr } from '../define.ts'
import { print } from '../output.ts'
import { text } from '../parse.ts'

export const serve = defineCommand({
  name: 'serve',
  group: 'System',
  summary: 'Offer a software controller to other processes at a vfio-user socket',
  details: `Clients are unvme itself (unvme info vfio-user:/run/nvme/cntrl) and others that speak vfio-user, one at \
a time; the next one waits. It runs until Ctrl-C.

Doorbells in shared memory (mapped) cost a client nothing, but have to be looked at: while a client has the \
controller enabled, an idle server takes 1 to 2 % of a processor, and after a pause finds a command up to 16 ms late. \
With --doorbells shadow (Doorbell Buffer Config) it sleeps until a message wakes it.`,
  arguments: {
    address: argument(
      'ADDR',
      text,
      'where clients find it: vfio-user:PATH; a folder that exists stands for cntrl in it',
    ),
  },
  options: {
    device: valueOr('ADDR', text, 'sim:', 'the controller that is offered'),
    doorbells: choice(['mapped', 'shadow'], 'how clients ring'),
  },
  examples: [
    [
      "serve vfio-user:/run/nvme/cntrl --device 'sim:disk.img?size=1G'",
      'an image as an NVMe device of other processes',
    ],
    ['serve vfio-user:/tmp/nvme --doorbells shadow', 'a server that costs nothing while its client is idle'],
  ],
  async run({ args, options, signal }) {
    const { serve: start } = await import('../../serve/index.ts')
    const { device, doorbells } = options
    const server = await start(args.address, { device, doorbells })
    print(`serving ${device} at ${server.address}`)
    await new Promise<void>((resolve) => {
      if (signal.aborted) resolve()
      else onAbort(signal, resolve)
    })
    server.close()
  },
})
