// One 4 KiB read at a time: aread and apoll beside a bare loop on the rings of another queue of the same device.
// Trade-off: the device is the embedded controller, where a real one takes some ten to a hundred microseconds;
// what the driver adds counts the less, the longer a device takes.

import { openPcieTransport } from '../lib/nvme/pcie/transport.ts'
import { NVM } from '../lib/nvme/spec/opcodes.ts'
import type { PciFunction } from '../lib/pci/function.ts'
import { openSim } from '../lib/sim/index.ts'
import { createDevice } from '../src/controller/device.ts'
import { Namespace } from '../src/namespace/namespace.ts'
import { rawReads } from './commands.ts'
import { type Row, ratio, sideBySide, tableOf } from './measure.ts'
import { atMost, type Table } from './table.ts'

const ENTRIES = 64
const BARE = 'bare loop'
const CALLS = 'aread, apoll'

// The project's goal is for devices that take the time of one. The first and the last show what the driver takes.
const DEVICES = [
  { name: 'a controller that answers at once', options: '', commands: 500_000, judged: false },
  { name: 'a controller that takes 10 µs', options: '&latency=10us', commands: 20_000, judged: true },
  { name: 'a controller that takes 100 µs', options: '&latency=100us', commands: 2000, judged: true },
  { name: 'a controller on a thread', options: '&thread=1', commands: 50_000, judged: false },
] as const

export async function* latency(): AsyncGenerator<Table> {
  for (const device of DEVICES) yield await compareOn(device)
}

async function compareOn({ name, options, commands, judged }: (typeof DEVICES)[number]): Promise<Table> {
  const pci = await openSim(`sim:?size=16M&lba=4096&populate=1${options}`)
  const made = await createDevice(await openPcieTransport(pci), {})
  const geometry = await made.findGeometry()
  await made.provideQueues({ qcount: 2, qsize: ENTRIES, interrupts: false }, geometry)
  const ns = new Namespace(made, geometry, 'bench')
  await made.release()
  const bare = bareLoop(ns, pci, made.controller.cap.dstrd)
  const microseconds = (work: () => void) => () => {
    const started = performance.now()
    work()
    return ((performance.now() - started) * 1e3) / commands
  }
  const rows: Row[] = [
    { name: BARE, run: microseconds(() => bare(commands)) },
    { name: CALLS, run: microseconds(() => rawReads(ns, commands - 1, 1)) },
  ]
  const results = await sideBySide(rows)
  await ns.close()
  const goals = judged
    ? [atMost('aread, apoll over the bare loop', ratio(results, CALLS, BARE), 1.05, 'x')]
    : []
  const title = `Latency of a 4 KiB read at depth 1, of ${name}`
  const about =
    'A bare loop stores a command, rings, and looks at the completion queue, with no checks and no descriptor; the ' +
    'driver does the same by aread and apoll on another queue of the device.'
  return tableOf({ title, about, unit: 'µs', digits: 3 }, results, goals)
}

/** Reads block after block on the rings of the namespace's second queue, which nobody else uses. */
function bareLoop(ns: Namespace, pci: PciFunction, dstrd: number): (commands: number) => void {
  const { pair } = ns.queue(1, 'bench')
  const { sq, cq } = pair as unknown as { sq: Uint32Array; cq: Uint32Array }
  const { lo, hi } = ns.pool.tagOf(ns.alloc(ns.blocksize))
  const { doorbells, notify, step } = pci
  const sqDoorbell = (2 * pair.qid * dstrd) >> 2
  const cqDoorbell = ((2 * pair.qid + 1) * dstrd) >> 2
  const { nsid } = ns.geometry
  let tail = 0
  let head = 0
  let phase = 1
  return (commands) => {
    for (let n = 0; n < commands; n++) {
      const at = tail << 4
      sq[at] = NVM.READ
      sq[at + 1] = nsid
      sq[at + 6] = lo
      sq[at + 7] = hi
      sq[at + 10] = (n * 7) & 4095
      sq[at + 11] = 0
      sq[at + 12] = 0
      tail = tail + 1 === ENTRIES ? 0 : tail + 1
      doorbells[sqDoorbell] = tail
      notify?.()
      while (((cq[(head << 2) + 3]! >>> 16) & 1) !== phase) step?.()
      if (++head === ENTRIES) {
        head = 0
        phase ^= 1
      }
      doorbells[cqDoorbell] = head
    }
  }
}
