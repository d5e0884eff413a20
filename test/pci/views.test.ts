// Views within reserved addresses: theirs alone, harmless when retired, all gone with the range.

import fs from 'node:fs'
import test from 'ava'
import fc from 'fast-check'
import { createSharedMemory, destroySharedMemory, type MemoryView, viewOf } from '../../lib/memory/mapping.ts'
import { releaseAddresses, reserveAddresses, viewsWithin } from '../../lib/memory/views.ts'
import { PAGE_BYTES } from '../../lib/sys/units.ts'

const mappings = () => fs.readFileSync('/proc/self/maps', 'utf8')

test('a view shows its part of the memory, and nothing of it once it is retired', (t) => {
  const memory = createSharedMemory(16 * PAGE_BYTES)
  const range = reserveAddresses(64 * PAGE_BYTES)
  const views = viewsWithin(range)
  const whole = new Uint8Array(viewOf(memory.address, memory.bytes))
  const view = views.map(memory.fd, 4 * PAGE_BYTES, 2 * PAGE_BYTES)
  const other = views.map(memory.fd, 0, 16 * PAGE_BYTES)
  t.true(view.address >= range.address && view.address < range.address + BigInt(range.bytes))
  whole[4 * PAGE_BYTES] = 7
  const bytes = new Uint8Array(view.buffer)
  t.is(bytes[0], 7)
  views.retire(view)
  t.not(bytes[0], 7)
  bytes[0] = 9
  t.is(whole[4 * PAGE_BYTES], 7)
  t.is(new Uint8Array(other.buffer)[4 * PAGE_BYTES], 7)
  views.retire(view)
  views.retire(other)
  releaseAddresses(range)
  destroySharedMemory(memory)
  t.false(mappings().includes(range.address.toString(16)))
})

test('views never overlap, and what does not fit is refused', (t) => {
  const memory = createSharedMemory(16 * PAGE_BYTES)
  const steps = fc.array(fc.record({ pages: fc.integer({ min: 1, max: 16 }), retire: fc.boolean() }), {
    maxLength: 30,
  })
  fc.assert(
    fc.property(steps, (list) => {
      const range = reserveAddresses(40 * PAGE_BYTES)
      const views = viewsWithin(range)
      const live: MemoryView[] = []
      for (const { pages, retire } of list) {
        if (retire && live.length > 0) {
          views.retire(live.shift()!)
          continue
        }
        try {
          live.push(views.map(memory.fd, 0, pages * PAGE_BYTES))
        } catch (error) {
          t.is((error as { code: string }).code, 'ERR_UNVME_OUT_OF_MEMORY')
        }
      }
      const spans = live
        .map(({ address, buffer }) => [Number(address - range.address), buffer.byteLength] as const)
        .sort(([a], [b]) => a - b)
      let end = 0
      for (const [start, length] of spans) {
        t.true(start >= end && start + length <= range.bytes)
        end = start + length
      }
      for (const view of live) views.retire(view)
      releaseAddresses(range)
    }),
    { numRuns: 30 },
  )
  destroySharedMemory(memory)
})
