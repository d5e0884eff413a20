import test from 'ava'
import { pageRuns } from '../../lib/pci/bar.ts'

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
