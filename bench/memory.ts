// What a long stream and a slow consumer cost in memory: growth of the process from its first gigabyte on.

import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { Writable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { open } from '../src/index.ts'
import { atMost, type Table, type TableRow } from './table.ts'

const GIB = 2 ** 30
const LIMIT_MIB = 64

const ABOUT =
  'The most by which the resident set grew while a stream ran, read at every 64th chunk. The streams hold 32 chunks ' +
  'of 128 KiB, 4 MiB; chunks that are copied wait for the collector besides.'

export async function* memory(): AsyncGenerator<Table> {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'unvme-bench-'))
  try {
    const rows: TableRow[] = []
    const grow = async (name: string, work: (look: () => void) => Promise<void>) => {
      rows.push({ name, cells: [await growth(work)] })
    }
    await using ns = await open(`sim:${path.join(folder, 'disk.img')}?size=10G`)
    const blocksOf = (bytes: number) => bytes / ns.blocksize
    await grow('createReadStream, 10 GiB of a sparse image', async (look) => {
      for await (const _ of ns.createReadStream({ nlb: blocksOf(10 * GIB) })) look()
    })
    await grow('createReadStream, 256 MiB into a slow consumer', async (look) => {
      const slow = new Writable({
        write(_chunk, _encoding, callback) {
          look()
          setTimeout(callback, 2)
        },
      })
      await pipeline(ns.createReadStream({ nlb: blocksOf(GIB / 4) }), slow)
    })
    await grow('blocks(), 10 GiB of a sparse image', async (look) => {
      for await (const _ of ns.blocks({ nlb: blocksOf(10 * GIB) })) look()
    })
    const title = 'Growth of the process while streaming (resident set, above the start)'
    const goals = rows.map(({ name, cells }) => atMost(name, cells[0]!, LIMIT_MIB, 'MiB'))
    yield { title, about: ABOUT, columns: [{ name: 'MiB', digits: 1 }], rows, goals }
  } finally {
    fs.rmSync(folder, { recursive: true })
  }
}

/** The most by which the process is larger than at the start, in MiB, when `work` looks. */
export async function growth(work: (look: () => void) => Promise<void>): Promise<number> {
  const start = process.memoryUsage.rss()
  let most = 0
  let steps = 0
  await work(() => {
    if ((steps++ & 63) === 0) most = Math.max(most, process.memoryUsage.rss() - start)
  })
  return most / 2 ** 20
}
