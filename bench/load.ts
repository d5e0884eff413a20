// Loads that last for a time, for benchmarks of what happens beside them: the event loop's delay, processor time.
// Trade-off: a load ends at its next chunk or command after its time, so that it is a little longer.

import { monitorEventLoopDelay } from 'node:perf_hooks'
import type { Namespace } from '../src/index.ts'
import type { StreamFile } from './files.ts'

/** Runs for about `ms`, and returns bytes a second. */
export type Load = (ns: Namespace, ms: number) => Promise<number>

/** Passes of blocks() over the namespace. */
export function iterating(chunk: number, depth: number): Load {
  return (ns, ms) =>
    passes(ms, async (over) => {
      let bytes = 0
      for await (const { data } of ns.blocks({ chunk: chunk / ns.blocksize, depth })) {
        bytes += data.length
        if (over()) break
      }
      return bytes
    })
}

/** Passes of createReadStream over the namespace. */
export function reading(chunk: number, depth: number): Load {
  return (ns, ms) =>
    passes(ms, async (over) => {
      const stream = ns.createReadStream({ highWaterMark: chunk, depth })
      stream.on('data', () => {
        if (over()) stream.destroy()
      })
      await new Promise((resolve) => stream.once('close', resolve))
      return stream.bytesRead
    })
}

/** Passes of fs.createReadStream over a file, whatever the namespace. */
export function readingFile(file: StreamFile, bytes: number, chunk: number): Load {
  return (_, ms) =>
    passes(ms, async (over) => {
      const stream = file.read({ highWaterMark: chunk, end: bytes - 1 })
      stream.on('data', () => {
        if (over()) stream.destroy()
      })
      await new Promise<void>((resolve) => void stream.once('close', () => resolve()))
      return stream.bytesRead
    })
}

/** Passes of createWriteStream over the namespace. */
export function writing(chunk: number, depth: number): Load {
  const data = Buffer.alloc(chunk, 0x5a)
  return (ns, ms) =>
    passes(ms, async (over) => {
      const stream = ns.createWriteStream({ highWaterMark: chunk, depth })
      const closed = new Promise((resolve) => stream.once('close', resolve))
      const size = ns.blockcount * ns.blocksize
      for (let at = 0; at < size && !over(); at += chunk) {
        if (!stream.write(data))
          await new Promise<void>((resolve) => void stream.once('drain', () => resolve()))
      }
      stream.end()
      await closed
      return stream.bytesWritten
    })
}

/** Single blocks by promises, one after another in `depth` loops. */
export function promising(depth: number, qid = 0): Load {
  const options = { qid }
  return async (ns, ms) => {
    const memory = ns.alloc(depth * ns.blocksize)
    const started = performance.now()
    let done = 0
    const loop = async (i: number) => {
      const part = memory.subarray(i * ns.blocksize, (i + 1) * ns.blocksize)
      while (performance.now() - started < ms)
        await ns.promises.read(part, (done++ * 7) % ns.blockcount, 1, options)
    }
    await Promise.all(Array.from({ length: depth }, (_, i) => loop(i)))
    const seconds = (performance.now() - started) / 1000
    ns.free(memory)
    return (done * ns.blocksize) / seconds
  }
}

async function passes(ms: number, pass: (over: () => boolean) => Promise<number>): Promise<number> {
  const started = performance.now()
  // The clock is read at every 16th chunk.
  let steps = 0
  const over = () => (++steps & 15) === 0 && performance.now() - started >= ms
  let bytes = 0
  while (performance.now() - started < ms) bytes += await pass(over)
  return bytes / ((performance.now() - started) / 1000)
}

/** Milliseconds by which the event loop came late while `work` ran. */
export interface Delay {
  median: number
  p99: number
  max: number
}

// A timer of this many milliseconds is what the histogram measures by: the least that it can be.
const RESOLUTION_MS = 1

export async function delayDuring(work: () => Promise<unknown>): Promise<Delay> {
  const histogram = monitorEventLoopDelay({ resolution: RESOLUTION_MS })
  histogram.enable()
  await work()
  histogram.disable()
  const late = (nanoseconds: number) => Math.max(0, nanoseconds / 1e6 - RESOLUTION_MS)
  return {
    median: late(histogram.percentile(50)),
    p99: late(histogram.percentile(99)),
    max: late(histogram.max),
  }
}
