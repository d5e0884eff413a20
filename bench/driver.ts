// The driver's cost for a command, layer by layer, beside a bare loop of the same ring work and the queue pair in C.
// Each layer reads 4 KiB blocks at depth 32 from a controller that completes at once in the same thread, so that the
// driver alone takes time: processor time, the collector's and the compiler's threads included.

import { execFileSync } from 'node:child_process'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { QueuePair } from '../lib/nvme/pcie/queue-pair.ts'
import { NVM } from '../lib/nvme/spec/opcodes.ts'
import { serveTcp } from '../lib/nvme/tcp/target/index.ts'
import { hostCapsules, parseSimAddress } from '../lib/sim/index.ts'
import { open } from '../src/index.ts'
import type { Namespace } from '../src/namespace/namespace.ts'
import type { Operation } from '../src/queue/operation.ts'
import { allocParts, blocks, promiseReads, rawReads } from './commands.ts'
import { compare, cpuOf, type Row, type Table } from './measure.ts'
import { bareLoop, completer, openTrivial, ringsOf } from './rings.ts'

// V8 looks an import up at each use.
const { READ } = NVM
const COMMANDS = 1_000_000
// Of layers that take some ns: as long as V8 needs to compile them.
const MANY = 10 * COMMANDS
const OTHER_COMMANDS = 50_000
const DEPTH = 32
const ENTRIES = 64

export async function* driver(): AsyncGenerator<Table> {
  const ns = await openTrivial(ENTRIES)
  const row = (name: string, work: () => unknown, commands = COMMANDS): Row => ({
    name,
    run: async () => [((await cpuOf(work)) * 1e6) / commands],
  })
  const floor = buildFloor()
  const runFloor = (program: string) => () => [Number(execFileSync(program))]
  const bare = row('bare loop on typed arrays', bareRings(), MANY)
  const layers = [
    row('queue pair: post, ring, reap', queuePairLoop(ns), MANY),
    row('aread, apoll', () => rawReads(ns, COMMANDS, DEPTH)),
    row('scheduler with a callback', () => callbacks(ns)),
    row('promise', () => promiseReads(ns, COMMANDS, DEPTH)),
    row('for await over blocks()', () => blocks(ns, COMMANDS, DEPTH)),
    row('Readable', () => readable(ns)),
  ]
  const title = `Cost of a command in the driver alone, depth ${DEPTH}`
  const unit = { name: 'ns', digits: 1 }
  const table = await compare(title, unit, [
    bare,
    ...(floor === null ? [] : [{ name: 'C, the work of the queue pair', run: runFloor(floor) }]),
    ...layers,
  ])
  if (floor !== null) fs.rmSync(path.dirname(floor), { recursive: true })
  yield floor === null ? { ...table, notes: ['no C compiler (cc): the floor in C is left out'] } : table
  // What V8 has compiled for one class of queue it compiles again once it has met another.
  await useQueuesOverTcp()
  yield await compare(`${title}, with queues of another kind in the process`, unit, [bare, ...layers])
  await ns.close()
}

/** Commands in every way on a namespace over TCP. */
async function useQueuesOverTcp(): Promise<void> {
  const nqn = 'nqn.2024-01.org.example:bench'
  const sim = hostCapsules(parseSimAddress('sim:?size=16M&lba=4096'))
  const server = await serveTcp({ subsystems: [{ nqn, controller: sim }] })
  const ns = await open(`nvme+tcp://127.0.0.1:${server.port}/${nqn}?link=socket&hostnqn=${nqn}-host`)
  await promiseReads(ns, OTHER_COMMANDS, DEPTH)
  await blocks(ns, OTHER_COMMANDS, DEPTH)
  const buf = ns.alloc(4096)
  for (let i = 0; i < OTHER_COMMANDS / DEPTH; i++) {
    const iod = ns.aread(0, buf, i, 1)
    while (!ns.apoll(iod)) await new Promise(setImmediate)
  }
  await ns.close()
  await server.close()
  sim.close()
}

/** On rings of its own, with the trivial controller. */
function bareRings(): () => void {
  const sq = new Uint32Array(ENTRIES * 16)
  const cq = new Uint32Array(ENTRIES * 4)
  const doorbells = new Uint32Array(4)
  const step = completer(sq, cq, doorbells, 2, ENTRIES)
  const place = { qid: 1, dstrd: 4, depth: DEPTH, lo: 0, hi: 1 }
  const loop = bareLoop({ sq, cq }, { doorbells, notify: null, step }, place)
  return () => loop(MANY)
}

/** The queue pair of lib/nvme with the same trivial controller. */
function queuePairLoop(ns: Namespace): () => void {
  let step: () => void = () => {}
  // What a queue pair needs of a PCI function.
  const pci = { doorbells: new Uint32Array(16), notify: null, step: () => step() }
  const options = { qid: 1, entries: ENTRIES, dstrd: 4, maxBytes: 4096, timeout: 30_000 }
  const pair = new QueuePair(pci as never, ns.pool, options)
  const { sq, cq } = ringsOf(pair)
  step = completer(sq, cq, pci.doorbells, 2, ENTRIES)
  return () => {
    let sent = 0
    for (let done = 0; done < MANY; ) {
      while (pair.inFlight < DEPTH && sent < MANY) {
        pair.post(READ, 1, 4096, 1, 4096, sent++, 0, 0, 0, 0, 0)
      }
      pair.ring()
      pair.step()
      while (pair.reap() >= 0) done++
    }
  }
}

function callbacks(ns: Namespace): Promise<void> {
  const { memory, parts } = allocParts(ns, DEPTH)
  const queue = ns.queue(0, 'bench')
  let sent = 0
  let done = 0
  return new Promise((resolve) => {
    const send = (part: Buffer) => {
      const op = queue.operations.take()
      op.onDone = onDone
      queue.requestTransfer(op, ns.geometry, READ, part, ns.pool.tagOf(part), sent++ % ns.blockcount, 1)
    }
    const onDone = (op: Operation) => {
      const part = op.buf!
      op.onDone = null
      queue.operations.give(op)
      if (++done === COMMANDS) {
        ns.pool.discard(memory)
        resolve()
      } else if (sent < COMMANDS) {
        send(part)
      }
    }
    for (const part of parts) send(part)
  })
}

async function readable(ns: Namespace): Promise<void> {
  for (let left = COMMANDS; left > 0; left -= ns.blockcount) {
    const nlb = Math.min(left, ns.blockcount)
    const stream = ns.createReadStream({ nlb, highWaterMark: ns.blocksize, depth: DEPTH })
    stream.resume()
    await new Promise((resolve) => stream.once('close', resolve))
  }
}

/** Compiles bench/floor.c with the system's compiler; null where there is none. */
function buildFloor(): string | null {
  const source = path.resolve(import.meta.dirname, '../../bench/floor.c')
  const program = path.join(fs.mkdtempSync(path.join(os.tmpdir(), 'unvme-floor-')), 'floor')
  try {
    execFileSync('cc', ['-O2', '-o', program, source])
    return program
  } catch {
    fs.rmSync(path.dirname(program), { recursive: true })
    return null
  }
}
