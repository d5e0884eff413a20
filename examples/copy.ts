// Copies a file to a device, a device to a file, or a device to a device, by streams.
//
//   node dist/examples/copy.js [SRC] [DST]
//
// A word with a colon is a device: `0a:00.0/1`, `sim:disk.img`. Without arguments the node binary goes to a
// software controller. Streams copy each chunk once more than `blocks()` and `writeBlocks()` do, and
// in return anything that is a stream can stand between the two (zlib, crypto, a socket). `copy()` of unvme does
// all of this in one call.

import { createReadStream, createWriteStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import { pipeline } from 'node:stream/promises'
import { type Namespace, open } from 'unvme'
import './support/one-line.ts'

const [from = process.execPath, to = 'sim:?size=512M'] = process.argv.slice(2)

const source = await openEnd(from)
const target = await openEnd(to)
try {
  // Sizes first: nothing is written where not all of it would fit.
  const bytes = await sizeOf(from, source)
  if (target && bytes > capacity(target)) {
    throw new Error(`${from} has ${bytes} bytes, ${to} has space for ${capacity(target)}`)
  }
  const input = source
    ? source.createReadStream({ depth: 32 })
    : createReadStream(from, { highWaterMark: 1 << 20 })
  const output = target ? target.createWriteStream({ depth: 32 }) : createWriteStream(to)

  const started = performance.now()
  const seconds = () => (performance.now() - started) / 1000
  const timer = setInterval(() => {
    const share = Math.floor((output.bytesWritten / bytes) * 100)
    if (process.stderr.isTTY) process.stderr.write(`\r${share} %, ${rate(output.bytesWritten, seconds())}   `)
  }, 250)
  // Ends when the last block is written and flushed, or fails with the first error of either side.
  await pipeline(input, output).finally(() => clearInterval(timer))
  if (process.stderr.isTTY) process.stderr.write('\r\u001b[K')
  console.log(`${from} to ${to}: ${bytes} bytes, ${rate(bytes, seconds())}`)
} finally {
  await source?.close()
  await target?.close()
}

/** The namespace of a device's address; undefined for a file. */
async function openEnd(word: string): Promise<Namespace | undefined> {
  return word.includes(':') ? open(word) : undefined
}

async function sizeOf(word: string, ns: Namespace | undefined): Promise<number> {
  return ns ? capacity(ns) : (await stat(word)).size
}

function capacity(ns: Namespace): number {
  return ns.blockcount * ns.blocksize
}

function rate(bytes: number, seconds: number): string {
  return `${(bytes / seconds / 1e6).toFixed(0)} MB/s`
}
