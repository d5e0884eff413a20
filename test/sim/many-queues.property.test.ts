// Many queues of one controller: a step looks at no more of them than were rung, and yet each has its turn, whatever is
// rung, stepped, deleted, created and reset in whatever order.

import test from 'ava'
import fc from 'fast-check'
import { bringUp, PAGE, READ, type Rig, range } from './ring.ts'

const QUEUES = 6
const SIZE = 6
const DELETE_SQ = 0
const DELETE_CQ = 4
const DOORBELL_BUFFER_CONFIG = 0x7c
const LARGE_PAGES = 32

interface Queue {
  /** Identifiers of what was posted, in order, and how many of them were announced. */
  sent: number[]
  announced: number
}

/** A host of several queues, which expects each command's completion in order, and none of a queue that it has deleted. */
class Host {
  readonly queues: (Queue | undefined)[] = []
  /** Completion queues that were deleted, as they were then. */
  readonly gone: { readonly ring: Uint8Array; readonly entries: Buffer }[] = []
  readonly rig: Rig
  readonly list: number
  readonly data: number
  shadow: Uint32Array | null = null

  constructor(rig: Rig) {
    this.rig = rig
    this.list = rig.alloc(1)
    this.data = rig.alloc(LARGE_PAGES)
    for (let i = 1; i < LARGE_PAGES; i++) {
      const page = this.data + i * PAGE
      rig.wordsAt(this.list).set([page >>> 0, Math.floor(page / 2 ** 32)], 2 * (i - 1))
    }
  }

  async useShadow(): Promise<void> {
    const buffers = this.rig.alloc(2)
    const prps = { prp1: buffers, prp2: buffers + PAGE }
    const { status } = await this.rig.admin({ opcode: DOORBELL_BUFFER_CONFIG, ...prps })
    if (status !== 0) throw new Error(`Doorbell Buffer Config: ${status}`)
    this.shadow = this.rig.wordsAt(buffers)
  }

  async create(qid: number, size = SIZE): Promise<void> {
    this.shadow?.fill(0, 2 * qid * this.rig.stride, 2 * (qid + 1) * this.rig.stride)
    await this.rig.createPair(qid, size)
    this.queues[qid] = { sent: [], announced: 0 }
  }

  async delete(qid: number): Promise<void> {
    for (const opcode of [DELETE_SQ, DELETE_CQ]) {
      const { status } = await this.rig.admin({ opcode, dw: [qid] })
      if (status !== 0) throw new Error(`deletion of queue ${qid}: ${status}`)
    }
    this.queues[qid] = undefined
    const { cq, size } = this.rig.ring(qid)
    const ring = this.rig.at(cq, size * 16)
    this.gone.push({ ring, entries: Buffer.from(ring) })
  }

  goneAreLeft(): boolean {
    return this.gone.every(({ ring, entries }) => entries.equals(ring))
  }

  async reset(): Promise<void> {
    this.rig.sim.writeRegister(0x14, 0)
    this.queues.length = this.rig.rings.length = 0
    this.rig.enable()
    await this.rig.ready()
    if (this.shadow !== null) await this.useShadow()
  }

  post(qid: number, isLarge: boolean): void {
    const { sent } = this.queues[qid]!
    if (sent.length === this.rig.ring(qid).size - 1) return
    const command = { opcode: READ, nsid: 1, prp1: this.data }
    sent.push(
      this.rig.post(
        qid,
        isLarge
          ? { ...command, prp2: this.list, dw: range(0, (LARGE_PAGES * PAGE) / 512) }
          : { ...command, dw: range(0, 1) },
      ),
    )
  }

  /** Stores a doorbell, and nothing else. */
  #store(place: number, value: number): void {
    ;(this.shadow ?? this.rig.sim.doorbells)[place * this.rig.stride] = value
  }

  announce(qid: number): void {
    const queue = this.queues[qid]!
    queue.announced = queue.sent.length
    this.#store(2 * qid, this.rig.ring(qid).tail)
  }

  /** Without a step to make it so. */
  hasCompleted(qid: number): boolean {
    const { cq, head, phase } = this.rig.ring(qid)
    return ((this.rig.wordsAt(cq + head * 16)[3]! >>> 16) & 1) === phase
  }

  /** Takes what has completed; `false` where anything but the next that was announced has. */
  reap(qid: number, acknowledge: boolean): boolean {
    const queue = this.queues[qid]!
    for (let one = this.rig.take(qid); one !== undefined; one = this.rig.take(qid)) {
      if (queue.announced-- === 0 || one.cid !== queue.sent.shift() || one.status !== 0) return false
    }
    if (acknowledge) this.#store(2 * qid + 1, this.rig.ring(qid).head)
    return true
  }
}

const qid = fc.integer({ min: 1, max: QUEUES })
const action = fc.oneof(
  { weight: 8, arbitrary: fc.record({ kind: fc.constant('post'), qid, flag: fc.boolean() }) },
  { weight: 5, arbitrary: fc.record({ kind: fc.constant('ring'), qid, flag: fc.constant(false) }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('reap'), qid, flag: fc.boolean() }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('step'), qid, flag: fc.constant(false) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('delete'), qid, flag: fc.constant(false) }) },
  { weight: 1, arbitrary: fc.constant({ kind: 'reset', qid: 1, flag: false }) },
)

for (const options of ['', '&dstrd=2', '&shadow=1', '&shadow=1&dstrd=1']) {
  const address = `sim:?size=1M&qcount=${QUEUES}&qsize=64${options}`

  test(`whatever is rung, deleted, created and reset, each command completes once (${address})`, async (t) => {
    await fc.assert(
      fc.asyncProperty(fc.array(action, { minLength: 10, maxLength: 120 }), async (actions) => {
        const host = new Host(await bringUp(address))
        if (options.includes('shadow')) await host.useShadow()
        for (const { kind, qid, flag } of actions) {
          if (kind === 'reset') await host.reset()
          else if (kind === 'step') host.rig.sim.step!()
          else if (host.queues[qid] === undefined) await host.create(qid)
          else if (kind === 'post') host.post(qid, flag)
          else if (kind === 'ring') host.announce(qid)
          else if (kind === 'delete') await host.delete(qid)
          else if (!host.reap(qid, flag)) return false
        }
        const open = [...host.queues.keys()].filter((qid) => host.queues[qid] !== undefined)
        for (const qid of open) host.announce(qid)
        // All of one queue fill it at most, and a step has a command at least.
        for (let i = 0; i < 2 * SIZE; i++) for (const qid of open) if (!host.reap(qid, true)) return false
        const isRight = open.every((qid) => host.queues[qid]!.sent.length === 0) && host.goneAreLeft()
        await host.rig.sim.close()
        return isRight
      }),
      { numRuns: 50 },
    )
    t.pass()
  })
}

test('a queue that has more than a step executes keeps no other from its turn', async (t) => {
  const host = new Host(await bringUp('sim:?size=1M&qcount=3&qsize=1024'))
  for (const qid of [1, 2, 3]) await host.create(qid, 1024)
  for (const qid of [1, 2, 3]) {
    for (let i = 0; i < 1023; i++) host.post(qid, true)
    host.announce(qid)
  }
  for (let i = 1; i <= 3; i++) {
    host.rig.sim.step!()
    t.is([1, 2, 3].filter((qid) => host.hasCompleted(qid)).length, i)
  }
  await host.rig.sim.close()
})

test('a step that one queue asks for executes what was rung on all of them, also on the admin queue', async (t) => {
  const host = new Host(await bringUp(`sim:?size=1M&qcount=${QUEUES}`))
  const all = Array.from({ length: QUEUES }, (_, i) => i + 1)
  for (const qid of all) await host.create(qid)
  for (const qid of all) {
    host.post(qid, false)
    host.announce(qid)
  }
  host.rig.post(0, { opcode: 6, prp1: host.data, dw: [1] })
  host.rig.ringTail(0)
  host.rig.sim.step!()
  t.true(host.hasCompleted(0))
  for (const qid of all) t.true(host.hasCompleted(qid), `queue ${qid}`)
  await host.rig.sim.close()
})

test('a step after the controller has stopped serves all queues, though the one that it stopped at is empty', async (t) => {
  const host = new Host(await bringUp('sim:?size=1M&qcount=2&fault=read@9:stop=20ms'))
  for (const qid of [1, 2]) await host.create(qid)
  host.rig.post(1, { opcode: READ, nsid: 1, prp1: host.data, dw: range(9, 1) })
  host.rig.ringTail(1)
  host.post(2, false)
  host.announce(2)
  host.rig.sim.step!()
  t.false(host.hasCompleted(2))
  // Without a turn of the event loop, which brings steps of its own.
  const over = performance.now() + 25
  while (performance.now() < over);
  host.rig.sim.step!()
  t.true(host.hasCompleted(2))
  await host.rig.sim.close()
})

test('what is not fetched when its queue is deleted never is, also where the doorbell is rung again', async (t) => {
  const host = new Host(await bringUp('sim:?size=1M&qcount=2&qsize=64'))
  for (const qid of [1, 2]) {
    await host.create(qid, 64)
    for (let i = 0; i < 40; i++) host.post(qid, true)
  }
  for (const qid of [1, 2]) host.announce(qid)
  host.rig.sim.step!()
  await host.delete(1)
  host.rig.ringTail(1, 50)
  t.true(host.reap(2, true))
  await host.rig.settle()
  t.is(host.queues[2]!.sent.length, 0)
  t.true(host.goneAreLeft())
  // A step executed 1 MiB of it, the next as much of the other queue, and then came the deletion.
  const { entries } = host.gone[0]!
  const phases = Array.from({ length: 64 }, (_, i) => entries[i * 16 + 14]! & 1)
  t.is(phases.indexOf(0), 8)
  await host.rig.sim.close()
})
