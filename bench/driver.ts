// The driver's cost for a command, layer by layer, beside a bare loop of the same ring work and the queue pair in C.
// Each layer reads 4 KiB blocks at depth 32 from a controller that completes at once in the same thread, so that the
// driver alone takes time: processor time, the collector's and the compiler's threads included.

import { execFileSync } from 'node:child_process'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { QueuePair } from '../lib/nvme/pcie/queue-pair.ts'
import { NVM } from '../lib/nvme/spec/opcodes.ts'
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
  const table = await compare(
    `Cost of a command in the driver alone, depth ${DEPTH}`,
    { name: 'ns', digits: 1 },
    [
      row('bare loop on typed arrays', bareRings(), MANY),
      ...(floor === null ? [] : [{ name: 'C, the work of the queue pair', run: runFloor(floor) }]),
      row('queue pair: post, ring, reap', queuePairLoop(ns), MANY),
      row('aread, apoll', () => rawReads(ns, COMMANDS, DEPTH)),
      row('scheduler with a callback', () => callbacks(ns)),
      row('promise', () => promiseReads(ns, COMMANDS, DEPTH)),
      row('for await over blocks()', () => blocks(ns, COMMANDS, DEPTH)),
      row('Readable', () => readable(ns)),
    ],
  )
  await ns.close()
  if (floor !== null) fs.rmSync(path.dirname(floor), { recursive: true })
  yield floor === null ? { ...table, notes: ['no C compiler (cc): the floor in C is left out'] } : table
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
