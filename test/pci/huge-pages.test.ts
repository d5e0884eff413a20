// Buffers on huge pages, where a view is a part of the arena's own mapping: what still holds one that was freed reads and
// writes no later buffer, whether this Node can detach it (22) or not (20). And memory on transparent huge pages, which can be
// mapped in parts.

import fs from 'node:fs'
import os from 'node:os'
import v8 from 'node:v8'
import vm from 'node:vm'
import test, { type ExecutionContext } from 'ava'
import {
  createSharedMemory,
  type DmaArena,
  destroySharedMemory,
  mapView,
  retireView,
} from '../../lib/memory/mapping.ts'
import { DmaPool } from '../../lib/memory/pool.ts'
import type { PciFunction } from '../../lib/pci/function.ts'
import { HUGE_PAGE_BYTES, PAGE_BYTES } from '../../lib/sys/units.ts'
import { testUnless } from '../support/left-out.ts'

const RESERVED = '/proc/sys/vm/nr_hugepages'
const reserved = () => Number(fs.readFileSync(RESERVED, 'utf8'))
const free = () => Number(/HugePages_Free:\s*(\d+)/.exec(fs.readFileSync('/proc/meminfo', 'utf8'))?.[1] ?? 0)

const before = reserved()

/** Has `pages` of them free, where this machine lets it. */
function reserve(pages: number): boolean {
  try {
    if (free() < pages) fs.writeFileSync(RESERVED, String(before + pages - free()))
  } catch {
    // Not root, or a kernel that lets no one.
  }
  return free() >= pages
}

test.after.always(() => {
  if (reserved() !== before) fs.writeFileSync(RESERVED, String(before))
})

/** A function whose memory stands on huge pages, one to an arena. */
function hugeFunction() {
  let memory: ReturnType<typeof createSharedMemory> | undefined
  const pci = {
    address: 'fake',
    maxArenaBytes: HUGE_PAGE_BYTES,
    mapDma(): DmaArena {
      memory = createSharedMemory(HUGE_PAGE_BYTES, { hugePages: true })
      return { iova: 2 ** 32, ...memory }
    },
    unmapDma: () => destroySharedMemory(memory!),
  } as unknown as PciFunction
  return { pci, hugePages: () => memory?.hugePages }
}

/** As `fill`, which throws where the buffer is detached. */
function write(buffer: Buffer, byte: number, bytes: number): void {
  for (let at = 0; at < bytes; at++) buffer[at] = byte
}

/** Whether a byte of it is to be seen; in a detached one none is. */
const shows = (buffer: Buffer, byte: number) => buffer.length > 0 && buffer.includes(byte)

v8.setFlagsFromString('--expose-gc')
const collectGarbage = vm.runInNewContext('gc') as () => void

const LACKS = !reserve(2) && `no two huge pages are free, and ${RESERVED} gives none`

function hugeTest(title: string, run: (t: ExecutionContext) => Promise<void> | void): void {
  testUnless(LACKS, title, run, { serial: true })
}

hugeTest('a buffer that was freed writes into no later one', async (t) => {
  const { pci, hugePages } = hugeFunction()
  const pool = new DmaPool(pci)
  const half = HUGE_PAGE_BYTES / 2
  let stale: Buffer | null = pool.alloc(half)
  t.true(hugePages())
  stale.fill(1)
  const { iova } = pool.tagOf(stale)
  pool.free(stale)
  const next = pool.alloc(half)
  write(stale, 2, half)
  t.true(
    next.every((byte) => byte === 0),
    'the stale buffer shows elsewhere',
  )
  next.fill(3)
  t.false(shows(stale, 3))

  // Once no one holds it its pages are another's, and empty.
  const detached = stale.length === 0
  t.is(pool.tagOf(next).iova === iova, detached, 'at once only where the view was detached')
  stale = null
  if (!detached) {
    for (let i = 0; i < 20; i++) {
      collectGarbage()
      await new Promise((resolve) => setTimeout(resolve, 5))
    }
  }
  const again = pool.alloc(half)
  t.true(again.every((byte) => byte === 0))
  if (!detached) t.is(pool.tagOf(again).iova, iova)
  again.fill(4)
  t.true(next.every((byte) => byte === 3))
  for (let at = 0; at < half; at += PAGE_BYTES) t.is(again[at], 4)
  pool.close()
})

hugeTest('a buffer that outlives its pool shows pages of no one', (t) => {
  const first = hugeFunction()
  const pool = new DmaPool(first.pci)
  const stale = pool.alloc(PAGE_BYTES).fill(1)
  pool.close()
  const other = new DmaPool(hugeFunction().pci)
  const next = other.alloc(PAGE_BYTES)
  write(stale, 2, PAGE_BYTES)
  t.true(next.every((byte) => byte === 0))
  t.false(shows(stale, 1))
  other.close()
})

/** KiB of the mapping that begins at `address` which huge pages map. */
function hugeKib(address: bigint): number {
  const [, mapping = ''] = fs
    .readFileSync('/proc/self/smaps', 'utf8')
    .split(new RegExp(`^0*${address.toString(16)}-`, 'm'))
  return Number(/^ShmemPmdMapped: +(\d+) kB/m.exec(mapping)?.[1] ?? 0)
}

// MADV_COLLAPSE of shared memory came with Linux 6.1.
const [major = 0, minor = 0] = os.release().split('.').map(Number)
const collapses =
  major * 100 + minor >= 601 && fs.existsSync('/sys/kernel/mm/transparent_hugepage/hpage_pmd_size')

test('memory to be pinned is on huge pages where the kernel makes some', (t) => {
  const memory = createSharedMemory(2 * HUGE_PAGE_BYTES + PAGE_BYTES, { pinned: true })
  t.is(memory.address % BigInt(HUGE_PAGE_BYTES), 0n)
  if (collapses) t.is(hugeKib(memory.address), (2 * HUGE_PAGE_BYTES) / 1024)
  else t.log('not looked at: this kernel makes no huge pages of shared memory')
  t.false(memory.hugePages, 'a part of it can be mapped a second time')
  destroySharedMemory(memory)
})

test('a part of pinned memory can be mapped a second time, and replaced', (t) => {
  const memory = createSharedMemory(HUGE_PAGE_BYTES, { pinned: true })
  const [one, two] = [0, 0].map(() => mapView(memory.fd, 3 * PAGE_BYTES, PAGE_BYTES))
  const [a, b] = [one!, two!].map(({ buffer }) => Buffer.from(buffer))
  t.true(a!.every((byte) => byte === 0))
  a!.fill(7)
  t.is(b![PAGE_BYTES - 1], 7)
  retireView(one!)
  t.false(shows(a!, 7))
  t.is(b![0], 7)
  retireView(two!)
  destroySharedMemory(memory)
})
