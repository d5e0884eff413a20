import fs from 'node:fs'
import test from 'ava'
import { STATUS } from '../../lib/nvme/spec/status.ts'
import { testFolder } from '../support/folder.ts'
import { bringUp, CC_ENABLE, PAGE, READ, type Rig, range } from './ring.ts'

const file = testFolder()
const CHUNK = 32
const IDENTIFY = 6
const VERIFY = 12

/** Completions that are in the ring of queue 1, without a step to make more. */
function completed(rig: Rig): number {
  const { cq, size } = rig.ring(1)
  const words = rig.wordsAt(cq)
  let count = 0
  while (count < size && ((words[count * 4 + 3]! >>> 16) & 1) === 1) count++
  return count
}

/** Announces `count` reads of 128 KiB in queue 1. */
async function postReads(rig: Rig, count: number): Promise<void> {
  const list = rig.alloc(1)
  const data = rig.alloc(CHUNK)
  for (let i = 1; i < CHUNK; i++) {
    const page = data + i * PAGE
    rig.wordsAt(list).set([page >>> 0, Math.floor(page / 2 ** 32)], 2 * (i - 1))
  }
  for (let i = 0; i < count; i++) {
    rig.post(1, { opcode: READ, nsid: 1, prp1: data, prp2: list, dw: range(i * 256, 256) })
  }
}

test('a step ends after 1 MiB of data, or 512 commands, and the next goes on', async (t) => {
  const rig = await bringUp('sim:?size=64M')
  await rig.createPair(1, 1024)
  await postReads(rig, 20)
  rig.sim.doorbells[2] = 20
  for (const expected of [8, 16, 20, 20]) {
    rig.sim.step!()
    t.is(completed(rig), expected)
  }
  const buf = rig.alloc(1)
  for (let i = 0; i < 600; i++) rig.post(1, { opcode: READ, nsid: 1, prp1: buf, dw: range(i, 1) })
  rig.sim.doorbells[2] = 620
  rig.sim.step!()
  t.is(completed(rig), 532)
  rig.sim.step!()
  t.is(completed(rig), 620)
  await rig.sim.close()
})

test('so does one of delayed commands; those that arrive meanwhile are fetched at once', async (t) => {
  const rig = await bringUp('sim:?size=64M&latency=50ms')
  await rig.createPair(1, 64)
  await postReads(rig, 20)
  rig.sim.doorbells[2] = 10
  const fetched = performance.now()
  rig.sim.step!()
  t.is(completed(rig), 0)
  while (performance.now() < fetched + 60) await new Promise((resolve) => setTimeout(resolve, 5))
  const fetchedLater = performance.now()
  rig.sim.doorbells[2] = 20
  rig.sim.step!()
  t.is(completed(rig), 8)
  const { sqhd } = rig.take(1)!
  t.is(sqhd, 10, 'of the time before they were fetched')
  const done = completed(rig)
  // On a machine that was busy for so long, the others are due as well.
  if (performance.now() < fetchedLater + 50) t.is(done, 10)
  while (completed(rig) < 20) {
    rig.sim.step!()
    await new Promise(setImmediate)
  }
  t.pass()
  await rig.sim.close()
})

for (const host of ['', '&thread=1']) {
  test(`Verify reads what is in the file (sim:FILE${host})`, async (t) => {
    const image = file(`disk${host}.img`)
    const rig = await bringUp(`sim:${image}?size=8M${host}`)
    await rig.createPair(1, 8)
    const verify = async (slba: number, nlb: number) =>
      (await rig.run(1, { opcode: VERIFY, nsid: 1, dw: range(slba, nlb) })).status
    t.is(await verify(0, 16384), 0)
    fs.truncateSync(image, 2 ** 22)
    t.is(await verify(0, 8192), 0)
    t.is(await verify(8191, 2), STATUS.UNRECOVERED_READ_ERROR)
    t.is(await verify(0, 16384), STATUS.UNRECOVERED_READ_ERROR)
    await rig.sim.close()
  })

  test(`the error log has the flags of the completion (sim:${host})`, async (t) => {
    for (const dnr of [true, false, undefined]) {
      const fault = { action: { kind: 'status', status: 0x281, ...(dnr !== undefined && { dnr }) } } as const
      const rig = await bringUp(`sim:?size=1M${host}`, { faults: [fault] })
      await rig.createPair(1, 8)
      const failed = await rig.run(1, { opcode: READ, nsid: 1, prp1: rig.alloc(1), dw: range(0, 1) })
      t.like(failed, { status: 0x281, more: true, dnr: dnr ?? false })
      const log = rig.alloc(1)
      t.is((await rig.admin({ opcode: 2, prp1: log, dw: [0x000f_0001] })).status, 0)
      const field = (rig.wordsAt(log)[3]! & 0xffff) >>> 1
      t.deepEqual(
        [field & 0x7ff, (field & 0x4000) !== 0, (field & 0x2000) !== 0],
        [0x281, dnr ?? false, true],
      )
      await rig.sim.close()
    }
  })

  test(`a quiesced controller reaches no memory until it is reset (sim:${host})`, async (t) => {
    const rig = await bringUp(`sim:?size=1M${host}`)
    rig.sim.quiesce()
    const page = rig.alloc(1)
    rig.post(0, { opcode: IDENTIFY, prp1: page, dw: [1] })
    rig.ringTail(0)
    await rig.settle()
    t.is(rig.take(0), undefined)
    // Disabled and enabled again, it has no way to its queues.
    rig.sim.writeRegister(0x14, 0)
    while ((rig.csts & 1) !== 0) await new Promise(setImmediate)
    rig.sim.writeRegister(0x14, CC_ENABLE)
    await rig.ready()
    t.is(rig.csts & 3, 2, 'CFS, and not RDY')
    await rig.sim.reset()
    rig.enable()
    await rig.ready()
    t.is(rig.csts & 3, 1)
    t.is((await rig.admin({ opcode: IDENTIFY, prp1: page, dw: [1] })).status, 0)
    await rig.sim.close()
  })
}
