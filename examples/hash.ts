// SHA-256 and CRC-32 of a device or a part of it, by a stream, as sha256sum prints them.
//
//   node dist/examples/hash.js [ADDRESS] [SLBA] [NLB]

import { createHash } from 'node:crypto'
import { crc32 } from 'node:zlib'
import { open } from 'unvme'
import './support/one-line.ts'

const [address = 'sim:?size=64M', slba = '0', nlb] = process.argv.slice(2)
await using ns = await open(address)

const sha256 = createHash('sha256')
let crc = 0
const stream = ns.createReadStream({ slba: Number(slba), ...(nlb && { nlb: Number(nlb) }) })
for await (const chunk of stream) {
  sha256.update(chunk)
  crc = crc32(chunk, crc)
}
console.log(`${sha256.digest('hex')}  ${address}`)
console.log(`${crc.toString(16).padStart(8, '0')}  crc32 of ${stream.bytesRead} bytes`)
