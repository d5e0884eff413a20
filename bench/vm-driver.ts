// This driver's side of the benchmark in the virtual machine: aread, awrite and apoll, and the streams.

import type { Namespace } from '../src/index.ts'
import { drain, fill, places, type Rate, type Work } from './vm-work.ts'

/** Does the work for `ms`. */
export function driverRate(ns: Namespace, work: Work, ms: number): Promise<Rate> | Rate {
  return work.kind === 'raw' ? rawRate(ns, work, ms) : streamRate(ns, work, ms)
}

/** Every descriptor is sent again when it is done. */
function rawRate(ns: Namespace, work: Work, ms: number): Rate {
  const { bytes, depth, write } = work
  const nlb = bytes / ns.blocksize
  const memory = ns.alloc(depth * bytes)
  const parts = Array.from({ length: depth }, (_, i) => memory.subarray(i * bytes, (i + 1) * bytes))
  const next = places(work, Math.floor(ns.blockcount / nlb))
  const send = (part: Buffer) =>
    write ? ns.awrite(0, part, next() * nlb, nlb) : ns.aread(0, part, next() * nlb, nlb)
  const iods = parts.map(send)
  let done = 0
  const started = performance.now()
  let elapsed = 0
  // The clock is a system call here: read once in some hundred rounds.
  for (let round = 1; elapsed < ms; round++) {
    for (let i = 0; i < depth; i++) {
      if (!ns.apoll(iods[i]!)) continue
      done++
      iods[i] = send(parts[i]!)
    }
    if ((round & 127) === 0) elapsed = performance.now() - started
  }
  for (const iod of iods) while (!ns.apoll(iod));
  ns.free(memory)
  return { rate: done / (elapsed / 1000) }
}

async function streamRate(ns: Namespace, { write, bytes, depth }: Work, ms: number): Promise<Rate> {
  const options = { highWaterMark: bytes, depth }
  const before = ns.stats
  const started = performance.now()
  const moved = write
    ? await fill(ns.createWriteStream(options), bytes, ms)
    : await drain(ns.createReadStream(options), ms)
  const seconds = (performance.now() - started) / 1000
  const after = ns.stats
  const wanted = after.wantedTime - before.wantedTime
  return {
    rate: moved / bytes / seconds,
    occupancy: (after.inFlightTime - before.inFlightTime) / wanted,
  }
}
