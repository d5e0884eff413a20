import test from 'ava'
import { OutOfRangeError, UnsupportedError } from '../../lib/errors.ts'
import { createSharedMemory, destroySharedMemory, viewOf } from '../../lib/memory/mapping.ts'
import { mapBar, pageRuns } from '../../lib/pci/bar.ts'

const runs = (size: number, areas: [offset: number, size: number][], bytes = 2 ** 24) =>
  pageRuns({ size, areas: areas.map(([offset, length]) => ({ offset, size: length })) }, bytes)

test('a region without gaps is one run', (t) => {
  t.deepEqual(runs(0x4000, [[0, 0x4000]]), [{ start: 0, end: 0x4000 }])
})

test('a gap for the MSI-X table', (t) => {
  const areas: [number, number][] = [
    [0, 0x2000],
    [0x3000, 0x1000],
  ]
  t.deepEqual(runs(0x4000, areas), [
    { start: 0, end: 0x2000 },
    { start: 0x3000, end: 0x4000 },
  ])
})

test('areas that are no whole pages lose what sticks out, but for the region that ends inside a page', (t) => {
  t.deepEqual(runs(0x4000, [[0x100, 0x2000]]), [{ start: 0x1000, end: 0x2000 }])
  t.deepEqual(runs(0x2800, [[0, 0x2800]]), [{ start: 0, end: 0x3000 }])
})

test('no more than asked for', (t) => {
  t.deepEqual(runs(2 ** 30, [[0, 2 ** 30]], 0x8000), [{ start: 0, end: 0x8000 }])
  t.deepEqual(runs(2 ** 30, [[2 ** 29, 0x1000]], 0x8000), [])
})

// A memfd in place of a device's file: BAR 0 begins at its second page and has a gap at 3000h.
const REGION_OFFSET = 0x1000
const SIZE = 0x5000
const areas = [
  { offset: 0, size: 0x3000 },
  { offset: 0x4000, size: 0x1000 },
]

function makeDevice() {
  const memory = createSharedMemory(REGION_OFFSET + SIZE)
  const device = new Uint32Array(viewOf(memory.address, memory.bytes))
  const calls: string[] = []
  const access = {
    read: (offset: number) => calls.push(`read ${offset}`) + 100,
    write: (offset: number, value: number) => void calls.push(`write ${offset} ${value}`),
  }
  const region = { flags: 0, capOffset: 0, size: SIZE, offset: REGION_OFFSET, areas }
  const bar = mapBar(memory.fd, region, access, 'test')
  return { device, calls, bar, word: (offset: number) => (REGION_OFFSET + offset) / 4, memory }
}

test('registers and doorbells reach the device, a gap is reached by call', (t) => {
  const { device, calls, bar, word, memory } = makeDevice()
  bar.write(0x14, 0x0046_0001)
  t.is(device[word(0x14)], 0x0046_0001)
  device[word(0x1c)] = 1
  t.is(bar.read(0x1c), 1)
  bar.doorbells[2] = 77
  t.is(device[word(0x1008)], 77)
  t.is(bar.doorbells.length, 0x2000 / 4, 'as far as the first gap')
  t.is(bar.read(0x3004), 101)
  bar.write(0x3004, 5)
  t.deepEqual(calls, ['read 12292', 'write 12292 5'])
  bar.write(0x4000, 6)
  t.is(device[word(0x4000)], 6)
  for (const offset of [-4, 2, SIZE, Number.NaN]) {
    t.throws(() => bar.read(offset), { instanceOf: OutOfRangeError })
  }
  bar.retire()
  destroySharedMemory(memory)
})

test('covered, it reads all-ones and the device is not touched; uncovered, it is there again', (t) => {
  const { device, bar, word, memory } = makeDevice()
  device[word(0x1c)] = 1
  bar.cover()
  bar.cover()
  t.is(bar.read(0x1c), 0xffff_ffff)
  t.is(bar.doorbells[0], 0xffff_ffff)
  bar.doorbells[0] = 9
  bar.write(0x14, 9)
  t.is(device[word(0x1000)], 0)
  t.is(device[word(0x14)], 0)
  bar.uncover()
  t.is(bar.read(0x1c), 1)
  bar.doorbells[0] = 9
  t.is(device[word(0x1000)], 9)
  bar.retire()
  destroySharedMemory(memory)
})

test('after it is retired, what another thread was given still reads all-ones', (t) => {
  const { device, bar, word, memory } = makeDevice()
  const { doorbells, registers } = bar.share()
  const words = ({ address, bytes }: { address: bigint; bytes: number }) =>
    new Uint32Array(viewOf(address, bytes))
  const others = [doorbells, registers].map((shared) => words(shared as { address: bigint; bytes: number }))
  device[word(0x1000)] = 4
  t.is(others[0]![0], 4)
  bar.retire()
  bar.retire()
  for (const view of others) {
    t.is(view[0], 0xffff_ffff)
    view[0] = 3
  }
  t.is(device[word(0x1000)], 4)
  t.is(bar.read(0x1c), 0xffff_ffff)
  destroySharedMemory(memory)
})

test('doorbells that can not be mapped, and a BAR that is too small', (t) => {
  const { bar, memory } = makeDevice()
  const access = { read: () => 0, write: () => {} }
  const region = { flags: 0, capOffset: 0, size: SIZE, offset: 0 }
  t.throws(() => mapBar(memory.fd, { ...region, areas: [{ offset: 0, size: 0x1000 }] }, access, 'test'), {
    instanceOf: UnsupportedError,
    message: /doorbells/,
  })
  t.throws(() => mapBar(memory.fd, { ...region, size: 0x1000, areas }, access, 'test'), {
    instanceOf: UnsupportedError,
    message: /4096 bytes/,
  })
  bar.retire()
  destroySharedMemory(memory)
})
