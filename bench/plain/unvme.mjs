// node unvme.mjs ADDRESS data|for-await CHUNK TIMES: what anyone writes to read a device as a stream, with a clock around it.
import { open } from 'unvme'

const [address, way, chunk, times] = process.argv.slice(2)
const ns = await open(address)
for (let i = 0; i < times; i++) {
  const before = process.resourceUsage()
  const started = performance.now()
  let bytes = 0
  const stream = ns.createReadStream({ highWaterMark: Number(chunk) })
  if (way === 'for-await') for await (const data of stream) bytes += data.length
  else await new Promise((resolve) => stream.on('data', (data) => (bytes += data.length)).on('end', resolve))
  const ms = performance.now() - started
  console.log(JSON.stringify({ bytes, ms, before, after: process.resourceUsage() }))
}
await ns.close()
