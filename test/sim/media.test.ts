import { execFileSync, spawnSync } from 'node:child_process'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import test from 'ava'
import { STATUS } from '../../lib/nvme/spec/status.ts'
import { openSim } from '../../lib/sim/index.ts'
import { bringUp, PAGE, READ, type Rig, range, WRITE } from './ring.ts'

const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'unvme-sim-'))
test.after.always(() => fs.rmSync(dir, { recursive: true }))
let images = 0
const image = () => path.join(dir, `${images++}.img`)

const DSM = 9
const ZEROES = 8
const COMPARE = 5
const VERIFY = 12

async function open(address: string) {
  const rig = await bringUp(address)
  await rig.createPair(1, 8)
  const buf = rig.alloc(2)
  return { rig, buf, data: rig.at(buf, 2 * PAGE) }
}

const io = async (rig: Rig, opcode: number, buf: number, slba: number, nlb: number, nsid = 1) =>
  (await rig.run(1, { opcode, nsid, prp1: buf, prp2: buf + PAGE, dw: range(slba, nlb) })).status

for (const host of ['', '&thread=1']) {
  test(`an image is created sparse, and kept across runs (sim:FILE?size=64M${host})`, async (t) => {
    const file = image()
    const first = await open(`sim:${file}?size=64M${host}`)
    t.is(fs.statSync(file).size, 2 ** 26)
    t.is(fs.statSync(file).blocks, 0)
    first.data.forEach((_, i) => {
      first.data[i] = i * 3 + (i >> 8)
    })
    t.is(await io(first.rig, WRITE, first.buf, 1000, 16), 0)
    t.is(await io(first.rig, 0, first.buf, 0, 1), 0, 'flush')
    const expected = Buffer.from(first.data)
    await first.rig.sim.close()
    t.deepEqual(fs.readFileSync(file).subarray(512_000, 512_000 + 2 * PAGE), expected)
    const second = await open(`sim:${file}${host ? `?${host.slice(1)}` : ''}`)
    t.is(await io(second.rig, READ, second.buf, 1000, 16), 0)
    t.true(second.data.every((byte, i) => byte === ((i * 3 + (i >> 8)) & 0xff)))
    t.is(await io(second.rig, COMPARE, second.buf, 1000, 16), 0)
    t.is(await io(second.rig, COMPARE, second.buf, 1001, 15), STATUS.COMPARE_FAILURE)
    t.is(await io(second.rig, VERIFY, second.buf, 1000, 16), 0)
    t.is(await io(second.rig, READ, second.buf, 2 ** 17, 1), STATUS.LBA_OUT_OF_RANGE)
    await second.rig.sim.close()
  })

  test(`deallocated and zeroed blocks become holes (sim:FILE${host})`, async (t) => {
    const file = image()
    fs.writeFileSync(file, Buffer.alloc(2 ** 20, 7))
    const full = fs.statSync(file).blocks
    const { rig, buf, data } = await open(`sim:${file}${host ? `?${host.slice(1)}` : ''}`)
    rig.wordsAt(buf).set([0, 1024, 0, 0])
    t.is((await rig.run(1, { opcode: DSM, nsid: 1, prp1: buf, dw: [0, 4] })).status, 0)
    t.is(await io(rig, ZEROES, buf, 1024, 100), 0)
    t.true(fs.statSync(file).blocks < full)
    t.is(fs.statSync(file).size, 2 ** 20)
    for (const [slba, expected] of [
      [0, 0],
      [1023, 0],
      [1123, 0],
      [1124, 7],
      [2047, 7],
    ] as const) {
      t.is(await io(rig, READ, buf, slba, 1), 0)
      t.true(
        data.subarray(0, 512).every((byte) => byte === expected),
        `block ${slba}`,
      )
    }
    await rig.sim.close()
  })

  test(`what Write Uncorrectable marked stays so across runs, until it is written (sim:FILE${host})`, async (t) => {
    const file = image()
    const address = `sim:${file}?size=1M${host}`
    const UNCORRECTABLE = 4
    const reads = async (rig: Rig, buf: number, expected: readonly number[]) => {
      for (const slba of expected.keys()) t.is(await io(rig, READ, buf, slba, 1), expected[slba]!, `${slba}`)
    }
    const { UNRECOVERED_READ_ERROR: BAD } = STATUS
    const first = await open(address)
    t.is(await io(first.rig, UNCORRECTABLE, first.buf, 1, 3), 0)
    await reads(first.rig, first.buf, [0, BAD, BAD, BAD, 0])
    t.is(await io(first.rig, WRITE, first.buf, 2, 1), 0)
    await first.rig.sim.close()
    const second = await open(address)
    await reads(second.rig, second.buf, [0, BAD, 0, BAD, 0])
    t.is(await io(second.rig, ZEROES, second.buf, 0, 8), 0)
    await second.rig.sim.close()
    const third = await open(address)
    await reads(third.rig, third.buf, [0, 0, 0, 0, 0])
    await third.rig.sim.close()
  })

  test(`namespaces stand one after the other in the image (sim:FILE?ns=2,7${host})`, async (t) => {
    const file = image()
    const { rig, buf, data } = await open(`sim:${file}?size=1M&ns=2,7${host}`)
    t.is(fs.statSync(file).size, 2 ** 21)
    for (const nsid of [2, 7]) {
      data.fill(nsid)
      t.is(await io(rig, WRITE, buf, 2047, 1, nsid), 0)
      t.is(await io(rig, WRITE, buf, 2048, 1, nsid), STATUS.LBA_OUT_OF_RANGE)
    }
    await rig.sim.close()
    const bytes = fs.readFileSync(file)
    t.deepEqual([bytes[2 ** 20 - 1], bytes[2 ** 20], bytes[2 ** 21 - 1]], [2, 0, 7])
    const again = await open(`sim:${file}?ns=2${host}`)
    t.is(await io(again.rig, READ, again.buf, 2047, 1, 2), 0)
    t.is(again.data[0], 7)
    await again.rig.sim.close()
  })

  test(`an image that is cut short under the controller fails reads (sim:FILE${host})`, async (t) => {
    const file = image()
    const { rig, buf } = await open(`sim:${file}?size=1M${host}`)
    fs.truncateSync(file, 2 ** 19)
    t.is(await io(rig, READ, buf, 1000, 8), 0)
    t.is(await io(rig, READ, buf, 1020, 8), STATUS.UNRECOVERED_READ_ERROR)
    t.is(await io(rig, COMPARE, buf, 1500, 8), STATUS.UNRECOVERED_READ_ERROR)
    await rig.sim.close()
  })
}

const bad: [name: string, bytes: number | undefined, address: (file: string) => string, message: RegExp][] = [
  ['missing', undefined, (file) => `sim:${file}`, /does not exist; size=… creates it/],
  ['too short', 4096, (file) => `sim:${file}?size=8K`, /has 4096 bytes, and size= asks for 8192/],
  [
    'too short for two',
    8192,
    (file) => `sim:${file}?size=8K&ns=2`,
    /has 8192 bytes, and size= asks for 16384 \(2 namespaces of 8192\)/,
  ],
  ['no number of blocks', 1000, (file) => `sim:${file}`, /1000 bytes, which is no number of 512 byte blocks/],
  [
    'no number of blocks in shares',
    4096,
    (file) => `sim:${file}?lba=4096&ns=2`,
    /4096 bytes, which is no number of 4096 byte blocks in 2 equal namespaces/,
  ],
  ['empty', 0, (file) => `sim:${file}`, /has 0 bytes/],
  ['a directory', undefined, () => `sim:${dir}`, /can't be opened: EISDIR/],
  ['no regular file', undefined, () => 'sim:/dev/null', /is no regular file/],
  ['in no directory', undefined, () => 'sim:/nowhere/at/all.img?size=1M', /can't be opened: ENOENT/],
]
for (const [name, bytes, address, message] of bad) {
  test(`refused: an image that is ${name}`, async (t) => {
    const file = image()
    if (bytes !== undefined) fs.writeFileSync(file, Buffer.alloc(bytes, 1))
    await t.throwsAsync(openSim(address(file)), { code: 'ERR_UNVME_IMAGE', message })
    t.is(fs.existsSync(file), bytes !== undefined)
    if (bytes !== undefined) t.deepEqual(fs.readFileSync(file), Buffer.alloc(bytes, 1), 'left as it was')
  })
}

test('a larger image keeps what is behind the size that was asked for', async (t) => {
  const file = image()
  fs.writeFileSync(file, Buffer.alloc(2 ** 20, 7))
  const { rig, buf } = await open(`sim:${file}?size=64K`)
  t.is(await io(rig, READ, buf, 127, 1), 0)
  t.is(await io(rig, READ, buf, 128, 1), STATUS.LBA_OUT_OF_RANGE)
  await rig.sim.close()
  t.is(fs.statSync(file).size, 2 ** 20)
})

test('an image is one controller’s alone, in this process and in others', async (t) => {
  const file = image()
  const rig = await bringUp(`sim:${file}?size=1M`)
  const inUse = { code: 'ERR_UNVME_IN_USE', message: /is in use/ }
  const error = await t.throwsAsync(openSim(`sim:${file}`), inUse)
  t.like(error?.cause, { code: 'EAGAIN', syscall: 'flock', path: file })
  await t.throwsAsync(openSim(`sim:${file}?thread=1`), inUse)
  const script = `
    import { openSim } from ${JSON.stringify(new URL('../../lib/sim/index.js', import.meta.url).href)}
    try { await (await openSim(process.argv[1])).close(); console.log('opened') } catch (e) { console.log(e.code) }`
  const other = () =>
    spawnSync(process.execPath, ['--input-type=module', '-e', script, `sim:${file}`], { encoding: 'utf8' })
      .stdout
  t.is(other(), 'ERR_UNVME_IN_USE\n')
  await rig.sim.close()
  t.is(other(), 'opened\n')
})

test('memory media of many TiB: every end of them is there, and what was not written reads zeroes', async (t) => {
  for (const host of ['', '&thread=1']) {
    const { rig, buf, data } = await open(`sim:?size=16T&ns=3&lba=4096${host}`)
    const last = 2 ** 32 - 1
    // Where the first view ends; each further one has 1 GiB.
    const near = (2 ** 31 - 2 ** 21 - 2 ** 29) / 4096
    for (const nsid of [1, 2, 3]) {
      for (const slba of [0, near - 1, near + 2 ** 18 - 1, last - 1]) {
        data.fill(0xee)
        t.is(await io(rig, READ, buf, slba, 2, nsid), 0)
        t.true(data.every((byte) => byte === 0))
        data.fill(nsid)
        data[PAGE] = 0x77
        t.is(await io(rig, WRITE, buf, slba, 2, nsid), 0)
        data.fill(0)
        t.is(await io(rig, READ, buf, slba, 2, nsid), 0)
        t.deepEqual([data[0], data[PAGE - 1], data[PAGE], data[2 * PAGE - 1]], [nsid, nsid, 0x77, nsid])
        t.is(await io(rig, COMPARE, buf, slba, 2, nsid), 0)
      }
    }
    // A large range is given back to the system; its neighbours stay.
    t.is(await io(rig, WRITE, buf, near - 600, 2), 0)
    t.is((await rig.run(1, { opcode: ZEROES, nsid: 1, dw: range(near - 599, 2000) })).status, 0)
    t.is(await io(rig, READ, buf, near - 600, 2), 0)
    t.deepEqual([data[0], data[PAGE], data[2 * PAGE - 1]], [3, 0, 0])
    t.is(await io(rig, READ, buf, near - 1, 2), 0)
    t.true(data.every((byte) => byte === 0))
    await rig.sim.close()
  }
})

test.serial('populate=1 takes the memory of the medium when it is opened', async (t) => {
  const resident = () => Number(/VmRSS:\s+(\d+) kB/.exec(fs.readFileSync('/proc/self/status', 'latin1'))![1])
  for (const host of ['', '&thread=1']) {
    const before = resident()
    const sim = await openSim(`sim:?size=256M&populate=1${host}`)
    t.true(resident() - before > 0.9 * 2 ** 18, `${resident() - before} kB more`)
    await sim.close()
    t.true(resident() - before < 0.1 * 2 ** 18, 'given back')
  }
  await t.throwsAsync(openSim('sim:?size=16T&populate=1'), {
    code: 'ERR_UNVME_OUT_OF_MEMORY',
    message: /17592186044416 bytes in memory: the system does not give as much at once/,
  })
})

test('an idle or closed controller does not keep the process alive', (t) => {
  const lib = new URL('../../lib/sim/index.js', import.meta.url).href
  for (const [address, end] of [
    ['sim:?size=1M', ''],
    ['sim:?size=1M&thread=1', ''],
    ['sim:?size=1M&thread=1', 'await sim.close()'],
  ]) {
    const script = `
      import { openSim } from ${JSON.stringify(lib)}
      const sim = await openSim(process.argv[1]); sim.mapDma(4096); ${end}; console.log('end')`
    const out = execFileSync(process.execPath, ['--input-type=module', '-e', script, address!], {
      encoding: 'utf8',
      timeout: 60_000,
    })
    t.is(out, 'end\n')
  }
})
