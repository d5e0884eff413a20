import test from 'ava'
import { STATUS } from '../../lib/nvme/spec/status.ts'
import { bringUp, type Command, PAGE, READ, type Rig, range } from './ring.ts'

const CREATE_SQ = 1
const CREATE_CQ = 5
const DELETE_SQ = 0
const DELETE_CQ = 4
const AER = 12

const createCq = (rig: Rig, qid: number, size: number, dw11 = 1, prp1 = rig.alloc(1)): Command => ({
  opcode: CREATE_CQ,
  prp1,
  dw: [((size - 1) << 16) | qid, dw11],
})
const createSq = (
  rig: Rig,
  qid: number,
  size: number,
  dw11 = (qid << 16) | 1,
  prp1 = rig.alloc(1),
): Command => ({
  opcode: CREATE_SQ,
  prp1,
  dw: [((size - 1) << 16) | qid, dw11],
})

for (const host of ['', '&thread=1']) {
  const address = `sim:?size=1M&qcount=4&qsize=64${host}`

  const refusals: [string, number, (rig: Rig) => Command][] = [
    ['completion queue 0', STATUS.INVALID_QUEUE_IDENTIFIER, (rig) => createCq(rig, 0, 4)],
    ['completion queue above the granted', STATUS.INVALID_QUEUE_IDENTIFIER, (rig) => createCq(rig, 5, 4)],
    ['completion queue that exists', STATUS.INVALID_QUEUE_IDENTIFIER, (rig) => createCq(rig, 1, 4)],
    ['completion queue of one entry', STATUS.INVALID_QUEUE_SIZE, (rig) => createCq(rig, 2, 1)],
    ['completion queue above MQES', STATUS.INVALID_QUEUE_SIZE, (rig) => createCq(rig, 2, 65)],
    ['completion queue not contiguous', STATUS.INVALID_FIELD, (rig) => createCq(rig, 2, 4, 0)],
    ['completion queue vector', STATUS.INVALID_INTERRUPT_VECTOR, (rig) => createCq(rig, 2, 4, 3 | (5 << 16))],
    [
      'completion queue off the page',
      STATUS.PRP_OFFSET_INVALID,
      (rig) => createCq(rig, 2, 4, 1, rig.alloc(1) + 64),
    ],
    ['completion queue not mapped', STATUS.DATA_TRANSFER_ERROR, (rig) => createCq(rig, 2, 4, 1, 0x1000)],
    ['submission queue 0', STATUS.INVALID_QUEUE_IDENTIFIER, (rig) => createSq(rig, 0, 4, 0x1_0001)],
    [
      'submission queue above the granted',
      STATUS.INVALID_QUEUE_IDENTIFIER,
      (rig) => createSq(rig, 5, 4, 0x1_0001),
    ],
    [
      'submission queue on completions above the granted',
      STATUS.INVALID_QUEUE_IDENTIFIER,
      (rig) => createSq(rig, 2, 4, 0x5_0001),
    ],
    [
      'submission queue off the page',
      STATUS.PRP_OFFSET_INVALID,
      (rig) => createSq(rig, 2, 4, 0x1_0001, rig.alloc(1) + 64),
    ],
    ['submission queue that exists', STATUS.INVALID_QUEUE_IDENTIFIER, (rig) => createSq(rig, 1, 4)],
    [
      'submission queue on admin completions',
      STATUS.INVALID_QUEUE_IDENTIFIER,
      (rig) => createSq(rig, 2, 4, 1),
    ],
    [
      'submission queue without completion queue',
      STATUS.COMPLETION_QUEUE_INVALID,
      (rig) => createSq(rig, 2, 4, 0x3_0001),
    ],
    ['submission queue of one entry', STATUS.INVALID_QUEUE_SIZE, (rig) => createSq(rig, 2, 1, 0x1_0001)],
    ['submission queue above MQES', STATUS.INVALID_QUEUE_SIZE, (rig) => createSq(rig, 2, 65, 0x1_0001)],
    ['submission queue not contiguous', STATUS.INVALID_FIELD, (rig) => createSq(rig, 2, 4, 0x1_0000)],
    [
      'submission queue not mapped',
      STATUS.DATA_TRANSFER_ERROR,
      (rig) => createSq(rig, 2, 64, 0x1_0001, rig.arena.iova + rig.arena.bytes),
    ],
    [
      'deletion of submission queue 0',
      STATUS.INVALID_QUEUE_IDENTIFIER,
      () => ({ opcode: DELETE_SQ, dw: [0] }),
    ],
    [
      'deletion of no submission queue',
      STATUS.INVALID_QUEUE_IDENTIFIER,
      () => ({ opcode: DELETE_SQ, dw: [3] }),
    ],
    [
      'deletion of a submission queue above the granted',
      STATUS.INVALID_QUEUE_IDENTIFIER,
      () => ({ opcode: DELETE_SQ, dw: [5] }),
    ],
    [
      'deletion of a completion queue above the granted',
      STATUS.INVALID_QUEUE_IDENTIFIER,
      () => ({ opcode: DELETE_CQ, dw: [5] }),
    ],
    [
      'deletion of completion queue 0',
      STATUS.INVALID_QUEUE_IDENTIFIER,
      () => ({ opcode: DELETE_CQ, dw: [0] }),
    ],
    [
      'deletion of no completion queue',
      STATUS.INVALID_QUEUE_IDENTIFIER,
      () => ({ opcode: DELETE_CQ, dw: [3] }),
    ],
    [
      'deletion of a used completion queue',
      STATUS.INVALID_QUEUE_DELETION,
      () => ({ opcode: DELETE_CQ, dw: [1] }),
    ],
  ]
  test(`what is wrong with queues is refused, and harms nothing (${address})`, async (t) => {
    const rig = await bringUp(address)
    await rig.createPair(1, 4)
    for (const [name, status, make] of refusals) {
      const completion = await rig.admin(make(rig))
      t.like(completion, { status, dnr: status !== STATUS.DATA_TRANSFER_ERROR, more: true, sqid: 0 }, name)
    }
    const buf = rig.alloc(1)
    t.is((await rig.run(1, { opcode: READ, nsid: 1, prp1: buf, dw: range(0, 1) })).status, 0)
    await rig.sim.close()
  })

  test(`entry sizes that were not set are refused (${address})`, async (t) => {
    const rig = await bringUp(address)
    rig.sim.writeRegister(0x14, 1)
    await rig.settle()
    t.is((await rig.admin(createCq(rig, 1, 4))).status, STATUS.INVALID_QUEUE_SIZE)
    await rig.sim.close()
  })

  test(`queues are deleted and created again, and their doorbells start at 0 (${address})`, async (t) => {
    const rig = await bringUp(address)
    const buf = rig.alloc(1)
    for (let round = 0; round < 3; round++) {
      await rig.createPair(1, 4)
      for (let i = 0; i < 5; i++) {
        const read = await rig.run(1, { opcode: READ, nsid: 1, prp1: buf, dw: range(i, 1) })
        t.like(read, { status: 0, sqid: 1, sqhd: (i + 1) % 4 })
      }
      t.is((await rig.admin({ opcode: DELETE_SQ, dw: [1] })).status, 0)
      t.is((await rig.admin({ opcode: DELETE_CQ, dw: [1] })).status, 0)
    }
    await rig.sim.close()
  })

  test(`identifiers, heads and phases over many rounds of rings of every small size (${address})`, async (t) => {
    for (const size of [2, 3, 5, 8]) {
      const rig = await bringUp(address)
      await rig.createPair(2, size)
      const buf = rig.alloc(1)
      for (let i = 0; i < 4 * size + 1; i++) {
        const cid = (i * 7919) & 0xffff
        const read = await rig.run(2, { opcode: READ, cid, nsid: 1, prp1: buf, dw: range(0, 1) })
        t.like(read, { cid, status: 0, sqhd: (i + 1) % size, sqid: 2, result: 0 })
        t.is(read.phase, (Math.floor(i / size) & 1) ^ 1)
      }
      await rig.sim.close()
    }
  })

  test(`nothing is posted to a full completion queue (${address})`, async (t) => {
    const rig = await bringUp(address)
    const cq = rig.alloc(1)
    const sq = rig.alloc(1)
    await rig.admin(createCq(rig, 1, 4, 1, cq))
    await rig.admin(createSq(rig, 1, 16, 0x1_0001, sq))
    const ring = rig.addRing(1, 16, sq, cq)
    const buf = rig.alloc(1)
    const cids = Array.from({ length: 10 }, () =>
      rig.post(1, { opcode: READ, nsid: 1, prp1: buf, dw: range(0, 1) }),
    )
    rig.ringTail(1)
    await rig.settle()
    // Three of four entries can be used.
    const phases = () => [0, 1, 2, 3].map((i) => (rig.wordsAt(cq)[i * 4 + 3]! >>> 16) & 1)
    t.deepEqual(phases(), [1, 1, 1, 0])
    ;(ring as { size: number }).size = 4
    const seen: number[] = []
    while (seen.length < cids.length) {
      const completion = rig.take(1)
      if (completion === undefined) {
        rig.ringHead(1)
        await new Promise(setImmediate)
        continue
      }
      t.is(completion.status, 0)
      seen.push(completion.cid)
    }
    t.deepEqual(seen, cids)
    await rig.sim.close()
  })

  test(`two submission queues complete on one completion queue (${address})`, async (t) => {
    const rig = await bringUp(address)
    const ring = await rig.createPair(1, 32)
    const sq2 = rig.alloc(1)
    t.is((await rig.admin(createSq(rig, 2, 8, 0x1_0001, sq2))).status, 0)
    rig.addRing(2, 8, sq2, ring.cq)
    const buf = rig.alloc(1)
    for (let i = 0; i < 5; i++) {
      rig.post(1, { opcode: READ, cid: i, nsid: 1, prp1: buf, dw: range(0, 1) })
      rig.post(2, { opcode: READ, cid: 100 + i, nsid: 1, prp1: buf, dw: range(0, 1) })
    }
    rig.ringTail(1)
    rig.ringTail(2)
    const seen = []
    for (let i = 0; i < 10; i++) seen.push(await rig.next(1))
    t.deepEqual(
      seen.map(({ sqid, cid }) => `${sqid}:${cid}`).sort(),
      [0, 1, 2, 3, 4].flatMap((i) => [`1:${i}`, `2:${100 + i}`]).sort(),
    )
    t.is((await rig.admin({ opcode: DELETE_CQ, dw: [1] })).status, STATUS.INVALID_QUEUE_DELETION)
    await rig.admin({ opcode: DELETE_SQ, dw: [1] })
    t.is((await rig.admin({ opcode: DELETE_CQ, dw: [1] })).status, STATUS.INVALID_QUEUE_DELETION)
    await rig.admin({ opcode: DELETE_SQ, dw: [2] })
    t.is((await rig.admin({ opcode: DELETE_CQ, dw: [1] })).status, 0)
    await rig.sim.close()
  })

  test(`invalid doorbells are reported as events and otherwise ignored (${address})`, async (t) => {
    const rig = await bringUp(address)
    await rig.createPair(1, 8)
    const buf = rig.alloc(1)
    const event = async (ringIt: () => void, result: number) => {
      rig.post(0, { opcode: AER })
      rig.ringTail(0)
      await rig.settle()
      ringIt()
      t.like(await rig.next(0), { status: 0, result })
      // Reading the error log lets events of this type come again.
      t.is((await rig.admin({ opcode: 2, prp1: buf, dw: [0x000f_0001] })).status, 0)
    }
    await event(() => rig.ringTail(1, 8), 0x1_0100)
    await event(() => rig.ringTail(1, 0xffff_ffff), 0x1_0100)
    await event(() => rig.ringHead(1, 1), 0x1_0100)
    await event(() => rig.ringHead(1, 9), 0x1_0100)
    rig.ringHead(1, 0)
    rig.ringTail(1, 0)
    await event(() => {
      rig.sim.doorbells[2 * 3] = 1
      rig.sim.notify?.()
    }, 0x1_0000)
    await event(() => {
      rig.sim.doorbells[2 * 4 + 1] = 1
      rig.sim.notify?.()
    }, 0x1_0000)
    t.is((await rig.run(1, { opcode: READ, nsid: 1, prp1: buf, dw: range(0, 1) })).status, 0)
    await rig.sim.close()
  })

  test(`number of queues: granted, told, and settled once queues exist (${address})`, async (t) => {
    const rig = await bringUp(address)
    const set = (dw11: number) => rig.admin({ opcode: 9, dw: [7, dw11] })
    const get = (select = 0) => rig.admin({ opcode: 10, dw: [7 | (select << 8)] })
    t.like(await get(), { status: 0, result: 0x3_0003 })
    t.like(await set(0x9_0009), { status: 0, result: 0x3_0003 })
    t.like(await set(0x1_0001), { status: 0, result: 0x1_0001 })
    t.like(await get(), { status: 0, result: 0x1_0001 })
    t.like(await get(1), { status: 0, result: 0x3_0003 })
    t.is((await set(0xffff_0001)).status, STATUS.INVALID_FIELD)
    t.is((await set(0x1_ffff)).status, STATUS.INVALID_FIELD)
    t.is((await rig.admin(createCq(rig, 3, 4))).status, STATUS.INVALID_QUEUE_IDENTIFIER)
    await rig.createPair(2, 4)
    t.is((await set(0)).status, STATUS.COMMAND_SEQUENCE_ERROR)
    await rig.sim.close()
  })

  test(`a queue longer than a page (${address})`, async (t) => {
    const rig = await bringUp(`sim:?size=1M&qsize=1024${host}`)
    await rig.createPair(1, 1024)
    const buf = rig.alloc(1)
    for (let i = 0; i < 1000; i++) rig.post(1, { opcode: READ, cid: i, nsid: 1, prp1: buf, dw: range(i, 1) })
    rig.ringTail(1)
    for (let i = 0; i < 1000; i++) t.like(await rig.next(1), { cid: i, status: 0 })
    t.true(PAGE < 1024 * 64)
    await rig.sim.close()
  })
}
