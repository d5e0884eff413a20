import test from 'ava'
import { STATUS } from '../../lib/nvme/spec/status.ts'
import { bringUp, type Command, PAGE, READ, type Rig, range, WRITE } from './ring.ts'

const FLUSH = 0
const UNCORRECTABLE = 4
const COMPARE = 5
const ZEROES = 8
const DSM = 9
const VERIFY = 12
const ALL = 0xffff_ffff
const FUA = 0x4000
const DEAC = 0x0200

async function open(address: string) {
  const rig = await bringUp(address)
  await rig.createPair(1, 16)
  const buf = rig.alloc(2)
  const run = (command: Command) => rig.run(1, { nsid: 1, prp1: buf, prp2: buf + PAGE, ...command })
  const status = async (command: Command) => (await run(command)).status
  return { rig, buf, data: rig.at(buf, 2 * PAGE), run, status }
}

function writeRanges(rig: Rig, at: number, ranges: readonly (readonly [slba: number, nlb: number])[]): void {
  ranges.forEach(([slba, nlb], i) => {
    rig.wordsAt(at + i * 16).set([0, nlb, slba, Math.floor(slba / 2 ** 32)])
  })
}

for (const address of [
  'sim:?size=1M&ns=1,3',
  'sim:?size=1M&ns=1,3&thread=1',
  'sim:?size=1M&ns=1,3&lba=4096',
]) {
  const lba = address.includes('4096') ? 4096 : 512
  const blocks = 2 ** 20 / lba

  test(`what the driver may not ask is answered by the specification (${address})`, async (t) => {
    const { rig, buf, data, status } = await open(address)
    data.fill(0xee)
    const some = range(0, 1)
    const wrong: [string, number, Command][] = [
      ['opcode', STATUS.INVALID_OPCODE, { opcode: 0x55 }],
      ['opcode of an unknown namespace', STATUS.INVALID_OPCODE, { opcode: 0x55, nsid: 9 }],
      ['fused', STATUS.INVALID_FIELD, { opcode: READ, flags: 1, dw: some }],
      ['SGL', STATUS.INVALID_FIELD, { opcode: READ, flags: 0x40, dw: some }],
      ['namespace 0', STATUS.INVALID_NAMESPACE_OR_FORMAT, { opcode: READ, nsid: 0, dw: some }],
      ['namespace 2', STATUS.INVALID_NAMESPACE_OR_FORMAT, { opcode: READ, nsid: 2, dw: some }],
      ['all namespaces', STATUS.INVALID_NAMESPACE_OR_FORMAT, { opcode: WRITE, nsid: ALL, dw: some }],
      ['flush of namespace 2', STATUS.INVALID_NAMESPACE_OR_FORMAT, { opcode: FLUSH, nsid: 2 }],
      ['first LBA', STATUS.LBA_OUT_OF_RANGE, { opcode: READ, dw: range(blocks, 1) }],
      ['last LBA', STATUS.LBA_OUT_OF_RANGE, { opcode: READ, dw: range(blocks - 1, 2) }],
      ['LBA of 64 bits', STATUS.LBA_OUT_OF_RANGE, { opcode: WRITE, dw: [0, 0x8000_0000, 0] }],
      ['LBA that wraps', STATUS.LBA_OUT_OF_RANGE, { opcode: WRITE, dw: [ALL, ALL, 1] }],
      ['compare', STATUS.LBA_OUT_OF_RANGE, { opcode: COMPARE, dw: range(blocks, 1) }],
      ['write zeroes', STATUS.LBA_OUT_OF_RANGE, { opcode: ZEROES, dw: range(blocks - 1, 2) }],
      ['verify', STATUS.LBA_OUT_OF_RANGE, { opcode: VERIFY, dw: range(blocks, 1) }],
      ['write uncorrectable', STATUS.LBA_OUT_OF_RANGE, { opcode: UNCORRECTABLE, dw: range(blocks, 1) }],
    ]
    for (const [name, expected, command] of wrong) t.is(await status(command), expected, name)
    t.true(data.every((byte) => byte === 0xee))
    writeRanges(rig, buf, [
      [0, 1],
      [blocks, 1],
    ])
    t.is(await status({ opcode: DSM, dw: [1, 4] }), STATUS.LBA_OUT_OF_RANGE)
    t.is(await status({ opcode: READ, dw: range(blocks - 1, 1) }), 0)
    await rig.sim.close()
  })

  test(`namespaces keep their own blocks (${address})`, async (t) => {
    const { rig, data, status } = await open(address)
    for (const nsid of [1, 3]) {
      data.fill(nsid)
      for (const slba of [0, blocks - 1]) t.is(await status({ opcode: WRITE, nsid, dw: range(slba, 1) }), 0)
    }
    for (const nsid of [1, 3]) {
      for (const slba of [0, blocks - 1]) {
        data.fill(0)
        t.is(await status({ opcode: READ, nsid, dw: range(slba, 1) }), 0)
        t.true(data.subarray(0, lba).every((byte) => byte === nsid))
        t.true(data.subarray(lba).every((byte) => byte === 0))
      }
    }
    await rig.sim.close()
  })

  test(`flush, of one namespace and of all; forced unit access (${address})`, async (t) => {
    const { rig, status } = await open(address)
    t.is(await status({ opcode: FLUSH }), 0)
    t.is(await status({ opcode: FLUSH, nsid: ALL }), 0)
    t.is(await status({ opcode: WRITE, dw: range(0, 1, FUA) }), 0)
    t.is(await status({ opcode: READ, dw: range(0, 1, FUA) }), 0)
    await rig.sim.close()
  })

  test(`compare finds the first and the last byte (${address})`, async (t) => {
    const { rig, data, run, status } = await open(address)
    const nlb = PAGE / lba + 1
    const bytes = nlb * lba
    data.forEach((_, i) => {
      data[i] = i * 13
    })
    t.is(await status({ opcode: WRITE, dw: range(7, nlb) }), 0)
    t.is(await status({ opcode: COMPARE, dw: range(7, nlb) }), 0)
    for (const at of [0, PAGE - 1, PAGE, bytes - 1]) {
      data[at]! ^= 1
      t.like(await run({ opcode: COMPARE, dw: range(7, nlb) }), { status: STATUS.COMPARE_FAILURE, dnr: true })
      data[at]! ^= 1
    }
    data[bytes]! ^= 1
    t.is(await status({ opcode: COMPARE, dw: range(7, nlb) }), 0, 'bytes behind the last block do not count')
    await rig.sim.close()
  })

  test(`write zeroes and deallocate: what was named reads zeroes, its neighbours stay (${address})`, async (t) => {
    const { rig, buf, data, status } = await open(address)
    const each = async (expected: (slba: number) => number) => {
      for (let slba = 0; slba < 32; slba++) {
        t.is(await status({ opcode: READ, dw: range(slba, 1) }), 0)
        t.true(
          data.subarray(0, lba).every((byte) => byte === expected(slba)),
          `block ${slba}`,
        )
      }
    }
    data.fill(5)
    for (let slba = 0; slba < 32; slba++) await status({ opcode: WRITE, dw: range(slba, 1) })
    t.is(await status({ opcode: ZEROES, dw: range(3, 2) }), 0)
    t.is(await status({ opcode: ZEROES, dw: range(9, 1, DEAC) }), 0)
    t.is(await status({ opcode: ZEROES, dw: range(11, 1, FUA) }), 0)
    const zeroed = new Set([3, 4, 9, 11])
    await each((slba) => (zeroed.has(slba) ? 0 : 5))
    writeRanges(rig, buf, [
      [20, 3],
      [30, 0],
      [25, 1],
    ])
    t.is(await status({ opcode: DSM, dw: [2, 0] }), 0, 'hints alone change nothing')
    await each((slba) => (zeroed.has(slba) ? 0 : 5))
    writeRanges(rig, buf, [
      [20, 3],
      [30, 0],
      [25, 1],
    ])
    t.is(await status({ opcode: DSM, dw: [2, 4] }), 0)
    for (const slba of [20, 21, 22, 25]) zeroed.add(slba)
    await each((slba) => (zeroed.has(slba) ? 0 : 5))
    await rig.sim.close()
  })

  test(`a deallocation of 256 ranges, its list across two pages (${address})`, async (t) => {
    const { rig, data, status } = await open(address)
    const list = rig.alloc(2) + 2048
    data.fill(9)
    for (let slba = 0; slba < 256; slba++) await status({ opcode: WRITE, dw: range(slba, 1) })
    writeRanges(
      rig,
      list,
      Array.from({ length: 256 }, (_, i) => [i, i % 2] as const),
    )
    t.is(await status({ opcode: DSM, prp1: list, prp2: list + 2048, dw: [255, 4] }), 0)
    for (const slba of [0, 1, 2, 127, 128, 254, 255]) {
      await status({ opcode: READ, dw: range(slba, 1) })
      t.is(data[lba - 1], slba % 2 ? 0 : 9, `block ${slba}`)
    }
    await rig.sim.close()
  })

  test(`uncorrectable blocks fail reads until they are written (${address})`, async (t) => {
    const { rig, run, status } = await open(address)
    t.is(await status({ opcode: UNCORRECTABLE, dw: range(10, 6) }), 0)
    const read = (slba: number, nlb: number) => status({ opcode: READ, dw: range(slba, nlb), prp2: 0 })
    const one = PAGE / lba > 1 ? 2 : 1
    t.is(await read(9, 1), 0)
    t.is(await read(16, 1), 0)
    t.is(await read(11 - one, one), STATUS.UNRECOVERED_READ_ERROR)
    t.like(await run({ opcode: READ, dw: range(15, 1) }), {
      status: STATUS.UNRECOVERED_READ_ERROR,
      dnr: true,
    })
    t.is(await status({ opcode: COMPARE, dw: range(12, 1) }), STATUS.UNRECOVERED_READ_ERROR)
    t.is(await status({ opcode: VERIFY, dw: range(0, 20) }), STATUS.UNRECOVERED_READ_ERROR)
    t.is(await status({ opcode: VERIFY, dw: range(0, 10) }), 0)
    t.is(await status({ opcode: WRITE, dw: range(12, 1) }), 0)
    t.is(await read(12, 1), 0)
    t.is(await read(11, 1), STATUS.UNRECOVERED_READ_ERROR)
    t.is(await read(13, 1), STATUS.UNRECOVERED_READ_ERROR)
    t.is(await status({ opcode: ZEROES, dw: range(10, 2) }), 0)
    t.is(await status({ opcode: UNCORRECTABLE, nsid: 3, dw: range(0, 1) }), 0)
    t.is(await read(0, 1), 0, 'of another namespace')
    t.is(
      await status({ opcode: WRITE, dw: range(13, 3), prp2: rig.alloc(1) }),
      lba === 512 ? 0 : STATUS.DATA_TRANSFER_ERROR,
    )
    await rig.sim.close()
  })

  test(`a transfer above MDTS is refused (${address})`, async (t) => {
    const rig = await bringUp(`${address}&mdts=1`)
    await rig.createPair(1, 4)
    const buf = rig.alloc(3)
    const list = rig.alloc(1)
    rig
      .wordsAt(list)
      .set([
        (buf + PAGE) >>> 0,
        Math.floor((buf + PAGE) / 2 ** 32),
        (buf + 2 * PAGE) >>> 0,
        Math.floor((buf + 2 * PAGE) / 2 ** 32),
      ])
    const read = (nlb: number, prp2: number) =>
      rig.run(1, { opcode: READ, nsid: 1, prp1: buf, prp2, dw: range(0, nlb) })
    t.is((await read((2 * PAGE) / lba, buf + PAGE)).status, 0)
    t.is((await read((2 * PAGE) / lba + 1, list)).status, STATUS.INVALID_FIELD)
    t.is((await rig.run(1, { opcode: ZEROES, nsid: 1, dw: range(0, 100) })).status, 0, 'moves no data')
    await rig.sim.close()
  })
}
