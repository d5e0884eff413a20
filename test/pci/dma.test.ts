// The arenas of a pool: few of them however much is allocated, and small ones where large ones can't be had.

import test from 'ava'
import { OutOfMemoryError, SystemCallError } from '../../lib/errors.ts'
import { createSharedMemory, type DmaArena, destroySharedMemory } from '../../lib/memory/mapping.ts'
import { DmaPool } from '../../lib/memory/pool.ts'
import { ANYWHERE, type ViewSpace } from '../../lib/memory/views.ts'
import type { PciFunction } from '../../lib/pci/function.ts'

const MIB = 2 ** 20

/** A function that maps memory up to `largest` bytes at once. */
function fakeFunction(largest = 2 ** 31) {
  const mapped: number[] = []
  const memory = new Map<DmaArena, ReturnType<typeof createSharedMemory>>()
  let iova = 2 ** 32
  const pci = {
    address: 'fake',
    maxArenaBytes: 2 ** 31,
    mapDma(bytes: number): DmaArena {
      if (bytes > largest) throw new OutOfMemoryError(`${bytes} bytes are too many`)
      mapped.push(bytes)
      const made = createSharedMemory(bytes)
      const arena: DmaArena = { iova, bytes, fd: made.fd, address: made.address }
      iova += bytes
      memory.set(arena, made)
      return arena
    },
    unmapDma(arena: DmaArena) {
      destroySharedMemory(memory.get(arena)!)
      memory.delete(arena)
    },
  } as unknown as PciFunction
  return { pci, mapped, left: () => memory.size }
}

test('arenas grow: 4 GiB in buffers of 4 MiB take less than 64 mappings', (t) => {
  const { pci, mapped, left } = fakeFunction()
  const pool = new DmaPool(pci)
  for (let i = 0; i < 1024; i++) pool.alloc(4 * MIB)
  t.true(mapped.length < 64, `${mapped.length} mappings`)
  t.deepEqual(mapped.slice(0, 9), [...new Array(8).fill(8 * MIB), 16 * MIB])
  pool.close()
  t.is(left(), 0)
})

test('where a larger arena can not be had, one that is just large enough is taken', (t) => {
  const { pci, mapped } = fakeFunction(8 * MIB)
  const pool = new DmaPool(pci)
  for (let i = 0; i < 24; i++) pool.alloc(4 * MIB)
  t.deepEqual(mapped, new Array(12).fill(8 * MIB))
  t.throws(() => pool.alloc(9 * MIB), { instanceOf: OutOfMemoryError, message: /16777216/ })
  pool.close()
})

test('memory of the library itself is kept for the next of the same length', (t) => {
  const { pci, mapped } = fakeFunction()
  const pool = new DmaPool(pci)
  const first = pool.reuse(MIB).fill(0x5a)
  const second = pool.reuse(2 * MIB)
  pool.keep(first)
  t.is(pool.bytes, 2 * MIB, 'what is kept does not count')
  pool.keep(second)
  t.true(
    pool.alloc(MIB).every((byte) => byte === 0),
    'never what callers get',
  )
  t.not(pool.reuse(512 * 1024), first)
  t.is(pool.reuse(MIB), first)
  t.is(first[MIB - 1], 0x5a)
  t.deepEqual(mapped, [8 * MIB])
  pool.close()
  t.is(pool.bytes, 0)
})

test('64 MiB of it are kept, or two buffers, the latest ones', (t) => {
  const { pci } = fakeFunction()
  const pool = new DmaPool(pci)
  const ended = (buffer: Buffer) => t.throws(() => pool.tagOf(buffer), { code: 'ERR_UNVME_FREED_BUFFER' })
  const buffers = Array.from({ length: 20 }, () => pool.alloc(4 * MIB))
  for (const buffer of buffers) pool.keep(buffer)
  t.is(pool.bytes, 0)
  for (const buffer of buffers.slice(0, 4)) ended(buffer)
  for (const buffer of buffers.slice(4).reverse()) t.is(pool.reuse(4 * MIB), buffer)
  t.is(pool.bytes, 64 * MIB)
  const large = Array.from({ length: 3 }, () => pool.alloc(100 * MIB))
  for (const buffer of large) pool.keep(buffer)
  ended(large[0]!)
  for (const buffer of large.slice(1)) t.notThrows(() => pool.tagOf(buffer))
  pool.close()
  t.is(pool.bytes, 0)
})

test('kept memory makes room before an arena is added, and is not kept while a command may write to it', (t) => {
  const { pci, mapped } = fakeFunction()
  const pool = new DmaPool(pci)
  pool.keep(pool.alloc(5 * MIB))
  const whole = pool.alloc(8 * MIB)
  t.deepEqual(mapped, [8 * MIB])
  pool.free(whole)
  const buffer = pool.reuse(MIB)
  const { allocation } = pool.tagOf(buffer)
  allocation.users = 1
  pool.keep(buffer)
  t.not(pool.reuse(MIB), buffer)
  allocation.users = 0
  pool.reclaim(allocation)
  t.throws(() => pool.tagOf(buffer), { code: 'ERR_UNVME_FREED_BUFFER' })
  pool.keep(pool.alloc(MIB))
  pool.close()
})

test('alloc without a mapping left says so, and loses no pages', (t) => {
  const { pci, mapped } = fakeFunction()
  let full = true
  const map: ViewSpace['map'] = (...part) => {
    if (full) throw new SystemCallError('no more', { code: 'ENOMEM', errno: 12, syscall: 'mmap' })
    return ANYWHERE.map(...part)
  }
  const pool = new DmaPool(pci, { views: { ...ANYWHERE, map } })
  for (let i = 0; i < 3; i++) {
    const error = t.throws(() => pool.alloc(8 * MIB), {
      instanceOf: OutOfMemoryError,
      message: /max_map_count.*subarray/,
    })
    t.true(error.cause instanceof SystemCallError)
  }
  full = false
  pool.alloc(8 * MIB)
  t.deepEqual(mapped, [8 * MIB])
  pool.close()
})
