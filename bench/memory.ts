// What a long stream and a slow consumer cost in memory: the most by which the resident set grew while a stream ran,
// read at every 64th chunk. The streams hold 32 chunks of 128 KiB, 4 MiB, which is the yardstick; chunks that are copied
// wait for the collector besides. Blocks that were never written take no memory in the controller.

import { Writable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { open } from '../src/index.ts'
import type { Table } from './measure.ts'

const GIB = 2 ** 30
const HELD_MIB = 4

export async function* memory(): AsyncGenerator<Table> {
  await using ns = await open('sim:?size=10G')
  const rows = [{ name: 'what a stream holds', cells: [HELD_MIB] }]
  const grow = async (name: string, work: (look: () => void) => Promise<void>) => {
    rows.push({ name, cells: [await growth(work)] })
  }
  const long = { nlb: (10 * GIB) / ns.blocksize }
  await grow('createReadStream, 10 GiB', async (look) => {
    for await (const _ of ns.createReadStream(long)) look()
  })
  await grow('createReadStream, 256 MiB into a slow consumer', async (look) => {
    const slow = new Writable({
      write(_chunk, _encoding, callback) {
        look()
        setTimeout(callback, 2)
      },
    })
    await pipeline(ns.createReadStream({ nlb: GIB / 4 / ns.blocksize }), slow)
  })
  await grow('blocks(), 10 GiB', async (look) => {
    for await (const _ of ns.blocks(long)) look()
  })
  const title = 'Growth of the process while streaming (resident set, above the start; one run)'
  yield { title, columns: [{ name: 'MiB', digits: 1 }], rows }
}

async function growth(work: (look: () => void) => Promise<void>): Promise<number> {
  const start = process.memoryUsage.rss()
  let most = 0
  let steps = 0
  await work(() => {
    if ((steps++ & 63) === 0) most = Math.max(most, process.memoryUsage.rss() - start)
  })
  return most / 2 ** 20
}
