// Two namespaces on one queue of several paths, whose access and paths come and go: each goes on whenever it has a path,
// posts in order, and ends every operation once, whatever the other one waits for.

import test from 'ava'
import fc from 'fast-check'
import { DeviceRemovedError } from '../../lib/errors.ts'
import { type DmaAllocation, tagFor } from '../../lib/memory/tag.ts'
import type { Pause } from '../../lib/nvme/host/recovery.ts'
import { NO_WAKE_UP } from '../../lib/nvme/host/transport.ts'
import { PathQueue, type QueuePath, UNUSABLE } from '../../lib/nvme/paths/path-queue.ts'
import { anaStateOf } from '../../lib/nvme/spec/ana.ts'
import { mayChangeData, NVM } from '../../lib/nvme/spec/opcodes.ts'
import { STATUS } from '../../lib/nvme/spec/status.ts'
import { IoQueue } from '../../src/queue/io-queue.ts'
import type { Operation } from '../../src/queue/operation.ts'
import { FAKE_ENTRIES, FakeQueue, fakeGeometry } from '../support/fake-queue.ts'

const BLOCK = 512
// A command has up to two blocks, an operation up to eight: more than there are entries, where three of them wait.
const MAX_BLOCKS = 2
const MOST_BLOCKS = 8
const NSIDS = [1, 2] as const

class FakePath implements QueuePath {
  readonly queue = new FakeQueue()
  readonly address = 'path'
  readonly access = new Map<number, number>(NSIDS.map((nsid) => [nsid, 0]))
  lost = false
  onRefused = () => {}
  rank(nsid: number) {
    return this.lost ? UNUSABLE : this.access.get(nsid)!
  }
  refused(nsid: number, field: number) {
    if (anaStateOf(field) === undefined) return
    this.access.set(nsid, UNUSABLE)
    this.onRefused()
  }
  expired() {
    return false
  }
}

/** An operation, with what may have ended it. */
interface Started {
  readonly nsid: number
  readonly op: Operation
  done: number
  error: Error | null
  /** It was cancelled, its namespace had no path for too long, or everything was reset. */
  mayFail: boolean
}

function setUp() {
  const pair = new PathQueue(
    { qid: 1, entries: FAKE_ENTRIES, maxBytes: MAX_BLOCKS * BLOCK, timeout: 1e9 },
    'round-robin',
  )
  const paths = [new FakePath(), new FakePath()]
  const legs = paths.map((path) => pair.addLeg(path, path.queue, NO_WAKE_UP))
  const pauses = new Map<number, { cause: Error; stalledBy: Error | null }>()
  const controller = {
    ...{ timeout: 1e9, retries: 1e9, anatt: 0, retryDelays: [0, 0, 0] },
    ...{ checkHealth() {}, expired: () => false, namespaces: () => NSIDS },
    pauses: pauses as typeof pauses & { of(nsid: number): Pause | undefined },
  }
  controller.pauses.of = (nsid) => pauses.get(nsid)
  const geometries = new Map(NSIDS.map((nsid) => [nsid, fakeGeometry(nsid, MAX_BLOCKS)]))
  const queue = new IoQueue(controller, pair, geometries.get(1)!)
  const allocation: DmaAllocation = {
    ...{ owner: null, iova: 0, bytes: MOST_BLOCKS * BLOCK, users: 0, discarded: false },
    pool: { tagOf: () => tagFor(allocation, 0), reclaim() {} },
  }
  const all: Started[] = []
  const posted = new Map<number, number>(NSIDS.map((nsid) => [nsid, -1]))
  for (const { queue: inner } of paths) {
    const post = inner.post.bind(inner)
    inner.post = (...command) => {
      const cid = post(...command)
      const [, nsid, , , , slba] = command
      // What is posted for the first time is so in the order in which it was started; the rest has been posted before.
      if (cid >= 0 && slba > posted.get(nsid)!) {
        if ([...skipped(nsid, posted.get(nsid)!, slba)].length > 0) throw new Error('posted out of order')
        posted.set(nsid, slba)
      }
      return cid
    }
  }
  // Blocks of operations that can still be posted, and come before that.
  function* skipped(nsid: number, after: number, before: number) {
    for (const { op, nsid: own, done } of all) {
      if (own !== nsid || done > 0 || op.cause !== null || op.field !== 0) continue
      for (let slba = op.slba; slba < op.slba + op.nlb; slba += MAX_BLOCKS) {
        if (slba > after && slba < before) yield slba
      }
    }
  }
  const hasPath = (nsid: number) => paths.some((path) => path.rank(nsid) !== UNUSABLE)
  // As Paths does it.
  const update = () => {
    let ended = false
    for (const nsid of NSIDS) {
      if (hasPath(nsid)) ended = pauses.delete(nsid) || ended
      else if (!pauses.has(nsid)) pauses.set(nsid, { cause: new Error('no path'), stalledBy: null })
    }
    pair.ranksChanged()
    queue.pausesChanged(ended)
  }
  for (const path of paths) path.onRefused = update
  const counts = new Map<number, number>(NSIDS.map((nsid) => [nsid, 0]))
  return {
    ...{ pair, paths, legs, pauses, queue, allocation, all, hasPath, update },
    start(nsid: 1 | 2, opcode: number, nlb: number) {
      const op = queue.operations.take()
      const count = counts.get(nsid)!
      counts.set(nsid, count + 1)
      const one: Started = { nsid, op, done: 0, error: null, mayFail: pauses.get(nsid)?.stalledBy != null }
      op.onDone = () => {
        one.done++
        one.error = op.takeError()
      }
      all.push(one)
      const tag = tagFor(allocation, 0)
      queue.requestTransfer(op, geometries.get(nsid)!, opcode, Buffer.alloc(0), tag, count * MOST_BLOCKS, nlb)
    },
    /** Of a namespace, or all. */
    mayFail(nsid?: number) {
      for (const one of all) if (nsid === undefined || one.nsid === nsid) one.mayFail = true
    },
    /** Answers everything, and polls until the queue has looked at what there is no completion for, too. */
    settle() {
      for (let round = 0; round < 200; round++) {
        for (const { queue: inner, lost } of paths) {
          while (!lost && inner.posted.length > 0) inner.answer(0, 0)
        }
        queue.poll()
      }
    },
  }
}

const nsids = fc.constantFrom(...NSIDS)
const path = fc.nat(1)
const step = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      ...{ kind: fc.constant('start' as const), nsid: nsids, nlb: fc.integer({ min: 1, max: MOST_BLOCKS }) },
      opcode: fc.constantFrom(NVM.READ, NVM.WRITE),
    }),
  },
  {
    weight: 8,
    arbitrary: fc.record({
      ...{ kind: fc.constant('answer' as const), path, at: fc.nat(7) },
      status: fc.constantFrom(0, 0, 0, STATUS.ANA_INACCESSIBLE << 1, STATUS.INTERNAL_PATH_ERROR << 1),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      ...{
        kind: fc.constant('access' as const),
        path,
        nsid: nsids,
        rank: fc.constantFrom(0, 1, UNUSABLE, UNUSABLE),
      },
    }),
  },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('poll' as const) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constantFrom('lose' as const, 'over' as const), path }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constantFrom('settle' as const, 'reset' as const) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('stall' as const), nsid: nsids }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('cancel' as const), which: fc.nat(99) }) },
)

test('each namespace goes on whenever it has a path, in order, and ends everything once', (t) => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 150, size: 'max' }), (steps) => {
      const { pair, paths, legs, pauses, queue, allocation, all, hasPath, update, ...does } = setUp()
      // Namespaces with a write that a lost path may still do.
      const orphans = () =>
        legs.flatMap(({ index }) =>
          paths[index]!.lost ? all.filter(({ op, done }) => done === 0 && mayChangeData(op.opc)) : [],
        )
      const check = () => {
        const waits = new Set(orphans().map(({ nsid }) => nsid))
        // Commands of a lost path hold their entries until that is over, those of operations that have ended, too.
        const full = pair.available === 0 && paths.some(({ lost }) => lost)
        for (const one of all) {
          if (one.done > 1) throw new Error('ended twice')
          const mayWait = full || waits.has(one.nsid)
          if (one.done === 0 && hasPath(one.nsid) && !mayWait) throw new Error('does not go on')
          if (one.error !== null && !one.mayFail) throw one.error
        }
      }
      for (const one of steps) {
        if (one.kind === 'start') does.start(one.nsid, one.opcode, one.nlb)
        else if (one.kind === 'poll') queue.poll()
        else if (one.kind === 'access') {
          paths[one.path]!.access.set(one.nsid, one.rank)
          update()
        } else if (one.kind === 'answer') {
          const { lost, queue: inner } = paths[one.path]!
          if (!lost && inner.posted.length > 0) inner.answer(one.at, one.status)
        } else if (one.kind === 'lose') {
          if (paths[one.path]!.lost) continue
          paths[one.path]!.lost = true
          pair.lose(legs[one.path]!, new Error('lost'))
          update()
        } else if (one.kind === 'over') {
          if (!paths[one.path]!.lost) continue
          pair.over(legs[one.path]!, new Error('lost'))
          paths[one.path]!.queue.reset()
          paths[one.path]!.lost = false
          update()
        } else if (one.kind === 'stall') {
          const pause = pauses.get(one.nsid)
          if (pause === undefined) continue
          does.mayFail(one.nsid)
          pause.stalledBy = new DeviceRemovedError('no path for too long')
          queue.pausesChanged(false)
          if (all.some(({ nsid, done }) => nsid === one.nsid && done === 0))
            throw new Error('is kept waiting')
        } else if (one.kind === 'cancel') {
          const started = all[one.which % Math.max(1, all.length)]
          if (started === undefined || started.done > 0) continue
          started.mayFail = true
          queue.cancel(started.op, new Error('cancelled'))
        } else if (one.kind === 'reset') {
          does.mayFail()
          queue.fail(new Error('reset'))
          for (const { queue: inner } of paths) inner.reset()
          for (const path of paths) path.lost = false
          pair.reset()
          queue.resume()
          update()
        } else {
          does.settle()
          check()
        }
      }
      // A refusal that has not been taken yet would come after what follows.
      does.settle()
      for (const [i, path] of paths.entries()) {
        if (path.lost) pair.over(legs[i]!, new Error('lost'))
        if (path.lost) path.queue.reset()
        path.lost = false
        for (const nsid of NSIDS) path.access.set(nsid, 0)
      }
      update()
      for (let i = 0; i < 3; i++) does.settle()
      check()
      // The next operation is posted at once, without a look at what keeps some from that.
      const { obstacles } = queue as unknown as { obstacles: number }
      const left = {
        inFlight: pair.inFlight,
        lost: pair.lost,
        users: allocation.users,
        busy: queue.busy,
        obstacles,
      }
      if (Object.values(left).some(Boolean)) throw new Error(`what is left: ${JSON.stringify(left)}`)
    }),
    { numRuns: 500 },
  )
  t.pass()
})
