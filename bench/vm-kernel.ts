// Node's own way in the benchmark in the virtual machine: fs.read and fs.write past the page cache with as many in
// flight, and fs's streams, which can't go past it. Trade-off: the page cache is dropped before and after each
// stream, and a write stream ends with fsync, since this driver's ends when the data is on the medium.

import fs from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { mapAnonymous, retireView } from '../lib/memory/mapping.ts'
import { drain, fill, places, type Rate, type Work } from './vm-work.ts'

// The kernel's driver gives a command 30 s before it looks for it by itself.
const STALL_MS = 8_000

/** Does the work for `ms` on the block device at `path` of `size` bytes. */
export async function kernelRate(path: string, size: number, work: Work, ms: number): Promise<Rate> {
  return work.kind === 'raw' ? rawRate(path, size, work, ms) : streamRate(path, work, ms)
}

async function rawRate(path: string, size: number, work: Work, ms: number): Promise<Rate> {
  const { O_RDWR, O_DIRECT } = fs.constants
  const { bytes, depth, write } = work
  const fd = fs.openSync(path, O_RDWR | O_DIRECT)
  // O_DIRECT wants memory on a block's boundary.
  const memory = mapAnonymous(depth * bytes)
  const next = places(work, Math.floor(size / bytes))
  let done = 0
  let inFlight = depth
  let over = false
  let failure: Error | null = null
  const started = performance.now()
  const lane = (part: Buffer) => {
    const start = () => {
      if (write) fs.write(fd, part, 0, bytes, next() * bytes, ended)
      else fs.read(fd, part, 0, bytes, next() * bytes, ended)
    }
    const ended = (error: Error | null) => {
      failure ??= error
      done++
      if (over || failure) inFlight--
      else start()
    }
    start()
  }
  for (let i = 0; i < depth; i++) lane(Buffer.from(memory.buffer, i * bytes, bytes))
  await delay(ms)
  const rate = done / ((performance.now() - started) / 1000)
  over = true
  const waiting = performance.now()
  while (inFlight > 0) await delay(5)
  const stalled = performance.now() - waiting > STALL_MS || rate === 0
  fs.closeSync(fd)
  retireView(memory)
  if (failure) throw failure
  return stalled ? { rate, stalled } : { rate }
}

const dropCaches = () => fs.writeFileSync('/proc/sys/vm/drop_caches', '1')

async function streamRate(path: string, { write, bytes }: Work, ms: number): Promise<Rate> {
  dropCaches()
  const started = performance.now()
  let moved: number
  if (write) {
    const fd = fs.openSync(path, 'r+')
    const sink = fs.createWriteStream(path, { fd, start: 0, highWaterMark: bytes, autoClose: false })
    moved = await fill(sink, bytes, ms)
    await new Promise<void>((resolve, reject) => fs.fsync(fd, (error) => (error ? reject(error) : resolve())))
    fs.closeSync(fd)
  } else {
    moved = await drain(fs.createReadStream(path, { highWaterMark: bytes }), ms)
  }
  const elapsed = performance.now() - started
  dropCaches()
  const rate = moved / bytes / (elapsed / 1000)
  return elapsed > ms + STALL_MS ? { rate, stalled: true } : { rate }
}
