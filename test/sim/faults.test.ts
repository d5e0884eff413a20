import test from 'ava'
import { STATUS } from '../../lib/nvme/spec/status.ts'
import { type FaultRule, openSim } from '../../lib/sim/index.ts'
import { bringUp, CC_ENABLE, PAGE, READ, Rig, range, WRITE } from './ring.ts'

const FLUSH = 0
const HEALTHY = { status: 0 }

async function open(address: string, faults: FaultRule[] = []) {
  const rig = await bringUp(address, { faults })
  await rig.createPair(1, 32)
  const buf = rig.alloc(1)
  const read = (slba: number, nlb = 1) =>
    rig.run(1, { opcode: READ, nsid: 1, prp1: buf, dw: range(slba, nlb) })
  /** Posts reads of one block each and rings once. Identifiers are the LBAs. */
  const post = (...slbas: number[]) => {
    for (const slba of slbas) rig.post(1, { opcode: READ, cid: slba, nsid: 1, prp1: buf, dw: range(slba, 1) })
    rig.ringTail(1)
  }
  const order = async (n: number) => {
    const cids: number[] = []
    while (cids.length < n) cids.push((await rig.next(1)).cid)
    return cids
  }
  return { rig, buf, read, post, order }
}

for (const host of ['', '&thread=1']) {
  const address = `sim:?size=1M${host}`

  test(`a range of blocks fails with the status of the plan (${address})`, async (t) => {
    const { rig, buf, read } = await open(`${address}&fault=read@64%2B8:status=281h`.replace('%2B', '+'))
    t.like(await read(63), HEALTHY)
    t.like(await read(72), HEALTHY)
    t.like(await read(64), { status: STATUS.UNRECOVERED_READ_ERROR, more: true, dnr: false })
    t.like(await read(71), { status: STATUS.UNRECOVERED_READ_ERROR })
    t.like(await read(60, 8), { status: STATUS.UNRECOVERED_READ_ERROR })
    t.like(await rig.run(1, { opcode: WRITE, nsid: 1, prp1: buf, dw: range(64, 8) }), HEALTHY)
    await rig.sim.close()
  })

  test(`rules skip and stop, and are added and removed at run time (${address})`, async (t) => {
    const { rig, read } = await open(address, [
      { opcode: READ, skip: 2, times: 2, action: { kind: 'status', status: 0x280, dnr: true } },
    ])
    const statuses = async (n: number) => {
      const all: number[] = []
      for (let i = 0; i < n; i++) all.push((await read(i)).status)
      return all
    }
    t.deepEqual(await statuses(6), [0, 0, 0x280, 0x280, 0, 0])
    const id = rig.sim.controls.addFault({ nsid: 1, action: { kind: 'status', status: 0x202, dnr: true } })
    t.like(await read(0), { status: 0x202, dnr: true })
    rig.sim.controls.removeFault(id)
    t.like(await read(0), HEALTHY)
    rig.sim.controls.addFault({ queue: 1, opcode: READ, action: { kind: 'status', status: 0x203 } })
    rig.sim.controls.addFault({ queue: 2, action: { kind: 'fatal' } })
    t.like(await read(0), { status: 0x203 })
    rig.sim.controls.clearFaults()
    t.like(await read(0), HEALTHY)
    t.is(rig.csts, 1)
    await rig.sim.close()
  })

  test(`admin commands can fail, too (${address})`, async (t) => {
    const { rig, buf } = await open(address)
    rig.sim.controls.addFault({ queue: 'admin', opcode: 6, times: 1, action: { kind: 'status', status: 6 } })
    const identify = () => rig.admin({ opcode: 6, prp1: buf, dw: [1] })
    t.like(await identify(), { status: STATUS.INTERNAL_ERROR })
    t.like(await identify(), HEALTHY)
    await rig.sim.close()
  })

  test(`commands complete in the order of their times (${address})`, async (t) => {
    const { rig, post, order } = await open(`${address}&latency=1ms`)
    rig.sim.controls.addFault({ slba: 0, action: { kind: 'delay', ms: 40 } })
    rig.sim.controls.addFault({ slba: 1, action: { kind: 'delay', ms: 20 } })
    post(0, 1, 2, 3)
    t.deepEqual(await order(4), [2, 3, 1, 0])
    await rig.sim.close()
  })

  test(`a command completes behind later ones, or at last alone (${address})`, async (t) => {
    const { rig, post, order } = await open(`${address}&fault=any@0:behind=3,any@1:behind=100`)
    post(0, 1, 2, 3, 4, 5)
    t.deepEqual(await order(6), [2, 3, 4, 5, 0, 1])
    post(1)
    t.deepEqual(await order(1), [1])
    await rig.sim.close()
  })

  test(`latency of a range completes in any order, each command once (${address})`, async (t) => {
    const { rig, post, order } = await open(`${address}&latency=0-3ms`.replace('0-3', '0.1ms-3'))
    const all = Array.from({ length: 31 }, (_, i) => i)
    post(...all)
    const seen = await order(31)
    t.notDeepEqual(seen, all)
    t.deepEqual(
      [...seen].sort((a, b) => a - b),
      all,
    )
    await rig.sim.close()
  })

  test(`a delayed command moves its data when it is due (${address})`, async (t) => {
    const { rig, buf, post } = await open(address)
    rig.at(buf, PAGE).fill(0xee)
    rig.sim.controls.setLatency(3_000_000)
    post(0)
    await rig.settle()
    t.is(rig.take(1), undefined)
    t.is(rig.at(buf, 1)[0], 0xee)
    rig.sim.writeRegister(0x14, CC_ENABLE & ~1)
    await rig.settle()
    t.is(rig.csts, 0)
    t.is(rig.at(buf, 1)[0], 0xee, 'a reset forgets it')
    await rig.sim.close()
  })

  test(`a full completion queue makes delayed commands wait (${address})`, async (t) => {
    const rig = await bringUp(`${address}&latency=1ms`)
    await rig.createPair(1, 4)
    const [sq, buf] = [rig.alloc(1), rig.alloc(1)]
    t.is((await rig.admin({ opcode: 1, prp1: sq, dw: [(31 << 16) | 2, (1 << 16) | 1] })).status, 0)
    rig.addRing(2, 32, sq, rig.ring(1).cq)
    for (let cid = 0; cid < 20; cid++)
      rig.post(2, { opcode: READ, cid, nsid: 1, prp1: buf, dw: range(cid, 1) })
    rig.ringTail(2)
    const seen: number[] = []
    while (seen.length < 20) seen.push((await rig.next(1)).cid)
    t.deepEqual(seen, [...seen.keys()])
    await rig.sim.close()
  })

  test(`a lost completion: the command is done, and never answered (${address})`, async (t) => {
    const { rig, buf, read } = await open(`${address}&fault=write*1:lose`)
    rig.at(buf, PAGE).fill(3)
    rig.post(1, { opcode: WRITE, cid: 70, nsid: 1, prp1: buf, dw: range(5, 1) })
    rig.ringTail(1)
    await rig.settle()
    t.is(rig.take(1), undefined)
    rig.at(buf, PAGE).fill(0)
    t.like(await read(5), HEALTHY)
    t.true(rig.at(buf, 512).every((byte) => byte === 3))
    t.like(await rig.admin({ opcode: 8, dw: [(70 << 16) | 1] }), { status: 0, result: 1 }, 'nothing to abort')
    await rig.sim.close()
  })

  test(`fatal after some commands: CFS, nothing completes, a reset mends it (${address})`, async (t) => {
    const { rig, post, order } = await open(`${address}&fault=any#2*1:fatal`)
    post(0, 1, 2, 3)
    t.deepEqual(await order(2), [0, 1])
    await rig.settle()
    t.is(rig.csts & 2, 2)
    t.is(rig.take(1), undefined)
    rig.sim.writeRegister(0x14, 0)
    await rig.settle()
    t.is(rig.csts, 0)
    rig.enable()
    await rig.ready()
    t.is(rig.csts, 1)
    rig.sim.controls.goFatal()
    t.is(rig.csts, 3)
    await rig.sim.close()
  })

  test(`vanished: registers read all-ones and stay so, nothing completes (${address})`, async (t) => {
    const { rig, post, order } = await open(`${address}&fault=any#1:vanish`)
    let removed = 0
    rig.sim.onRemoved = () => removed++
    post(0, 1, 2)
    t.deepEqual(await order(1), [0])
    await rig.settle()
    for (const offset of [0, 8, 0x14, 0x1c]) t.is(rig.sim.readRegister(offset), 0xffff_ffff)
    rig.sim.writeRegister(0x14, CC_ENABLE)
    t.is(rig.csts, 0xffff_ffff)
    t.is(rig.take(1), undefined)
    await rig.sim.reset()
    t.is(rig.csts, 0xffff_ffff)
    t.is(removed, 0)
    await rig.sim.close()
  })

  test(`vanished with notice, as by hot plug (${address})`, async (t) => {
    const { rig } = await open(address)
    const cause = new Promise<Error>((resolve) => {
      rig.sim.onRemoved = resolve
    })
    rig.sim.controls.vanish({ notify: true })
    t.like(await cause, { code: 'ERR_UNVME_DEVICE_REMOVED' })
    t.is(rig.csts, 0xffff_ffff)
    await rig.sim.close()
  })

  test(`a quiesced controller reaches no memory any more (${address})`, async (t) => {
    const latency = 20
    for (let inTime = false; !inTime; ) {
      const { rig, buf, post } = await open(`${address}&latency=${latency}ms`)
      rig.at(buf, PAGE).fill(0xee)
      const posted = performance.now()
      post(0, 1)
      rig.sim.quiesce()
      // Where this thread was held up meanwhile, they may have been done before.
      inTime = performance.now() - posted < latency
      await new Promise((resolve) => setTimeout(resolve, 2 * latency))
      await rig.settle()
      if (inTime) {
        t.is(rig.take(1), undefined)
        t.true(rig.at(buf, PAGE).every((byte) => byte === 0xee))
      }
      await rig.sim.close()
    }
  })

  test(`interrupts: of armed vectors alone, by their number (${address})`, async (t) => {
    const rig = new Rig(await openSim(`${address}&latency=2ms&qcount=2`), 2 ** 24)
    t.is(rig.sim.vectors, 3)
    const fired: number[] = []
    let wake = () => {}
    rig.sim.enableInterrupts(3, (vector) => {
      fired.push(vector)
      wake()
    })
    rig.enable()
    await rig.ready()
    await rig.createPair(1, 8, { vector: 2 })
    await rig.createPair(2, 8)
    const buf = rig.alloc(1)
    const send = (qid: number) => {
      rig.post(qid, { opcode: FLUSH, nsid: 1, prp1: buf })
      rig.ringTail(qid)
    }
    for (let i = 1; i <= 3; i++) {
      // Armed first, and then sent; sent first, and then armed; sent while armed.
      const interrupted = new Promise<void>((resolve) => {
        wake = resolve
      })
      if (i === 2) send(1)
      rig.sim.arm(2)
      if (i !== 2) send(1)
      await interrupted
      t.like(rig.take(1), HEALTHY, 'it is there, and nobody had to step')
      rig.ringHead(1)
      t.deepEqual(fired.splice(0), [2])
      if (i !== 2) rig.sim.disarm(2)
    }
    send(1)
    send(2)
    t.like(await rig.next(1), HEALTHY)
    t.like(await rig.next(2), HEALTHY)
    await new Promise((resolve) => setTimeout(resolve, 5))
    t.deepEqual(fired, [], 'disarmed, or without interrupts')
    await rig.sim.close()
  })

  test(`at rest it does nothing, armed or not (${address})`, async (t) => {
    const { rig, read } = await open(address)
    await read(0)
    rig.sim.enableInterrupts(1, () => {})
    rig.sim.arm(0)
    // A wake-up from before may still be on its way: it comes to rest, and then stays so.
    const look = async () => {
      await new Promise((resolve) => setTimeout(resolve, 50))
      return rig.sim.activity()
    }
    let before = await look()
    for (let next = await look(); !before.asleep || next.sleeps !== before.sleeps; next = await look())
      before = next
    t.deepEqual(await look(), before)
    rig.sim.disarm(0)
    t.like(await read(1), HEALTHY)
    await rig.sim.close()
  })
}

for (const host of ['', '&thread=1']) {
  test(`while commands are delayed it sleeps (sim:?latency=1000s${host})`, async (t) => {
    const { rig, post } = await open(`sim:?size=1M&latency=1000s${host}`)
    rig.sim.enableInterrupts(2, () => {})
    rig.sim.arm(1)
    post(1, 2, 3)
    await rig.settle()
    const afterRest = async () => {
      await new Promise((resolve) => setTimeout(resolve, 50))
      return rig.sim.activity()
    }
    // On a busy machine it may fall asleep late, but once it is, nothing wakes it.
    let [before, after] = [rig.sim.activity(), await afterRest()]
    for (let i = 0; i < 40 && !(after.asleep && after.sleeps === before.sleeps); i++) {
      ;[before, after] = [after, await afterRest()]
    }
    t.deepEqual(after, before)
    t.true(after.asleep && after.sleeps > 0)
    await rig.sim.close()
  })
}
