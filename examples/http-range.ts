// Serves a device over HTTP with ranges of bytes, so that `curl -r` or a virtual machine can read it.
//
//   node dist/examples/http-range.js [ADDRESS] [PORT]
//
// Without arguments it serves a software controller, asks it for a range itself, and ends. A range is
// read as whole blocks and cut; a client that goes away ends its stream, and its commands with it.

import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Transform } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { open } from 'unvme'
import './support/one-line.ts'

const [address, port = '0'] = process.argv.slice(2)
await using ns = await open(address ?? 'sim:?size=64M')
const { blocksize, blockcount } = ns
const size = blockcount * blocksize

const server = createServer(async (request, response) => {
  const range = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? 'bytes=0-')
  const start = Number(range?.[1])
  const end = Math.min(Number(range?.[2] || size - 1), size - 1)
  if (!range || start > end) {
    response.writeHead(416, { 'content-range': `bytes */${size}` }).end()
    return
  }
  response.writeHead(request.headers.range ? 206 : 200, {
    'content-length': end - start + 1,
    'content-range': `bytes ${start}-${end}/${size}`,
    'accept-ranges': 'bytes',
  })
  const slba = Math.floor(start / blocksize)
  const nlb = Math.floor(end / blocksize) - slba + 1
  await pipeline(
    ns.createReadStream({ slba, nlb }),
    slice(start - slba * blocksize, end - start + 1),
    response,
  ).catch((error: Error) => console.error(`${request.url}: ${error.message}`))
})

/** Passes `length` bytes on after the first `skip`. */
function slice(skip: number, length: number): Transform {
  return new Transform({
    transform(chunk: Buffer, _encoding, callback) {
      const part = chunk.subarray(skip, skip + length)
      skip = Math.max(0, skip - chunk.length)
      length -= part.length
      callback(null, part)
    },
  })
}

await new Promise<void>((resolve) => server.listen(Number(port), '127.0.0.1', resolve))
const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`
console.log(`${size} bytes of ${ns.device} at ${url}`)

if (address === undefined) {
  await ns.promises.write(Buffer.alloc(2 * blocksize, '0123456789'), 10)
  const from = 10 * blocksize + 500
  const answer = await fetch(url, { headers: { range: `bytes=${from}-${from + 19}` } })
  console.log(`${answer.status} ${answer.headers.get('content-range')}: ${await answer.text()}`)
} else {
  await new Promise((resolve) => process.once('SIGINT', resolve))
}
server.close()
server.closeAllConnections()
