// One queue over several: every command comes back once, by a path that may be used, and what may have changed data on a
// lost path not before that is over.

import test from 'ava'
import fc from 'fast-check'
import { OutcomeUnknownError } from '../../lib/errors.ts'
import { NO_WAKE_UP } from '../../lib/nvme/host/transport.ts'
import { PathQueue, type QueuePath, UNUSABLE } from '../../lib/nvme/paths/path-queue.ts'
import { mayChangeData, NVM } from '../../lib/nvme/spec/opcodes.ts'
import { STATUS } from '../../lib/nvme/spec/status.ts'
import { FAKE_ENTRIES as ENTRIES, FakeQueue } from '../support/fake-queue.ts'

class FakePath implements QueuePath {
  readonly queue = new FakeQueue()
  rankNow = 0
  lost = false
  refusals = 0
  readonly address: string
  constructor(address: string) {
    this.address = address
  }
  rank() {
    return this.lost ? UNUSABLE : this.rankNow
  }
  refused() {
    this.refusals++
  }
  expired() {
    return false
  }
}

const ranks = fc.constantFrom(0, 0, 1, UNUSABLE)
const step = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant('post' as const),
      opcode: fc.constantFrom(NVM.READ, NVM.WRITE),
    }),
  },
  {
    weight: 5,
    arbitrary: fc.record({
      kind: fc.constant('answer' as const),
      path: fc.nat(2),
      at: fc.nat(7),
      status: fc.constantFrom(0, 0, STATUS.ANA_INACCESSIBLE << 1, STATUS.INTERNAL_PATH_ERROR << 1),
    }),
  },
  fc.record({ kind: fc.constantFrom('lose' as const, 'over' as const), path: fc.nat(2) }),
  fc.record({ kind: fc.constant('rank' as const), path: fc.nat(2), rank: ranks }),
)

for (const policy of ['round-robin', 'queue-depth'] as const) {
  test(`${policy}: every command comes back once, and writes of a lost path when that is over`, (t) => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 120, size: 'max' }), (steps) => {
        const queue = new PathQueue({ qid: 1, entries: ENTRIES, maxBytes: 4096, timeout: 1000 }, policy)
        const paths = ['a', 'b', 'c'].map((name) => new FakePath(name))
        const legs = paths.map((path) => queue.addLeg(path, path.queue, NO_WAKE_UP))
        // By identifier, what is in flight, and where.
        const waiting = new Map<number, { tag: number; opcode: number; path: number }>()
        let tags = 0
        const reap = () => {
          for (let cid = queue.reap(); cid >= 0; cid = queue.reap()) {
            const one = waiting.get(cid)
            if (one === undefined) throw new Error(`identifier ${cid} came back twice`)
            waiting.delete(cid)
            if (queue.status === STATUS.ABORTED_BY_HOST << 1) {
              t.true(queue.fault instanceof OutcomeUnknownError)
              if (paths[one.path]!.lost && mayChangeData(one.opcode))
                throw new Error('a write came back early')
            } else if (queue.result !== one.tag) throw new Error(`answer of ${queue.result} for ${one.tag}`)
          }
        }
        for (const one of steps) {
          if (one.kind === 'post') {
            const before = paths.map(({ queue }) => queue.inFlight)
            const best = Math.min(...paths.map((path) => path.rank()))
            const cid = queue.post(one.opcode, 1, 0, 0, 512, ++tags, 0, 0, 0, 0, 0)
            if (cid < 0) {
              const full = paths.every((path) => path.rank() !== best || path.queue.available === 0)
              t.true(best === UNUSABLE || full || waiting.size === ENTRIES - 1)
              continue
            }
            const path = paths.findIndex(({ queue }, i) => queue.inFlight > before[i]!)
            t.is(paths[path]!.rank(), best)
            t.false(waiting.has(cid))
            waiting.set(cid, { tag: tags, opcode: one.opcode, path })
          } else {
            const path = paths[one.path]!
            const leg = legs[one.path]!
            if (one.kind === 'answer') {
              if (!path.lost && path.queue.posted.length > 0) path.queue.answer(one.at, one.status)
            } else if (one.kind === 'rank') path.rankNow = one.rank
            else if (one.kind === 'lose' && !path.lost) {
              path.lost = true
              queue.lose(leg, new Error('lost'))
            } else if (one.kind === 'over' && path.lost) {
              path.lost = false
              queue.over(leg, new Error('lost'))
              path.queue.reset()
            }
            queue.ranksChanged()
          }
          if (one.kind !== 'post') reap()
          t.is(queue.inFlight, waiting.size)
        }
        for (const [i, path] of paths.entries()) {
          if (path.lost) {
            path.lost = false
            queue.over(legs[i]!, new Error('lost'))
          }
          while (path.queue.posted.length > 0) path.queue.answer(0, 0)
        }
        reap()
        t.is(waiting.size, 0)
        t.is(queue.inFlight, 0)
      }),
      { numRuns: 300 },
    )
  })
}

test('round robin gives every path the same, queue depth gives most to the fastest', (t) => {
  const run = (policy: 'round-robin' | 'queue-depth', slowness: number) => {
    const queue = new PathQueue({ qid: 1, entries: ENTRIES, maxBytes: 4096, timeout: 1000 }, policy)
    const paths = ['slow', 'fast'].map((name) => new FakePath(name))
    for (const path of paths) queue.addLeg(path, path.queue, NO_WAKE_UP)
    for (let i = 0; i < 400; i++) {
      queue.post(NVM.READ, 1, 0, 0, 512, i, 0, 0, 0, 0, 0)
      const [slow, fast] = paths as [FakePath, FakePath]
      if (fast.queue.posted.length > 0) fast.queue.answer(0, 0)
      if (i % slowness === 0 && slow.queue.posted.length > 0) slow.queue.answer(0, 0)
      while (queue.reap() >= 0);
    }
    return paths.map(({ queue }) => queue.counters.submitted) as [slow: number, fast: number]
  }
  const [slow, fast] = run('queue-depth', 4)
  t.true(fast > 2 * slow, `${fast} and ${slow}`)
  t.deepEqual(run('round-robin', 1), [200, 200])
})
