import test from 'ava'
import { bringUp, PAGE, READ, range, WRITE } from './ring.ts'

for (const host of ['', '&thread=1']) {
  test(`a controller comes up, says who it is, and keeps what is written (sim:?size=64M${host})`, async (t) => {
    const rig = await bringUp(`sim:?size=64M${host}`)
    t.is(rig.csts & 3, 1)
    const buf = rig.alloc(2)
    const id = await rig.admin({ opcode: 6, prp1: buf, dw: [1] })
    t.is(id.status, 0)
    t.is(Buffer.from(rig.at(buf + 24, 18)).toString(), 'unvme simulated NV')
    await rig.createPair(1, 8)
    const data = rig.at(buf, 2 * PAGE)
    data.forEach((_, i) => {
      data[i] = i * 7
    })
    const copy = data.slice()
    const write = await rig.run(1, { opcode: WRITE, nsid: 1, prp1: buf, prp2: buf + PAGE, dw: range(5, 16) })
    t.is(write.status, 0)
    data.fill(0)
    const read = await rig.run(1, { opcode: READ, nsid: 1, prp1: buf, prp2: buf + PAGE, dw: range(5, 16) })
    t.is(read.status, 0)
    t.deepEqual(data, copy)
    await rig.sim.close()
  })
}
