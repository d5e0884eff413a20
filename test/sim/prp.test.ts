import test from 'ava'
import fc from 'fast-check'
import { STATUS } from '../../lib/nvme/spec/status.ts'
import { bringUp, PAGE, READ, type Rig, range, WRITE } from './ring.ts'

const hosts = ['', '&thread=1']

function fill(bytes: Uint8Array, seed: number): Uint8Array {
  for (let i = 0; i < bytes.length; i++) bytes[i] = (i * 31 + (i >>> 8) * 17 + seed) & 0xff
  return bytes
}

/** Writes PRP entries at an IOVA. */
function writeList(rig: Rig, at: number, entries: readonly number[]): void {
  const words = rig.wordsAt(at)
  entries.forEach((iova, i) => {
    words[2 * i] = iova >>> 0
    words[2 * i + 1] = Math.floor(iova / 2 ** 32)
  })
}

for (const host of hosts) {
  const address = `sim:?size=16M&mdts=0${host}`

  test(`scattered pages through a list are read and written in order (${address})`, async (t) => {
    const rig = await bringUp(address)
    await rig.createPair(1, 4)
    const pages = 9
    const base = rig.alloc(2 * pages)
    const list = rig.alloc(1)
    // Every other page, last first: nothing is contiguous.
    const iovas = Array.from({ length: pages }, (_, i) => base + 2 * (pages - 1 - i) * PAGE)
    iovas.forEach((iova, i) => {
      fill(rig.at(iova, PAGE), i)
    })
    writeList(rig, list, iovas.slice(1))
    const command = { nsid: 1, prp1: iovas[0]!, prp2: list, dw: range(3, pages * 8) }
    t.is((await rig.run(1, { opcode: WRITE, ...command })).status, 0)
    const flat = rig.alloc(pages)
    const flatList = rig.alloc(1)
    writeList(
      rig,
      flatList,
      Array.from({ length: pages - 1 }, (_, i) => flat + (i + 1) * PAGE),
    )
    t.is((await rig.run(1, { opcode: READ, ...command, prp1: flat, prp2: flatList })).status, 0)
    iovas.forEach((iova, i) => {
      t.deepEqual(rig.at(flat + i * PAGE, PAGE), rig.at(iova, PAGE), `page ${i}`)
    })
    rig.at(base, 2 * pages * PAGE).fill(0)
    t.is((await rig.run(1, { opcode: READ, ...command })).status, 0)
    iovas.forEach((iova, i) => {
      t.deepEqual(rig.at(iova, PAGE), rig.at(flat + i * PAGE, PAGE), `page ${i} again`)
    })
    await rig.sim.close()
  })

  test(`a list longer than a page is chained, from any place in its first page (${address})`, async (t) => {
    const rig = await bringUp(address, {}, 2 ** 25)
    await rig.createPair(1, 4)
    const pages = 1200
    const from = rig.alloc(pages)
    const to = rig.alloc(pages)
    const lists = rig.alloc(6)
    fill(rig.at(from, pages * PAGE), 5)
    const chain = (data: number, start: number) => {
      let [page, at] = [lists, start]
      let entries: number[] = []
      for (let i = 1; i < pages; i++) {
        const room = (PAGE - at) / 8
        if (entries.length === room - 1 && i < pages - 1) {
          writeList(rig, page + at, [...entries, page + PAGE])
          page += PAGE
          at = 0
          entries = []
        }
        entries.push(data + i * PAGE)
      }
      writeList(rig, page + at, entries)
      return lists + start
    }
    for (const start of [0, 8, 2048, PAGE - 8]) {
      const dw = range(0, pages * 8)
      const write = await rig.run(1, { opcode: WRITE, nsid: 1, prp1: from, prp2: chain(from, start), dw })
      t.is(write.status, 0, `list at ${start}`)
      rig.at(to, pages * PAGE).fill(0)
      const read = await rig.run(1, { opcode: READ, nsid: 1, prp1: to, prp2: chain(to, start), dw })
      t.is(read.status, 0)
      t.true(Buffer.from(rig.at(to, pages * PAGE)).equals(rig.at(from, pages * PAGE)))
    }
    await rig.sim.close()
  })

  const refusals: [
    string,
    number,
    (rig: Rig, buf: number, list: number) => { prp1: number; prp2: number },
  ][] = [
    ['PRP1 not on a dword', STATUS.PRP_OFFSET_INVALID, (_, buf) => ({ prp1: buf + 2, prp2: buf + PAGE })],
    ['PRP2 off its page', STATUS.PRP_OFFSET_INVALID, (_, buf) => ({ prp1: buf, prp2: buf + PAGE + 4 })],
    ['PRP1 not mapped', STATUS.DATA_TRANSFER_ERROR, (_, buf) => ({ prp1: 0x5000, prp2: buf })],
    ['PRP2 not mapped', STATUS.DATA_TRANSFER_ERROR, (_, buf) => ({ prp1: buf, prp2: 0x5000 })],
    ['PRP2 of zero', STATUS.DATA_TRANSFER_ERROR, (_, buf) => ({ prp1: buf, prp2: 0 })],
    [
      'PRP1 behind the end of the mapping',
      STATUS.DATA_TRANSFER_ERROR,
      (rig, buf) => ({ prp1: rig.arena.iova + rig.arena.bytes, prp2: buf }),
    ],
    [
      'PRP1 before the mapping',
      STATUS.DATA_TRANSFER_ERROR,
      (rig, buf) => ({ prp1: rig.arena.iova - PAGE, prp2: buf }),
    ],
  ]
  test(`addresses that are wrong or not mapped fail the command, and touch nothing (${address})`, async (t) => {
    const rig = await bringUp(address)
    await rig.createPair(1, 4)
    const buf = rig.alloc(3)
    const list = rig.alloc(1)
    const whole = rig.at(buf, 3 * PAGE).fill(0xee)
    for (const [name, status, make] of refusals) {
      const prps = make(rig, buf, list)
      for (const opcode of [READ, WRITE]) {
        t.is((await rig.run(1, { opcode, nsid: 1, ...prps, dw: range(0, 16) })).status, status, name)
      }
      t.true(
        whole.every((byte) => byte === 0xee),
        name,
      )
    }
    t.is((await rig.run(1, { opcode: READ, nsid: 1, prp1: buf, dw: range(0, 8) })).status, 0)
    t.true(
      rig.at(buf, PAGE).every((byte) => byte === 0),
      'nothing was written to the medium',
    )
    await rig.sim.close()
  })

  test(`a list that is wrong fails the command, and touches nothing (${address})`, async (t) => {
    const rig = await bringUp(address)
    await rig.createPair(1, 4)
    const buf = rig.alloc(4)
    const list = rig.alloc(1)
    const whole = rig.at(buf, 4 * PAGE).fill(0xee)
    const run = (prp2: number) => rig.run(1, { opcode: READ, nsid: 1, prp1: buf, prp2, dw: range(0, 32) })
    writeList(rig, list, [buf + PAGE, buf + 2 * PAGE, buf + 3 * PAGE + 8])
    t.is((await run(list)).status, STATUS.PRP_OFFSET_INVALID, 'entry off its page')
    writeList(rig, list, [buf + PAGE, 0x7000, buf + 3 * PAGE])
    t.is((await run(list)).status, STATUS.DATA_TRANSFER_ERROR, 'entry not mapped')
    t.is((await run(list + 4)).status, STATUS.PRP_OFFSET_INVALID, 'list not on a quadword')
    t.is((await run(0x7000)).status, STATUS.DATA_TRANSFER_ERROR, 'list not mapped')
    writeList(rig, list + PAGE - 8, [0x7000])
    t.is((await run(list + PAGE - 8)).status, STATUS.DATA_TRANSFER_ERROR, 'next list not mapped')
    writeList(rig, list + PAGE - 8, [list + 8])
    t.is((await run(list + PAGE - 8)).status, STATUS.PRP_OFFSET_INVALID, 'next list off its page')
    t.true(whole.every((byte) => byte === 0xee))
    await rig.sim.close()
  })

  test(`memory that was unmapped is out of reach, memory mapped later is not (${address})`, async (t) => {
    const rig = await bringUp(address)
    await rig.createPair(1, 4)
    const more = rig.sim.mapDma(8 * PAGE)
    const read = (prp1: number) => rig.run(1, { opcode: READ, nsid: 1, prp1, dw: range(0, 8) })
    t.is((await read(more.iova)).status, 0)
    t.is((await read(more.iova + 7 * PAGE)).status, 0)
    t.is((await read(more.iova + 8 * PAGE)).status, STATUS.DATA_TRANSFER_ERROR)
    rig.sim.unmapDma(more)
    t.is((await read(more.iova)).status, STATUS.DATA_TRANSFER_ERROR)
    const again = rig.sim.mapDma(4 * PAGE)
    t.is(again.iova, more.iova, 'the hole is used again')
    t.is((await read(again.iova)).status, 0)
    t.is((await read(again.iova + 4 * PAGE)).status, STATUS.DATA_TRANSFER_ERROR)
    await rig.sim.close()
  })

  test(`arenas beyond the window are reached as well (${address})`, async (t) => {
    const rig = await bringUp(address)
    await rig.createPair(1, 4)
    // The window holds 512 MiB; memory is taken from the system only where it is touched.
    const big = rig.sim.mapDma(2 ** 29)
    t.true(big.iova > 2 ** 32)
    const buf = rig.alloc(1)
    fill(rig.at(buf, PAGE), 9)
    t.is((await rig.run(1, { opcode: WRITE, nsid: 1, prp1: buf, dw: range(0, 8) })).status, 0)
    const far = big.iova + big.bytes - PAGE
    t.is((await rig.run(1, { opcode: READ, nsid: 1, prp1: far, dw: range(0, 8) })).status, 0)
    t.is((await rig.run(1, { opcode: WRITE, nsid: 1, prp1: far, dw: range(8, 8) })).status, 0)
    t.is((await rig.run(1, { opcode: READ, nsid: 1, prp1: far + 512, dw: range(8, 7) })).status, 0)
    rig.at(buf, PAGE).fill(0)
    t.is((await rig.run(1, { opcode: READ, nsid: 1, prp1: buf, dw: range(8, 8) })).status, 0)
    t.deepEqual(rig.at(buf, PAGE), fill(new Uint8Array(PAGE), 9))
    rig.sim.unmapDma(big)
    t.is(
      (await rig.run(1, { opcode: READ, nsid: 1, prp1: far, dw: range(0, 8) })).status,
      STATUS.DATA_TRANSFER_ERROR,
    )
    await rig.sim.close()
  })
}

test('arenas: whole pages, no larger than a view', async (t) => {
  const rig = await bringUp('sim:?size=1M')
  for (const bytes of [0, -PAGE, 100, PAGE + 1, 2 ** 31 + PAGE, 1.5 * PAGE, Number.NaN]) {
    t.throws(() => rig.sim.mapDma(bytes), { code: 'ERR_OUT_OF_RANGE' }, `${bytes}`)
  }
  await rig.sim.close()
})

test('reads and writes of any place, length and scattering match a plain array', async (t) => {
  const blocks = 512
  for (const lba of [512, 4096]) {
    const rig = await bringUp(`sim:?size=${blocks * lba}&lba=${lba}&mdts=6`, {}, 2 ** 23)
    await rig.createPair(1, 8)
    const medium = new Uint8Array(blocks * lba)
    const list = rig.alloc(2)
    const pool = rig.alloc(256)
    const operation = fc.record({
      write: fc.boolean(),
      slba: fc.nat(blocks - 1),
      nlb: fc.integer({ min: 1, max: 262144 / lba }),
      offset: fc.nat(1023).map((n) => n * 4),
      stride: fc.integer({ min: 1, max: 3 }),
      seed: fc.nat(255),
    })
    const check = async (op: {
      write: boolean
      slba: number
      nlb: number
      offset: number
      stride: number
      seed: number
    }) => {
      const nlb = Math.min(op.nlb, blocks - op.slba)
      const bytes = nlb * lba
      const pages = Math.ceil((op.offset + bytes) / PAGE)
      const iovas = Array.from({ length: pages }, (_, i) => pool + i * op.stride * PAGE)
      const prp1 = iovas[0]! + op.offset
      writeList(rig, list, iovas.slice(1))
      const prp2 = pages > 2 ? list : (iovas[1] ?? 0)
      const start = op.slba * lba
      const parts = iovas.map((iova, i) => {
        const from = i === 0 ? op.offset : 0
        const at = i === 0 ? 0 : i * PAGE - op.offset
        return { at, view: rig.at(iova + from, Math.min(PAGE - from, bytes - at)) }
      })
      if (op.write) for (const { view } of parts) fill(view, op.seed)
      const opcode = op.write ? WRITE : READ
      const { status } = await rig.run(1, { opcode, nsid: 1, prp1, prp2, dw: range(op.slba, nlb) })
      if (status !== 0) throw new Error(`status ${status.toString(16)}`)
      for (const { at, view } of parts) {
        if (op.write) medium.set(view, start + at)
        else if (!Buffer.from(view).equals(medium.subarray(start + at, start + at + view.length))) {
          throw new Error(`differs at ${start + at}`)
        }
      }
    }
    await t.notThrowsAsync(
      fc.assert(
        fc.asyncProperty(fc.array(operation, { maxLength: 30 }), async (ops) => {
          for (const op of ops) await check(op)
        }),
        { numRuns: 150 },
      ),
    )
    await rig.sim.close()
  }
})
