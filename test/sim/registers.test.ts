import test from 'ava'
import { decodeCapabilities, formatVersion } from '../../lib/nvme/spec/registers.ts'
import { openSim } from '../../lib/sim/index.ts'
import { bringUp, CC_ENABLE, READ, Rig, range } from './ring.ts'

const CSTS = { RDY: 1, CFS: 2, SHST_COMPLETE: 8, NSSRO: 0x10 }
const hosts = ['', '&thread=1']

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 1))
}

for (const host of hosts) {
  const address = `sim:?size=1M${host}`

  test(`capabilities say what the address asks for (${address})`, async (t) => {
    const sim = await openSim(`${address}&qsize=100&dstrd=2`)
    const cap = decodeCapabilities(sim.readRegister(0), sim.readRegister(4))
    t.like(cap, { mqes: 100, cqr: true, dstrd: 16, nssrs: true, css: 1, mpsmin: 4096, mpsmax: 65536 })
    t.is(formatVersion(sim.readRegister(8)), '1.4.0')
    sim.writeRegister(0, 0)
    sim.writeRegister(8, 0)
    t.is(formatVersion(sim.readRegister(8)), '1.4.0')
    t.is(sim.readRegister(0x1c), 0)
    await sim.close()
    t.is(sim.readRegister(0x1c), 0xffff_ffff)
    await sim.close()
  })

  test(`interrupt masks are set and cleared bit by bit (${address})`, async (t) => {
    const sim = await openSim(address)
    sim.writeRegister(0x0c, 0xf0)
    sim.writeRegister(0x0c, 0x01)
    t.is(sim.readRegister(0x0c), 0xf1)
    sim.writeRegister(0x10, 0x11)
    t.is(sim.readRegister(0x0c), 0xe0)
    t.is(sim.readRegister(0x10), 0xe0)
    await sim.close()
  })

  test(`disable and enable again: queues are gone, the medium stays (${address})`, async (t) => {
    const rig = await bringUp(address)
    await rig.createPair(1, 4)
    rig.sim.writeRegister(0x14, CC_ENABLE & ~1)
    await until(() => (rig.csts & CSTS.RDY) === 0)
    rig.enable()
    await rig.ready()
    t.is(rig.csts, CSTS.RDY)
    await rig.createPair(1, 4)
    const buf = rig.alloc(1)
    t.is((await rig.run(1, { opcode: READ, nsid: 1, prp1: buf, dw: range(0, 8) })).status, 0)
    await rig.sim.close()
  })

  test(`shutdown completes, normal and abrupt (${address})`, async (t) => {
    for (const shn of [1, 2]) {
      const rig = await bringUp(address)
      rig.sim.writeRegister(0x14, CC_ENABLE | (shn << 14))
      await until(() => (rig.csts & 0xc) === CSTS.SHST_COMPLETE)
      rig.sim.writeRegister(0x14, 0)
      await until(() => (rig.csts & CSTS.RDY) === 0)
      t.is(rig.csts, 0)
      await rig.sim.close()
    }
  })

  test(`a subsystem reset is done at the right word only, and says so until cleared (${address})`, async (t) => {
    const rig = await bringUp(address)
    rig.sim.writeRegister(0x20, 0x4e56_4d66)
    await rig.settle()
    t.is(rig.csts, CSTS.RDY)
    rig.sim.writeRegister(0x20, 0x4e56_4d65)
    await until(() => rig.csts === CSTS.NSSRO)
    t.is(rig.sim.readRegister(0x14), 0)
    t.is(rig.sim.readRegister(0x24), 0)
    rig.sim.writeRegister(0x1c, CSTS.NSSRO)
    await until(() => rig.csts === 0)
    rig.enable()
    await rig.ready()
    t.is(rig.csts, CSTS.RDY)
    await rig.sim.close()
  })

  test(`a function-level reset: registers as after power on, mappings stay (${address})`, async (t) => {
    const rig = await bringUp(address)
    await rig.createPair(1, 4)
    await rig.sim.reset()
    t.is(rig.csts, 0)
    t.is(rig.sim.readRegister(0x14), 0)
    t.is(rig.sim.readRegister(0x28), 0)
    rig.enable()
    await rig.ready()
    const buf = rig.alloc(1)
    const smart = await rig.admin({ opcode: 2, nsid: 0xffff_ffff, prp1: buf, dw: [0x007f_0002] })
    t.is(smart.status, 0)
    const log = Buffer.from(rig.at(buf, 512))
    t.is(log.readUInt32LE(112), 2, 'power cycles')
    t.is(log.readUInt32LE(144), 1, 'unsafe shutdowns')
    await rig.sim.close()
  })

  const wrong: [string, (rig: Rig) => void][] = [
    ['admin queue of one entry', (rig) => rig.sim.writeRegister(0x24, 0x001f_0000)],
    ['admin completion queue of one entry', (rig) => rig.sim.writeRegister(0x24, 0x0000_001f)],
    ['ASQ in the middle of a page', (rig) => rig.sim.writeRegister(0x28, rig.sim.readRegister(0x28) + 64)],
    ['ACQ that is not mapped', (rig) => rig.sim.writeRegister(0x34, 0x7fff)],
    ['ASQ that is not mapped', (rig) => rig.sim.writeRegister(0x2c, 0x7fff)],
  ]
  for (const [name, spoil] of wrong) {
    test(`enabling is fatal: ${name} (${address})`, async (t) => {
      const rig = await bringUp(address)
      rig.sim.writeRegister(0x14, 0)
      await until(() => rig.csts === 0)
      spoil(rig)
      rig.sim.writeRegister(0x14, CC_ENABLE)
      await until(() => rig.csts !== 0)
      t.is(rig.csts, CSTS.CFS)
      rig.sim.writeRegister(0x14, 0)
      await until(() => rig.csts === 0)
      rig.enable()
      await rig.ready()
      t.is(rig.csts, CSTS.RDY)
      await rig.sim.close()
    })
  }

  test(`CC.EN 0 and 1 at once, which no poll sees apart, are a reset all the same (${address})`, async (t) => {
    const rig = await bringUp(address)
    for (let i = 0; i < 20; i++) {
      rig.sim.controls.goFatal()
      t.is(rig.csts, CSTS.RDY | CSTS.CFS)
      rig.sim.writeRegister(0x14, 0)
      rig.sim.writeRegister(0x14, CC_ENABLE)
      await until(() => rig.csts === CSTS.RDY)
    }
    await rig.sim.close()
  })

  for (const [name, cc] of [
    ['command set', CC_ENABLE | (1 << 4)],
    ['arbitration', CC_ENABLE | (1 << 11)],
    ['page size', CC_ENABLE | (5 << 7)],
  ] as const) {
    test(`enabling is fatal: unknown ${name} (${address})`, async (t) => {
      const rig = await bringUp(address)
      rig.sim.writeRegister(0x14, 0)
      await until(() => rig.csts === 0)
      rig.sim.writeRegister(0x14, cc)
      await until(() => rig.csts !== 0)
      t.is(rig.csts, CSTS.CFS)
      await rig.sim.close()
    })
  }

  test(`memory of the admin queue that is unmapped is fatal (${address})`, async (t) => {
    const rig = await bringUp(address)
    rig.sim.unmapDma(rig.arena)
    await until(() => rig.csts !== CSTS.RDY)
    t.is(rig.csts & CSTS.CFS, CSTS.CFS)
    await rig.sim.close()
  })

  for (const dstrd of [0, 1, 4, 8]) {
    test(`doorbells with a stride of ${4 << dstrd} bytes (${address})`, async (t) => {
      const rig = await bringUp(`${address}&dstrd=${dstrd}&qcount=20`)
      t.true(rig.sim.doorbells.length >= 2 * 21 * rig.stride)
      await rig.createPair(20, 4)
      const buf = rig.alloc(1)
      const read = await rig.run(20, { opcode: READ, nsid: 1, prp1: buf, dw: range(0, 1) })
      t.like(read, { status: 0, sqid: 20 })
      await rig.sim.close()
    })
  }
}

test('host pages of 64 KiB', async (t) => {
  const rig = new Rig(await openSim('sim:?size=1M'), 2 ** 24)
  const { sim } = rig
  const align = 65536 - (rig.arena.iova % 65536)
  rig.alloc((align % 65536) / 4096)
  const sq = rig.alloc(16)
  const cq = rig.alloc(16)
  sim.writeRegister(0x24, 0x001f_001f)
  sim.writeRegister(0x28, sq >>> 0)
  sim.writeRegister(0x2c, Math.floor(sq / 2 ** 32))
  sim.writeRegister(0x30, cq >>> 0)
  sim.writeRegister(0x34, Math.floor(cq / 2 ** 32))
  sim.writeRegister(0x14, CC_ENABLE | (4 << 7))
  rig.addRing(0, 32, sq, cq)
  t.is(rig.csts, CSTS.RDY)
  const [iosq, iocq, buf] = [rig.alloc(16), rig.alloc(16), rig.alloc(16)]
  t.is((await rig.admin({ opcode: 5, prp1: iocq, dw: [0x0003_0001, 1] })).status, 0)
  t.is((await rig.admin({ opcode: 1, prp1: iosq, dw: [0x0003_0001, 0x0001_0001] })).status, 0)
  rig.addRing(1, 4, iosq, iocq)
  rig.at(buf, 65536).fill(7)
  t.is((await rig.run(1, { opcode: 1, nsid: 1, prp1: buf, dw: range(0, 128) })).status, 0)
  rig.at(buf, 65536).fill(0)
  t.is((await rig.run(1, { opcode: 2, nsid: 1, prp1: buf + 512, dw: range(0, 127) })).status, 0)
  t.true(rig.at(buf + 512, 127 * 512).every((byte) => byte === 7))
  t.true(rig.at(buf, 512).every((byte) => byte === 0))
  await sim.close()
})
