// The driver's cost for a command, layer by layer, beside the same ring work in a bare loop and in C.
// Each layer reads 4 KiB blocks at depth 32 from a controller that completes at once in the same thread. What is
// counted is processor time, the collector's and the compiler's threads included.

import { execFileSync } from 'node:child_process'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import type { DmaPool } from '../lib/memory/pool.ts'
import { QueuePair } from '../lib/nvme/pcie/queue-pair.ts'
import { openPcieTransport } from '../lib/nvme/pcie/transport.ts'
import { NVM } from '../lib/nvme/spec/opcodes.ts'
import { createDevice } from '../src/controller/device.ts'
import { Namespace } from '../src/namespace/namespace.ts'
import type { Operation } from '../src/queue/operation.ts'
import { rawReads } from './commands.ts'
import { type Row, ratio, sideBySide, tableOf } from './measure.ts'
import { atMost, type Goal, type Table } from './table.ts'
import { completer, openTrivialDevice } from './trivial-device.ts'

// V8 looks an import up at each use.
const { READ } = NVM
const COMMANDS = 1_000_000
const DEPTH = 32
const ENTRIES = 64

const FLOOR_LOOP = 'C, the work of the bare loop'
const FLOOR_PAIR = 'C, the work of the queue pair'
const PAIR = 'queue pair: post, ring, reap'
const CALLS = 'aread, apoll'
const CALLBACK = 'scheduler with a callback'

const ABOUT =
  'Each layer reads 4 KiB blocks from a controller that completes at once in the same thread, so that nothing but ' +
  'the driver takes time. It is processor time, the collector and the compiler included.'

export async function* driver(): AsyncGenerator<Table> {
  const device = await openTrivialDevice()
  const made = await createDevice(await openPcieTransport(device.pci), {})
  const geometry = await made.findGeometry()
  await made.provideQueues({ qsize: ENTRIES, interrupts: false }, geometry)
  const ns = new Namespace(made, geometry, 'trivial')
  await made.release()
  const { dstrd } = made.controller.cap
  device.takeOver(ns.queue(0, 'bench').pair as QueuePair, dstrd)
  const nanoseconds = (work: () => unknown) => async () => {
    const started = process.cpuUsage()
    await work()
    const { user, system } = process.cpuUsage(started)
    return ((user + system) * 1e3) / COMMANDS
  }
  const rows: Row[] = [
    { name: PAIR, run: nanoseconds(queuePairLoop()) },
    { name: CALLS, run: nanoseconds(() => rawReads(ns, COMMANDS, DEPTH)) },
    { name: CALLBACK, run: nanoseconds(() => callbacks(ns)) },
    { name: 'promise', run: nanoseconds(() => promises(ns)) },
    { name: 'for await over blocks()', run: nanoseconds(() => iterate(ns)) },
    { name: 'Readable', run: nanoseconds(() => readable(ns)) },
  ]
  const floor = buildFloor()
  if (floor !== null) {
    rows.unshift({ name: FLOOR_PAIR, run: () => Number(execFileSync(floor, ['pair'])) })
    rows.unshift({ name: FLOOR_LOOP, run: () => Number(execFileSync(floor, ['loop'])) })
  }
  rows.unshift({ name: 'bare loop on typed arrays', run: nanoseconds(bareLoop()) })
  const results = await sideBySide(rows)
  await ns.close()
  if (floor !== null) fs.rmSync(path.dirname(floor), { recursive: true })
  const goals: Goal[] = [
    atMost('aread, apoll over the queue pair', ratio(results, CALLS, PAIR), 2, 'x'),
    atMost('scheduler over aread, apoll', ratio(results, CALLBACK, CALLS), 2, 'x'),
  ]
  if (floor !== null) goals.unshift(atMost('queue pair over C', ratio(results, PAIR, FLOOR_PAIR), 2.2, 'x'))
  const title = `Cost of a command in the driver alone, depth ${DEPTH}`
  const table = tableOf({ title, about: ABOUT, unit: 'ns', digits: 1 }, results, goals)
  yield floor === null ? { ...table, notes: ['no C compiler (cc): the floor in C is left out'] } : table
}

/** Rings, identifiers and phase on plain typed arrays: what a queue pair does, without one. */
function bareLoop(): () => void {
  const sq = new Uint32Array(ENTRIES * 16)
  const cq = new Uint32Array(ENTRIES * 4)
  const doorbells = new Uint32Array(4)
  const busy = new Uint8Array(ENTRIES)
  const free = Uint16Array.from({ length: ENTRIES }, (_, i) => i)
  const step = completer(sq, cq, doorbells, 2, ENTRIES)
  let freeCount = ENTRIES - 1
  let tail = 0
  let head = 0
  let phase = 1
  return () => {
    let sent = 0
    for (let done = 0; done < COMMANDS; ) {
      while (freeCount > ENTRIES - 1 - DEPTH && sent < COMMANDS) {
        const cid = free[--freeCount]!
        const at = tail << 4
        sq[at] = READ | (cid << 16)
        sq[at + 1] = 1
        sq[at + 6] = cid << 12
        sq[at + 7] = 1
        sq[at + 8] = 0
        sq[at + 9] = 0
        sq[at + 10] = sent
        sq[at + 11] = 0
        sq[at + 12] = 0
        busy[cid] = 1
        tail = tail + 1 === ENTRIES ? 0 : tail + 1
        sent++
      }
      doorbells[2] = tail
      step()
      for (;;) {
        const dw3 = cq[(head << 2) + 3]!
        if (((dw3 >>> 16) & 1) !== phase) break
        const cid = dw3 & 0xffff
        if (++head === ENTRIES) {
          head = 0
          phase ^= 1
        }
        busy[cid] = 0
        free[freeCount++] = cid
        done++
      }
      doorbells[3] = head
    }
  }
}

/** The queue pair of lib/nvme on memory of its own, with the same trivial controller. */
function queuePairLoop(): () => void {
  const arena = new ArrayBuffer(2 ** 20)
  const memory = Buffer.from(arena)
  let used = 0
  // What a queue pair needs of a pool and of a PCI function, on ordinary memory.
  const pool = {
    alloc(bytes: number) {
      const part = memory.subarray(used, used + bytes)
      used += Math.ceil(bytes / 4096) * 4096
      return part
    },
    tagOf: (buffer: Buffer) => ({ iova: buffer.byteOffset }),
    free() {},
  }
  let step: () => void = () => {}
  const pci = { doorbells: new Uint32Array(16), notify: null, step: () => step() }
  const options = { qid: 1, entries: ENTRIES, dstrd: 4, maxBytes: 4096, timeout: 30_000 }
  const pair = new QueuePair(pci as never, pool as unknown as DmaPool, options)
  const sq = new Uint32Array(arena, pair.sqIova, ENTRIES * 16)
  const cq = new Uint32Array(arena, pair.cqIova, ENTRIES * 4)
  step = completer(sq, cq, pci.doorbells, 2, ENTRIES)
  return () => {
    let sent = 0
    for (let done = 0; done < COMMANDS; ) {
      while (pair.inFlight < DEPTH && sent < COMMANDS) {
        pair.post(READ, 1, 4096, 1, 4096, sent++, 0, 0, 0, 0, 0)
      }
      pair.ring()
      pair.step()
      while (pair.reap() >= 0) done++
    }
  }
}

function callbacks(ns: Namespace): Promise<void> {
  const memory = ns.alloc(DEPTH * ns.blocksize)
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
    for (let i = 0; i < DEPTH; i++) {
      const part = memory.subarray(i * ns.blocksize, (i + 1) * ns.blocksize)
      ns.pool.tagOf(part)
      send(part)
    }
  })
}

async function promises(ns: Namespace): Promise<void> {
  const memory = ns.alloc(DEPTH * ns.blocksize)
  const worker = async (i: number) => {
    const part = memory.subarray(i * ns.blocksize, (i + 1) * ns.blocksize)
    for (let n = 0; n < COMMANDS / DEPTH; n++) await ns.promises.read(part, n & 4095, 1)
  }
  await Promise.all(Array.from({ length: DEPTH }, (_, i) => worker(i)))
  ns.free(memory)
}

async function iterate(ns: Namespace): Promise<void> {
  for (let left = COMMANDS; left > 0; left -= ns.blockcount) {
    for await (const _ of ns.blocks({ nlb: Math.min(left, ns.blockcount), chunk: 1, depth: DEPTH }));
  }
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
