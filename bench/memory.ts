// What a long stream and a slow consumer cost in memory: growth of the process from its first gigabyte on.

import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { Writable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { open } from '../src/index.ts'

const GIB = 2 ** 30

export async function memory(): Promise<void> {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'unvme-bench-'))
  try {
    console.log('\nGrowth of the process while streaming (resident set, above the start)')
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
  } finally {
    fs.rmSync(folder, { recursive: true })
  }
}

async function grow(name: string, work: (look: () => void) => Promise<void>): Promise<void> {
  const start = process.memoryUsage.rss()
  let most = 0
  let steps = 0
  await work(() => {
    if ((steps++ & 63) === 0) most = Math.max(most, process.memoryUsage.rss() - start)
  })
  console.log(`  ${name.padEnd(48)} ${(most / 2 ** 20).toFixed(1).padStart(6)} MiB`)
}
