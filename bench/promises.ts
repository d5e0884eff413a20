// Promises of 4 KiB reads, with memory for the device and with plain Buffers, by how many calls wait at once: nanoseconds of
// processor time for a read, beside the same by hand (aread and apoll in a loop, with one promise each) and beside the bare
// prototype, which has no driver in it. The medium stays in the processor's cache, so that the calls are what is measured.

import type { Namespace } from '../src/index.ts'
import type { IoDescriptor } from '../src/queue/operation.ts'
import { allocParts, openWritten, randomBlocks } from './commands.ts'
import { compare, cpuOf, type Row, type Table } from './measure.ts'
import { createPrototype } from './prototype.ts'

const COMMANDS = 400_000
const DEPTHS = [1, 32, 128, 256]
const MIB = 2
const ALL = 1000

type Read = (buf: Buffer, slba: number) => Promise<unknown>

export async function* promises(): AsyncGenerator<Table> {
  await using ns = await openWritten(MIB, { qsize: 2 * ALL })
  const { parts } = allocParts(ns, ALL)
  const plain = parts.map(({ length }) => Buffer.alloc(length))
  const byHand = createReader(ns)
  const read: Read = (buf, slba) => ns.promises.read(buf, slba, 1)
  const row = (name: string, work: () => unknown): Row => ({
    name,
    run: async () => [((await cpuOf(work)) * 1e6) / COMMANDS],
  })
  const unit = { name: 'ns', digits: 0 }
  const rows = (work: (read: Read, buffers: Buffer[]) => Promise<void>): Row[] => [
    row('aread, apoll and a promise', () => byHand.run(() => work(byHand.read, parts))),
    row('promises, memory for the device', () => work(read, parts)),
    row('promises, plain Buffers', () => work(read, plain)),
  ]
  for (const depth of DEPTHS) {
    const prototype = createPrototype(MIB * 2 ** 20, Math.max(64, 2 * depth))
    yield await compare(`4 KiB random reads, each of ${depth} loops awaiting one`, unit, [
      ...rows((call, buffers) => loops(ns, call, buffers.slice(0, depth))),
      row('prototype', () => prototype.runPromises(COMMANDS, depth)),
    ])
  }
  const title = `4 KiB random reads, Promise.all over ${ALL} of them`
  yield await compare(
    title,
    unit,
    rows((call, buffers) => all(ns, call, buffers)),
  )
}

async function loops(ns: Namespace, read: Read, buffers: Buffer[]): Promise<void> {
  const next = randomBlocks(ns.blockcount)
  const loop = async (buf: Buffer) => {
    for (let n = 0; n < COMMANDS / buffers.length; n++) await read(buf, next())
  }
  await Promise.all(buffers.map(loop))
}

async function all(ns: Namespace, read: Read, buffers: Buffer[]): Promise<void> {
  const next = randomBlocks(ns.blockcount)
  for (let done = 0; done < COMMANDS; done += buffers.length) {
    await Promise.all(buffers.map((buf) => read(buf, next())))
  }
}

/** What anyone would write around aread and apoll: a promise for each, resolved by a loop that polls. */
function createReader(ns: Namespace) {
  let waiting: { iod: IoDescriptor; resolve: () => void }[] = []
  const read: Read = (buf, slba) => {
    const iod = ns.aread(0, buf, slba, 1)
    return new Promise<void>((resolve) => {
      waiting.push({ iod, resolve })
    })
  }
  /** Polls until the work is done. */
  const run = async (work: () => Promise<void>) => {
    let working = true
    const done = work().finally(() => {
      working = false
    })
    while (working) {
      const polled = waiting
      waiting = []
      for (const one of polled) {
        if (ns.apoll(one.iod)) one.resolve()
        else waiting.push(one)
      }
      await null
    }
    await done
  }
  return { read, run }
}
