// Ends a long write after a tenth of a second with an AbortSignal, and shows that the device goes on working.
//
//   node dist/examples/abort.js [ADDRESS]
//
// On a real device this overwrites blocks from 0 on. Commands that were sent are waited for, not
// taken back; their memory is the device's until they end.

import { open } from 'unvme'
import './support/one-line.ts'

const [address = 'sim:?latency=1ms'] = process.argv.slice(2)
await using ns = await open(address)

function* zeroes() {
  const chunk = Buffer.alloc(128 * 1024)
  for (;;) yield chunk
}

try {
  await ns.writeBlocks(zeroes(), { slba: 0, depth: 8, signal: AbortSignal.timeout(100) })
} catch (error) {
  // A small device may be full before.
  const { code, message, cause } = error as Error & { code: string }
  console.log(`${code}: ${message}${cause instanceof Error ? ` (${cause.name})` : ''}`)
}
const { bytesWritten, inFlight } = ns.stats
console.log(`${bytesWritten} bytes were written before, ${inFlight} commands are in flight now`)

// The same device, at once.
const block = Buffer.alloc(ns.blocksize, 'still here ')
await ns.promises.write(block, 0)
const back = await ns.promises.read(Buffer.alloc(ns.blocksize), 0)
console.log(back.equals(block) ? 'a block written afterwards reads back' : 'the device lost a block')
process.exitCode = back.equals(block) ? 0 : 1
