// One 4 KiB read at a time: aread and apoll beside a bare loop on the rings of another queue of the same device.
// The bare loop stores a command, rings, and looks at the completion queue, with no checks and no descriptor.
// Devices take some ten to a hundred microseconds: the first and the last table show what the driver takes, the others what
// that adds to one.

import type { QueuePair } from '../lib/nvme/pcie/queue-pair.ts'
import type { PciFunction } from '../lib/pci/function.ts'
import { openSim } from '../lib/sim/index.ts'
import type { Namespace } from '../src/namespace/namespace.ts'
import { rawReads } from './commands.ts'
import { compare, type Row, type Table } from './measure.ts'
import { bareLoop, openOn, ringsOf } from './rings.ts'

const ENTRIES = 64
const DEVICES = [
  { name: 'a controller that answers at once', options: '', commands: 500_000 },
  { name: 'a controller that takes 10 µs', options: '&latency=10us', commands: 20_000 },
  { name: 'a controller that takes 100 µs', options: '&latency=100us', commands: 2000 },
  { name: 'a controller on a thread', options: '&thread=1', commands: 50_000 },
] as const

export async function* latency(): AsyncGenerator<Table> {
  for (const { name, options, commands } of DEVICES) {
    const pci = await openSim(`sim:?size=16M&lba=4096&populate=1${options}`)
    const { ns, dstrd } = await openOn(pci, { qcount: 2, qsize: ENTRIES, interrupts: false })
    const bare = bareRings(ns, pci, dstrd)
    const row = (name: string, work: () => void): Row => ({
      name,
      run() {
        const started = performance.now()
        work()
        return [((performance.now() - started) * 1e3) / commands]
      },
    })
    yield await compare(`Latency of a 4 KiB read at depth 1, of ${name}`, { name: 'µs', digits: 3 }, [
      row('bare loop', () => bare(commands)),
      row('aread, apoll', () => rawReads(ns, commands - 1, 1)),
    ])
    await ns.close()
  }
}

/** On the rings of the namespace's second queue, which nothing else uses. */
function bareRings(ns: Namespace, pci: PciFunction, dstrd: number) {
  const pair = ns.queue(1, 'bench').pair as QueuePair
  const { lo, hi } = ns.pool.tagOf(ns.alloc(ns.blocksize))
  return bareLoop(ringsOf(pair), pci, { qid: pair.qid, dstrd, depth: 1, lo, hi })
}
