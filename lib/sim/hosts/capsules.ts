// The software controller for a host that brings commands with their data, and no memory: a Fabrics target. Its queues and
// the data of its commands lie in the controller's own window, so that the model fetches and completes as with any driver.

import { OutOfRangeError } from '../../errors.ts'
import { PageRuns } from '../../memory/page-runs.ts'
import { encodeCreateCq, encodeCreateSq, encodeQueue } from '../../nvme/spec/commands.ts'
import { ADMIN } from '../../nvme/spec/opcodes.ts'
import { encodeAdminQueues, REGISTER } from '../../nvme/spec/registers.ts'
import { high32, low32 } from '../../sys/int64.ts'
import { PAGE_BYTES } from '../../sys/units.ts'
import type { SimConfig } from '../address.ts'
import { WINDOW_BYTES } from '../dma/space.ts'
import { closeResources } from '../function.ts'
import { nextEvent } from '../model/background.ts'
import { readBar, requestReset, writeBar } from '../model/bar.ts'
import { FUSE_AND_OTHER_PSDT } from '../model/controller.ts'
import { applyControl, createControls, type SimControls } from '../model/controls.ts'
import { followRegisters, stop } from '../model/state.ts'
import { step } from '../model/step.ts'
import { openHost } from './host.ts'

// Above 4 GiB: an address of 0 leads nowhere.
const WINDOW_IOVA = 2 ** 32
/** Largest transfer, whatever MDTS says: what one piece of the window is worth. */
const MOST_BYTES = 2 ** 20
const ADMIN_ENTRIES = 128
const PSDT_SGL = 0x4000
// Steps without a turn of the event loop.
const STEPS = 16

/** Memory for the data of a command. */
export interface CapsuleBlock {
  readonly bytes: Uint8Array
  readonly page: number
}

/** @param status bits 31:17 of the completion's last dword; -1 where the controller was reset before the command's end */
export type CapsuleDone = (status: number, result: number) => void

/** A controller that executes what it is handed. */
export interface CapsuleSim {
  readonly config: SimConfig
  readonly controls: SimControls
  /** Largest transfer of one command in bytes. */
  readonly maxBytes: number
  /** Called when the controller has vanished. */
  onGone: (() => void) | null
  readRegister(offset: number): number
  writeRegister(offset: number, value: number): void
  /** Called when memory is given back. */
  onRoom: (() => void) | null
  /** Memory for a command's data; null where there is none left. */
  alloc(bytes: number): CapsuleBlock | null
  free(block: CapsuleBlock): void
  /** Makes I/O queue `qid`; `done` gets the status. */
  createQueue(qid: number, entries: number, done: (status: number) => void): void
  /** Ends it: what is in flight on it ends with an error, before `done` is called. */
  deleteQueue(qid: number, done: () => void): void
  /**
   * Puts a command into a queue; `run` executes it. At most one less than the queue's entries may be in flight.
   * @param sqe 16 dwords; identifier and data pointer are filled in
   */
  submit(qid: number, sqe: Uint32Array, block: CapsuleBlock | null, done: CapsuleDone): void
  /** Nothing that it has is not begun: the model itself executes Abort. */
  withdraw(done: CapsuleDone): boolean
  /** The identifier that the controller knows a command in flight by, for Abort; undefined where there is none. */
  idOf(done: CapsuleDone): number | undefined
  run(): void
  /** Power off and on; `ended` is called when nothing is in flight any more. */
  reset(ended?: () => void): void
  close(): void
}

interface CapsuleQueue {
  readonly qid: number
  readonly entries: number
  readonly page: number
  readonly pages: number
  /** Index of the first dword of either ring in the window. */
  readonly sq: number
  readonly cq: number
  tail: number
  head: number
  phase: number
  rung: boolean
  readonly free: number[]
  readonly pending: (CapsuleDone | null)[]
}

/** Makes a controller. Throws ImageError, InUseError or OutOfMemoryError, as `openSim` does. */
export function hostCapsules(config: SimConfig): CapsuleSim {
  const { resources, c, window } = openHost(config)
  const words = new Uint32Array(window.buffer, window.byteOffset, WINDOW_BYTES / 4)
  const runs = new PageRuns(WINDOW_BYTES / PAGE_BYTES)
  const queues = new Map<number, CapsuleQueue>()
  const stride = config.dstrd
  c.dma.add(WINDOW_IOVA, WINDOW_BYTES, window, 0, true)
  c.unknownFlags = c.unknownAdminFlags = FUSE_AND_OTHER_PSDT
  let closed = false
  let timer: NodeJS.Timeout | undefined
  let immediate: NodeJS.Immediate | undefined

  const sim: CapsuleSim = {
    config,
    controls: createControls((message) => {
      if (closed) return
      applyControl(c, message)
      sim.run()
    }, c.faults.nextId),
    maxBytes: Math.min(c.maxBytes, MOST_BYTES),
    onGone: null,
    onRoom: null,
    readRegister: (offset) => readBar(c.bar, offset),
    writeRegister(offset, value) {
      if (closed) return
      if (offset === REGISTER.CC && (value & 1) !== 0 && !c.ready) nameAdminQueue()
      writeBar(c.bar, offset, value)
      followRegisters(c)
      if (!c.ready) dropQueues()
    },
    alloc(bytes) {
      const page = runs.take(Math.ceil(bytes / PAGE_BYTES))
      if (page < 0) return null
      return { bytes: window.subarray(page * PAGE_BYTES, page * PAGE_BYTES + bytes), page }
    },
    free({ page, bytes }) {
      runs.give(page, Math.ceil(bytes.length / PAGE_BYTES))
      sim.onRoom?.()
    },
    createQueue(qid, entries, done) {
      const queue = createQueue(qid, entries)
      const end = (status: number) => {
        if (status !== 0) dropQueue(queue)
        done(status)
      }
      const cdw10 = encodeQueue({ qid, qsize: entries - 1 })
      const cdw11 = encodeCreateCq({ pc: true, ien: false, iv: 0 })
      manage(ADMIN.CREATE_IO_CQ, cdw10, cdw11, queue.cq, (status) => {
        if (status !== 0) end(status)
        else manage(ADMIN.CREATE_IO_SQ, cdw10, encodeCreateSq({ pc: true, cqid: qid }), queue.sq, end)
      })
      sim.run()
    },
    deleteQueue(qid, done) {
      const queue = queues.get(qid)
      if (queue === undefined || !c.ready) {
        if (queue !== undefined) dropQueue(queue)
        done()
        return
      }
      manage(ADMIN.DELETE_IO_SQ, qid, 0, 0, () => {
        drain(queue)
        const end = () => {
          if (queues.get(qid) === queue) dropQueue(queue)
          done()
        }
        if (c.ready) manage(ADMIN.DELETE_IO_CQ, qid, 0, 0, end)
        else end()
      })
      sim.run()
    },
    submit(qid, sqe, block, done) {
      const at = put(queues.get(qid), qid, sqe, done)
      if (block === null) return
      const iova = WINDOW_IOVA + block.page * PAGE_BYTES
      words[at]! |= PSDT_SGL
      words[at + 6] = low32(iova)
      words[at + 7] = high32(iova)
      words[at + 8] = block.bytes.length
    },
    withdraw: () => false,
    idOf(done) {
      for (const { pending } of queues.values()) {
        const cid = pending.indexOf(done)
        if (cid >= 0) return cid
      }
      return undefined
    },
    run() {
      if (closed) return
      for (let i = 0; ; i++) {
        ring()
        const done = step(c)
        let drained = 0
        for (const queue of queues.values()) drained += drain(queue)
        if (c.ready === false && queues.size > 0) dropQueues()
        if (done === 0 && drained === 0) break
        if (i === STEPS) {
          immediate ??= setImmediate(again)
          return
        }
      }
      wait()
    },
    reset(ended) {
      if (!closed) {
        requestReset(c.bar)
        followRegisters(c)
        dropQueues()
      }
      ended?.()
    },
    close() {
      if (closed) return
      closed = true
      clearTimeout(timer)
      clearImmediate(immediate)
      dropQueues()
      stop(c)
      closeResources(resources)
    },
  }
  c.onGone = () => {
    dropQueues()
    sim.onGone?.()
  }

  function again(): void {
    immediate = undefined
    timer = undefined
    sim.run()
  }

  // For what is due by itself.
  function wait(): void {
    const ms = nextEvent(c) - c.clock()
    if (closed || ms === Number.POSITIVE_INFINITY) return
    if (ms < 1) immediate ??= setImmediate(again)
    else {
      clearTimeout(timer)
      timer = setTimeout(again, Math.floor(ms))
    }
  }

  function nameAdminQueue(): void {
    dropQueues()
    const { sq, cq } = createQueue(0, ADMIN_ENTRIES)
    const counts = encodeAdminQueues({ asqs: ADMIN_ENTRIES, acqs: ADMIN_ENTRIES })
    writeBar(c.bar, REGISTER.AQA, counts)
    for (const [register, at] of [
      [REGISTER.ASQ_LO, sq],
      [REGISTER.ACQ_LO, cq],
    ] as const) {
      const iova = WINDOW_IOVA + at * 4
      writeBar(c.bar, register, low32(iova) >>> 0)
      writeBar(c.bar, register + 4, high32(iova) >>> 0)
    }
  }

  function createQueue(qid: number, entries: number): CapsuleQueue {
    const sqPages = Math.ceil((entries * 64) / PAGE_BYTES)
    const pages = sqPages + Math.ceil((entries * 16) / PAGE_BYTES)
    const page = runs.take(pages)
    if (page < 0) throw new OutOfRangeError(`queue ${qid} of ${entries} entries: no memory is left for it`)
    window.fill(0, page * PAGE_BYTES, (page + pages) * PAGE_BYTES)
    const queue: CapsuleQueue = {
      ...{ qid, entries, page, pages },
      sq: (page * PAGE_BYTES) / 4,
      cq: ((page + sqPages) * PAGE_BYTES) / 4,
      ...{ tail: 0, head: 0, phase: 1, rung: false },
      free: Array.from({ length: entries - 1 }, (_, i) => entries - 2 - i),
      pending: new Array(entries - 1).fill(null),
    }
    queues.set(qid, queue)
    return queue
  }

  function dropQueue(queue: CapsuleQueue): void {
    queues.delete(queue.qid)
    runs.give(queue.page, queue.pages)
    for (const done of queue.pending.splice(0)) done?.(-1, 0)
  }

  function dropQueues(): void {
    for (const queue of [...queues.values()]) dropQueue(queue)
  }

  function ring(): void {
    for (const queue of queues.values()) {
      if (!queue.rung) continue
      queue.rung = false
      c.bar.doorbells[(2 * queue.qid) << stride] = queue.tail
    }
  }

  function drain(queue: CapsuleQueue): number {
    let count = 0
    for (;;) {
      const at = queue.cq + queue.head * 4
      const dw3 = words[at + 3]!
      if (((dw3 >>> 16) & 1) !== queue.phase) break
      count++
      queue.head = queue.head + 1 === queue.entries ? 0 : queue.head + 1
      if (queue.head === 0) queue.phase ^= 1
      const cid = dw3 & 0xffff
      const done = queue.pending[cid]
      // A fault may answer a command twice.
      if (done === null || done === undefined) continue
      queue.pending[cid] = null
      queue.free.push(cid)
      done(dw3 >>> 17, words[at]!)
      // What it does may end the queue.
      if (queues.get(queue.qid) !== queue) return count
    }
    if (count > 0) c.bar.doorbells[(2 * queue.qid + 1) << stride] = queue.head
    return count
  }

  function put(queue: CapsuleQueue | undefined, qid: number, sqe: Uint32Array, done: CapsuleDone): number {
    const cid = queue?.free.pop()
    if (queue === undefined || cid === undefined) {
      throw new OutOfRangeError(`queue ${qid}: ${queue === undefined ? 'there is none' : 'it is full'}`)
    }
    queue.pending[cid] = done
    const at = queue.sq + queue.tail * 16
    words.set(sqe, at)
    words[at] = ((sqe[0]! & 0x3ff) | (cid << 16)) >>> 0
    // No address but its own: what a host of another machine writes there leads nowhere.
    words.fill(0, at + 4, at + 10)
    queue.tail = queue.tail + 1 === queue.entries ? 0 : queue.tail + 1
    queue.rung = true
    return at
  }

  // An admin command about a ring at `ring`.
  function manage(opcode: number, cdw10: number, cdw11: number, ring: number, done: CapsuleDone): void {
    const sqe = new Uint32Array(16)
    sqe[0] = opcode
    sqe[10] = cdw10
    sqe[11] = cdw11
    const at = put(queues.get(0), 0, sqe, done)
    if (ring === 0) return
    const iova = WINDOW_IOVA + ring * 4
    words[at + 6] = low32(iova)
    words[at + 7] = high32(iova)
  }

  return sim
}
