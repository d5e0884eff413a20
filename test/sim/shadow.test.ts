// Doorbell Buffer Config in the software controller: what it refuses, and the events that it writes.

import test from 'ava'
import { bringUp, PAGE, READ, type Rig, range } from './ring.ts'

const CONFIG = 0x7c
const INVALID_FIELD = 0x002
const INVALID_OPCODE = 0x001
const PRP_OFFSET_INVALID = 0x013

async function configured(address = 'sim:?size=8M&shadow=1') {
  const rig = await bringUp(address)
  const buffers = rig.alloc(2)
  const { status } = await rig.admin({ opcode: CONFIG, prp1: buffers, prp2: buffers + PAGE })
  return { rig, status, shadow: rig.wordsAt(buffers), events: rig.wordsAt(buffers + PAGE) }
}

const post = (rig: Rig, data: number) => rig.post(1, { opcode: READ, nsid: 1, prp1: data, dw: range(0, 1) })

test('only where the address says so; the effects log and Identify agree', async (t) => {
  for (const [address, offered] of [
    ['sim:?size=8M', false],
    ['sim:?size=8M&shadow=1', true],
  ] as const) {
    const { rig, status } = await configured(address)
    t.is(status, offered ? 0 : INVALID_OPCODE)
    const data = rig.alloc(1)
    await rig.admin({ opcode: 6, prp1: data, dw: [1] })
    t.is((rig.at(data, PAGE)[257]! & 1) === 1, offered)
    await rig.admin({ opcode: 2, prp1: data, dw: [5 | (1023 << 16)] })
    t.is(rig.wordsAt(data)[CONFIG]! & 1, offered ? 1 : 0)
    await rig.sim.close()
  }
})

test('buffers that are no pages, or not mapped, are refused', async (t) => {
  const rig = await bringUp('sim:?size=8M&shadow=1')
  const page = rig.alloc(2)
  const config = async (prp1: number, prp2: number) =>
    (await rig.admin({ opcode: CONFIG, prp1, prp2 })).status
  t.is(await config(page + 8, page + PAGE), PRP_OFFSET_INVALID)
  t.is(await config(page, page + PAGE + 4), PRP_OFFSET_INVALID)
  t.is(await config(page, 0x1000), INVALID_FIELD)
  t.is(await config(0x1000, page), INVALID_FIELD)
  t.is(await config(page, page + PAGE), 0)
  await rig.sim.close()
})

test('commands are announced by the shadow doorbell alone; the event asks for the next ring', async (t) => {
  const { rig, shadow, events } = await configured()
  await rig.createPair(1, 8)
  const data = rig.alloc(1)
  for (let i = 1; i <= 20; i++) {
    post(rig, data)
    shadow[2] = i % 8
    t.is((await take(rig)).status, 0)
    t.is(events[2], i % 8, 'asks to be rung at the next change')
    shadow[3] = i % 8
    rig.sim.step!()
    t.is(events[3], i % 8)
  }
  t.is(rig.sim.doorbells[2], 0)
  await rig.sim.close()
})

async function take(rig: Rig) {
  for (;;) {
    const completion = rig.take(1)
    if (completion) return completion
    await new Promise(setImmediate)
  }
}

test('a doorbell value that is out of range is ignored and reported', async (t) => {
  const { rig, shadow } = await configured()
  await rig.createPair(1, 8)
  const cid = rig.post(0, { opcode: 0x0c })
  rig.ringTail(0)
  shadow[2] = 9
  const event = await rig.next(0)
  t.is(event.cid, cid)
  t.is(event.result, 0x01_0100)
  await rig.sim.close()
})

test('a reset forgets them; unmapping their memory is fatal', async (t) => {
  const { rig, shadow } = await configured()
  rig.sim.writeRegister(0x14, 0)
  rig.rings.length = 0
  rig.enable()
  await rig.ready()
  await rig.createPair(1, 8)
  post(rig, rig.alloc(1))
  shadow[2] = 1
  await rig.settle()
  t.is(rig.take(1), undefined)
  rig.ringTail(1)
  t.is((await take(rig)).status, 0)

  const other = rig.sim.mapDma(8192)
  t.is((await rig.admin({ opcode: CONFIG, prp1: other.iova, prp2: other.iova + PAGE })).status, 0)
  rig.sim.unmapDma(other)
  t.is(rig.csts & 2, 2)
  await rig.sim.close()
})

test('on a thread that sleeps, no command is forgotten', async (t) => {
  const { rig, shadow, events } = await configured('sim:?size=8M&shadow=1&thread=1')
  await rig.createPair(1, 8)
  const data = rig.alloc(1)
  for (let i = 1; i <= 300; i++) {
    post(rig, data)
    const from = shadow[2]!
    shadow[2] = i % 8
    // As a host does: the locked access in `ringTail` stands for its fence.
    if (events[2] === from) rig.ringTail(1)
    t.is((await take(rig)).status, 0)
    shadow[3] = i % 8
    if (i % 50 === 0) await new Promise((resolve) => setTimeout(resolve, 2))
  }
  await rig.sim.close()
})
