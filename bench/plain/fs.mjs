// node fs.mjs FILE data|for-await CHUNK TIMES: what anyone writes to read a file as a stream, with a clock around it.
import fs from 'node:fs'

const [file, way, chunk, times] = process.argv.slice(2)
for (let i = 0; i < times; i++) {
  const before = process.resourceUsage()
  const started = performance.now()
  let bytes = 0
  const stream = fs.createReadStream(file, { highWaterMark: Number(chunk) })
  if (way === 'for-await') for await (const data of stream) bytes += data.length
  else await new Promise((resolve) => stream.on('data', (data) => (bytes += data.length)).on('end', resolve))
  const ms = performance.now() - started
  console.log(JSON.stringify({ bytes, ms, before, after: process.resourceUsage() }))
}
