// A queue over TCP keeps the contract of queues: identifiers come back once, lost ones when they are answered after all, and
// what is answered in whatever order is what was posted.

import test from 'ava'
import fc from 'fast-check'
import type { Link, LinkEnd, LinkOwner } from '../../lib/nvme/tcp/link.ts'
import { PlainMemory } from '../../lib/nvme/tcp/memory.ts'
import { PDU } from '../../lib/nvme/tcp/pdu.ts'
import { TcpQueue } from '../../lib/nvme/tcp/queue.ts'
import { Receiver } from '../../lib/nvme/tcp/receiver.ts'

/** A connection that keeps what is sent; `answer` is what the target sends. */
function fakeLink() {
  let receiver: Receiver | undefined
  let owner: LinkOwner | undefined
  const sent: Buffer[] = []
  const link = {
    agreement: { hdgst: false, ddgst: false },
    maxH2cData: 4096,
    alignment: 4,
    closed: false,
    own(by: LinkOwner) {
      owner = by
      receiver = new Receiver(by)
    },
    write(bytes: Uint8Array, done?: () => void) {
      sent.push(Buffer.from(bytes))
      done?.()
    },
    cork() {},
    flush() {},
    keepAlive() {},
    close() {
      link.closed = true
    },
  }
  return {
    link: link as unknown as Link,
    sent,
    /** The capsules that were sent, as identifiers. */
    ids(): number[] {
      const all = Buffer.concat(sent)
      return Array.from({ length: all.length / 72 }, (_, i) => all.readUInt16LE(i * 72 + 10))
    },
    answer(id: number, result = 0, status = 0) {
      const pdu = Buffer.alloc(24)
      pdu[0] = PDU.CAPSULE_RESP
      pdu[2] = 24
      pdu.writeUInt32LE(24, 4)
      pdu.writeUInt32LE(result, 8)
      pdu.writeUInt16LE(id, 20)
      pdu.writeUInt16LE(status, 22)
      receiver!.feed(pdu, pdu.length)
    },
    end: (end: LinkEnd) => owner!.onEnd(end),
  }
}

function makeQueue(entries: number) {
  const queue = new TcpQueue(new PlainMemory('test'), { qid: 1, entries, maxBytes: 4096, timeout: 800 })
  const fake = fakeLink()
  queue.attach(fake.link, 4096)
  return { queue, fake }
}

const step = fc.record({
  kind: fc.constantFrom('post', 'post', 'post', 'answer', 'answer', 'reap', 'time', 'abandon', 'reset'),
  pick: fc.nat(1000),
})

test('identifiers come back once, whatever is answered, lost or reset when', (t) => {
  fc.assert(
    fc.property(
      fc.integer({ min: 2, max: 9 }),
      fc.array(step, { maxLength: 120, size: 'max' }),
      (entries, steps) => {
        let { queue, fake } = makeQueue(entries)
        // By wire identifier: the number that the command was posted with; and those that were given up.
        let waiting = new Map<number, number>()
        let lost = new Set<number>()
        const answered = new Map<number, number>()
        let number = 0
        let now = 0
        let late = 0
        queue.onLate = () => {
          late++
        }
        const give = (cid: number) => {
          lost.add(queue.idOf(cid))
        }
        for (const { kind, pick } of steps) {
          if (kind === 'post') {
            const before = queue.available
            const cid = queue.post(2, 1, 0, 0, 0, ++number, 0, 0, 0, 0, 0)
            if (cid < 0) {
              t.is(before, 0)
              continue
            }
            const id = queue.idOf(cid)
            t.false(waiting.has(id))
            waiting.set(id, number)
            queue.ring()
          } else if (kind === 'answer' && waiting.size > 0) {
            const [id, posted] = [...waiting][pick % waiting.size]!
            waiting.delete(id)
            answered.set(id, posted)
            fake.answer(id, posted)
            t.throws(() => answerOf(fake, id), { code: 'ERR_UNVME_PROTOCOL' })
            // A violation ends the connection: this one was only asked whether it is one.
            const rest = fakeLink()
            fake = rest
            queue.attach(rest.link, 4096)
          } else if (kind === 'reap') {
            for (let cid = queue.reap(); cid >= 0; cid = queue.reap()) {
              t.true([...answered.values()].includes(queue.result))
            }
            const gone = [...lost].filter((id) => answered.has(id))
            t.is(late, gone.length)
            for (const id of gone) lost.delete(id)
            late = 0
            answered.clear()
          } else if (kind === 'time') {
            now += 200
            queue.expire(now, give)
          } else if (kind === 'abandon') queue.abandon(give)
          else if (kind === 'reset') {
            queue.reset()
            fake = fakeLink()
            queue.attach(fake.link, 4096)
            waiting = new Map()
            lost = new Set()
            answered.clear()
            late = 0
            t.is(queue.available, entries - 1)
          }
          t.is(queue.inFlight + queue.available + queue.lost, entries - 1)
          t.is(queue.lost, lost.size)
        }
        t.false(queue.dirty)
      },
    ),
    { numRuns: 60 },
  )
})

/** As a function of its own: the connection is another one after each answer. */
function answerOf(fake: ReturnType<typeof fakeLink>, id: number): void {
  fake.answer(id)
}

test('the answer of before a reset is none of the next command with the same index', (t) => {
  const { queue, fake } = makeQueue(2)
  queue.post(0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0)
  queue.ring()
  const [first] = fake.ids()
  queue.reset()
  const second = fakeLink()
  queue.attach(second.link, 4096)
  queue.post(0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0)
  queue.ring()
  t.not(second.ids()[0], first)
  t.throws(() => second.answer(first!), { code: 'ERR_UNVME_PROTOCOL', message: /is not in flight/ })
})

test('what was posted and not rung is not sent after a loss, and its identifier is given up', (t) => {
  const { queue, fake } = makeQueue(4)
  const ends: string[] = []
  queue.onLost = ({ cause }) => ends.push(cause.message)
  queue.post(0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0)
  t.true(queue.dirty)
  fake.end({ cause: new Error('gone'), byPeer: true })
  t.deepEqual(ends, ['gone'])
  t.false(queue.dirty)
  queue.ring()
  t.is(fake.sent.length, 0)
  const lost: number[] = []
  queue.abandon((cid) => lost.push(cid))
  t.is(lost.length, 1)
  t.is(queue.lost, 1)
})

test('a batch leaves in one write, and is counted as one', (t) => {
  const { queue, fake } = makeQueue(33)
  for (let i = 0; i < 32; i++) queue.post(2, 1, 0, 0, 0, i, 0, 0, 0, 0, 0)
  queue.ring()
  t.is(fake.sent.length, 1)
  t.is(fake.ids().length, 32)
  t.like(queue.counters, { submitted: 32, doorbells: 1 })
  t.is(queue.post(2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0), -1)
})

test('arm calls once, when completions have come, or the connection has ended', (t) => {
  const { queue, fake } = makeQueue(4)
  let calls = 0
  queue.post(0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0)
  queue.ring()
  queue.arm(() => {
    calls++
  })
  fake.answer(fake.ids()[0]!)
  queue.onFed()
  queue.onFed()
  t.is(calls, 1)
  queue.arm(() => {
    calls++
  })
  fake.end({ cause: new Error('gone'), byPeer: false })
  t.is(calls, 2)
})
