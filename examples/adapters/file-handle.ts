// A compressed file in a namespace, by the streams that a FileHandle has: gzip on the way there, gunzip on the way back.
//
//   node dist/examples/adapters/file-handle.js [ADDRESS] [FILE]
//
// Without arguments this program's own text goes to a software controller. Code that takes a FileHandle takes
// `fileHandle(ns)`: positions are bytes, so that what it writes need not end at a block.

import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { pipeline } from 'node:stream/promises'
import { fileURLToPath } from 'node:url'
import { createGunzip, createGzip } from 'node:zlib'
import { open } from 'unvme'
import { fileHandle } from 'unvme/adapters'
import '../support/one-line.ts'

const [address = 'sim:?size=64M', file = fileURLToPath(import.meta.url)] = process.argv.slice(2)
await using ns = await open(address)
await using handle = fileHandle(ns)

const written = createHash('sha256')
const source = createReadStream(file)
source.on('data', (chunk) => written.update(chunk))
const target = handle.createWriteStream({ start: 0, flush: true, autoClose: false })
await pipeline(source, createGzip(), target)
const { size } = await handle.stat()
console.log(`${source.bytesRead} bytes as ${target.bytesWritten} of ${size} on ${address}`)

const read = createHash('sha256')
await pipeline(
  handle.createReadStream({ start: 0, end: target.bytesWritten - 1, autoClose: false }),
  createGunzip(),
  read,
)
console.log(
  read.digest('hex') === written.digest('hex') ? 'reads back as it was' : 'reads back as something else',
)
