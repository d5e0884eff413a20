// Compares a file with a device, or two devices, block by block: says which LBA and byte differ first, shows
// both contents, and exits with 1.
//
//   node dist/examples/verify.js [A] [B]
//
// Without arguments two empty software controllers are compared. `blocks()` gives DMA memory until
// the next step, so nothing is copied; what is to be kept has to be. `compare()` of unvme does all of this in
// one call.

import { createReadStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import { type Block, open } from 'unvme'
import './support/one-line.ts'

const CHUNK = 256 * 1024

interface Input {
  name: string
  bytes: number
  blocksize: number
  chunks: AsyncIterable<Buffer>
  close(): Promise<void>
}

const [first = 'sim:?size=64M', second = 'sim:?size=64M'] = process.argv.slice(2)

const a = await openInput(first)
const b = await openInput(second)
try {
  const bytes = Math.min(a.bytes, b.bytes)
  const timer = setInterval(() => {
    if (process.stderr.isTTY) process.stderr.write(`\r${Math.floor((offset / bytes) * 100)} %`)
  }, 250)
  let offset = 0
  const others = b.chunks[Symbol.asyncIterator]()
  for await (const data of a.chunks) {
    const { value: other = Buffer.alloc(0) } = await others.next()
    const length = Math.min(data.length, other.length)
    if (data.compare(other, 0, length, 0, length) !== 0) {
      report(offset, data, other)
      process.exitCode = 1
      break
    }
    offset += length
    if (length < data.length) break
  }
  // Ends the read-ahead of the other side.
  await others.return?.()
  clearInterval(timer)
  if (process.stderr.isTTY) process.stderr.write('\r\u001b[K')
  if (!process.exitCode) console.log(`${first} and ${second}: ${offset} bytes are equal`)
} finally {
  await a.close()
  await b.close()
}

function report(offset: number, data: Buffer, other: Buffer): void {
  let at = 0
  while (data[at] === other[at]) at++
  for (const [input, content] of [
    [a, data],
    [b, other],
  ] as const) {
    const position = offset + at
    const lba = Math.floor(position / input.blocksize)
    const hex = content
      .subarray(at, at + 16)
      .toString('hex')
      .replace(/..\B/g, '$& ')
    console.log(`${input.name}: LBA ${lba}, byte ${position % input.blocksize}: ${hex}`)
  }
}

async function openInput(name: string): Promise<Input> {
  if (!name.includes(':')) {
    const { size } = await stat(name)
    const stream = createReadStream(name, { highWaterMark: CHUNK })
    return { name, bytes: size, blocksize: 512, chunks: stream, close: async () => stream.close() }
  }
  const ns = await open(name)
  const { blockcount, blocksize } = ns
  return {
    name,
    bytes: blockcount * blocksize,
    blocksize,
    chunks: dataOf(ns.blocks({ chunk: CHUNK / blocksize })),
    close: () => ns.close(),
  }
}

async function* dataOf(blocks: AsyncIterable<Block>) {
  for await (const { data } of blocks) yield data
}
