// `unvme serve ADDR --vfio-user PATH`: namespaces, or a software controller as a whole, for processes that speak vfio-user.

import { UsageError } from '../../../lib/errors.ts'
import type { ServeOptions } from '../../servers/index.ts'
import { choice, value } from '../define.ts'
import { note, print } from '../output.ts'
import { text } from '../parse.ts'

/** The options of `serve` that are about vfio-user. */
export const vfioUserOptions = {
  vfioUser: value('PATH', text, 'serve at a vfio-user socket, here; a folder stands for cntrl in it'),
  device: value('ADDR', text, 'without --vfio-user: the software controller that is offered: sim:'),
  doorbells: choice(['mapped', 'shadow'], 'how clients of a vfio-user socket ring'),
}

interface VfioUserWords extends Pick<ServeOptions, 'doorbells' | 'queues' | 'queueSize' | 'memory'> {
  readonly namespaceId: number | undefined
  readonly also: readonly string[]
  readonly exclusive: boolean
  readonly readOnly: boolean
  readonly force: boolean
}

/** Opens what is to be served, serves it until the signal, and closes it. */
export async function serveByVfioUser(
  device: string,
  address: string,
  words: VfioUserWords,
  signal: AbortSignal,
): Promise<void> {
  const { open } = await import('../../open.ts')
  const { serve } = await import('../../servers/index.ts')
  const { namespaceId: nsid, also, exclusive, readOnly, force, doorbells, queues, queueSize, memory } = words
  if (exclusive && also.length > 0) {
    throw new UsageError('--exclusive is for one software controller, without --also')
  }
  const namespaces = []
  try {
    for (const [i, addr] of (exclusive ? [] : [device, ...also]).entries()) {
      const own = i === 0 && nsid !== undefined ? { nsid } : {}
      namespaces.push(await open(addr, { qcount: 0, force, signal, ...own }))
    }
    const server = await serve(address, {
      ...{ device: exclusive ? device : namespaces, doorbells, queues, queueSize, memory, signal },
      ...(readOnly && { readOnly }),
    })
    print(`serving ${[device, ...also].join(', ')} at ${server.address}`)
    if (!exclusive) note(`processes of this user can ${readOnly ? 'read it' : 'read and write it'}`)
    // A device that is gone ends it as well; its failure, where the last flush failed, is the command's.
    await server.closed
  } finally {
    for (const ns of namespaces) await ns.close()
  }
}
