// Views over memory of a thread's heap: theirs alone, empty when retired, all gone with the thread.

import fs from 'node:fs'
import { Worker } from 'node:worker_threads'
import test from 'ava'
import fc from 'fast-check'
import { createSharedMemory, destroySharedMemory, type MemoryView, viewOf } from '../../lib/memory/mapping.ts'
import { viewsInHeap } from '../../lib/memory/views.ts'
import { PAGE_BYTES } from '../../lib/sys/units.ts'

const inode = (fd: number) => fs.fstatSync(fd).ino
/** How often a memfd is mapped in this process, in whichever thread. */
const mappings = (fd: number) =>
  fs
    .readFileSync('/proc/self/maps', 'utf8')
    .split('\n')
    .filter((line) => line.includes(` ${inode(fd)} `)).length

test('a view shows its part of the memory, and nothing of it once it is retired', (t) => {
  const memory = createSharedMemory(16 * PAGE_BYTES)
  const views = viewsInHeap()
  const whole = new Uint8Array(viewOf(memory.address, memory.bytes))
  const view = views.map(memory.fd, 4 * PAGE_BYTES, 2 * PAGE_BYTES)
  const other = views.map(memory.fd, 0, 16 * PAGE_BYTES, true)
  whole[4 * PAGE_BYTES] = 7
  const bytes = new Uint8Array(view.buffer)
  t.is(bytes[0], 7)
  bytes.fill(5, 2 * PAGE_BYTES)
  t.is(whole[6 * PAGE_BYTES], 0, 'behind it is memory of no one')
  t.is(mappings(memory.fd), 3)
  views.retire(view)
  t.is(view.buffer.byteLength, 0)
  t.is(bytes[0], undefined)
  t.is(new Uint8Array(other.buffer)[4 * PAGE_BYTES], 7)
  t.is(mappings(memory.fd), 2)
  const next = views.map(memory.fd, 0, PAGE_BYTES)
  t.is(next.address, view.address, 'its addresses are used again')
  views.retire(view)
  t.is(next.buffer.byteLength > 0, true, 'a view that is retired twice ends no other')
  t.is(new Uint8Array(next.buffer)[3 * PAGE_BYTES], 0, 'and what was behind it is cleared')
  views.retire(next)
  views.retire(other)
  t.is(mappings(memory.fd), 1)
  destroySharedMemory(memory)
})

test('views never overlap, and each shows its own part', (t) => {
  const memory = createSharedMemory(64 * PAGE_BYTES)
  const whole = new Uint32Array(viewOf(memory.address, memory.bytes))
  for (let page = 0; page < 64; page++) whole[(page * PAGE_BYTES) / 4] = page
  const steps = fc.array(
    fc.record({
      page: fc.integer({ min: 0, max: 31 }),
      pages: fc.integer({ min: 1, max: 32 }),
      retire: fc.boolean(),
    }),
    { maxLength: 30 },
  )
  fc.assert(
    fc.property(steps, (list) => {
      const views = viewsInHeap()
      const live: { readonly view: MemoryView; readonly page: number; readonly pages: number }[] = []
      for (const { page, pages, retire } of list) {
        if (retire && live.length > 0) views.retire(live.shift()!.view)
        else live.push({ view: views.map(memory.fd, page * PAGE_BYTES, pages * PAGE_BYTES), page, pages })
      }
      let end = 0
      const inOrder = live.toSorted((a, b) => Number(a.view.address - b.view.address))
      for (const { view, page, pages } of inOrder) {
        t.true(Number(view.address) >= end)
        end = Number(view.address) + view.buffer.byteLength
        const words = new Uint32Array(view.buffer)
        t.deepEqual([words[0], words[((pages - 1) * PAGE_BYTES) / 4]], [page, page + pages - 1])
      }
      for (const { view } of live) views.retire(view)
    }),
    { numRuns: 30 },
  )
  t.is(mappings(memory.fd), 1)
  destroySharedMemory(memory)
})

test('a thread that is ended leaves no view behind, wherever it is caught', async (t) => {
  const memory = createSharedMemory(64 * PAGE_BYTES)
  // Each ends after so many views of a loop that makes and retires them; it holds others meanwhile.
  for (let after = 1; after <= 20; after++) {
    const turns = new Int32Array(new SharedArrayBuffer(4))
    const worker = new Worker(
      `
        const { workerData: { url, fd, turns } } = require('node:worker_threads')
        import(url).then(({ viewsInHeap }) => {
          const views = viewsInHeap()
          globalThis.held = [views.map(fd, 0, 4096), views.map(fd, 0, 65536)]
          for (;;) {
            views.retire(views.map(fd, 4096, 4096))
            Atomics.add(turns, 0, 1)
          }
        })
      `,
      {
        eval: true,
        workerData: {
          url: String(new URL('../../lib/memory/views.js', import.meta.url)),
          fd: memory.fd,
          turns,
        },
      },
    )
    while (Atomics.load(turns, 0) < after * 7) await new Promise((resolve) => setImmediate(resolve))
    t.true(mappings(memory.fd) >= 3)
    await worker.terminate()
    t.is(mappings(memory.fd), 1)
  }
  destroySharedMemory(memory)
})
