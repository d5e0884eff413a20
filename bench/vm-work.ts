// The work of the benchmark in the virtual machine, as both sides do it: which blocks, how many in flight, for how
// long. Trade-off: a time instead of a count, since the kernel's driver at times stalls under emulation.

import { finished } from 'node:stream/promises'
import { setTimeout as delay } from 'node:timers/promises'
import { Random } from '../src/bench/random.ts'

/** Commands in flight that rows ask for. */
export const DEPTHS = [1, 8, 32] as const

export interface Work {
  readonly name: string
  readonly kind: 'raw' | 'stream'
  readonly write: boolean
  readonly random: boolean
  readonly bytes: number
  readonly depth: (typeof DEPTHS)[number]
  /** How many times the kernel's rate the project asks for. */
  readonly goal?: number
}

export interface Rate {
  /** Transfers a second. */
  rate: number
  /** Mean commands in flight over depth, where it is known. */
  occupancy?: number
  /** The rate is that of a run that the time limit ended. */
  stalled?: true
}

const KIB = 1024

const raw = (write: boolean, random: boolean, kib: number, depth: Work['depth'], goal?: number): Work => ({
  name: `${kib} KiB ${random ? 'random' : 'sequential'} ${write ? 'write' : 'read'}, depth ${depth}`,
  ...{ kind: 'raw', write, random, bytes: kib * KIB, depth, ...(goal !== undefined && { goal }) },
})
const stream = (write: boolean, goal?: number): Work => ({
  name: `${write ? 'createWriteStream' : 'createReadStream'}, 128 KiB, depth 8`,
  ...{
    kind: 'stream',
    write,
    random: false,
    bytes: 128 * KIB,
    depth: 8,
    ...(goal !== undefined && { goal }),
  },
})

export const WORKS: readonly Work[] = [
  raw(false, true, 4, 1, 3),
  raw(true, true, 4, 1),
  raw(false, true, 4, 32, 10),
  raw(true, true, 4, 32),
  raw(false, false, 128, 8, 3),
  raw(true, false, 128, 8),
  stream(false, 3),
  stream(true),
]

/** Works that share a process: all raw ones. A stream has one for itself. */
export type Part = 'raw' | 'read' | 'write'

export const partOf = ({ kind, write }: Work): Part => (kind === 'raw' ? kind : write ? 'write' : 'read')

/** Where the next transfer begins, in units of its length, on a device that has `count` of them. */
export function places({ random }: Work, count: number): () => number {
  if (random) {
    const source = new Random(1)
    return () => source.below(count)
  }
  const at = new Uint32Array([0])
  return () => {
    at[0] = (at[0]! + 1) % count
    return at[0]!
  }
}

/** Reads a stream for `ms`, then ends it: the bytes that it gave. */
export async function drain(stream: NodeJS.ReadableStream & Timed, ms: number): Promise<number> {
  stream.resume()
  await delay(ms)
  const { bytesRead } = stream
  stream.destroy()
  await finished(stream).catch(() => {})
  return bytesRead
}

interface Timed {
  readonly bytesRead: number
  destroy(): void
}

/** Writes to a stream for `ms`, minding what it says of its room, until it has finished: the bytes that it took. */
export async function fill(sink: NodeJS.WritableStream, bytes: number, ms: number): Promise<number> {
  const chunk = Buffer.alloc(bytes, 0x5a)
  let over = false
  setTimeout(() => {
    over = true
  }, ms)
  let written = 0
  for (; !over; written += bytes) {
    if (!sink.write(chunk)) await new Promise<void>((resolve) => void sink.once('drain', () => resolve()))
  }
  sink.end()
  await finished(sink)
  return written
}
