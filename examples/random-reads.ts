// Reads random blocks of 4 KiB as fast as they come, with UNVMe's raw calls: aread sends, apoll looks whether it
// is done. Prints the rate and how many commands went out with one doorbell.
//
//   node dist/examples/random-reads.js [ADDRESS] [SECONDS] [DEPTH]
//
// Trade-off: this loop never returns to the event loop: the lowest latency there is, on a core of its own.

import { type IoDescriptor, open } from 'unvme'
import './support/one-line.ts'

const [address = 'sim:?size=256M', seconds = '1', wanted = '32'] = process.argv.slice(2)
await using ns = await open(address)
// The queue may be shorter.
const depth = Math.min(Number(wanted), ns.maxiopq)

const QID = 0
const nlb = Math.max(1, 4096 / ns.blocksize)
const positions = Math.floor(ns.blockcount / nlb)

// One allocation, cut into buffers: any part at a multiple of 512 bytes will do.
const memory = ns.alloc(depth * nlb * ns.blocksize)
const buffers = Array.from({ length: depth }, (_, i) =>
  memory.subarray(i * nlb * ns.blocksize, (i + 1) * nlb * ns.blocksize),
)
const send = (buffer: Buffer): IoDescriptor =>
  ns.aread(QID, buffer, Math.floor(Math.random() * positions) * nlb, nlb)

const before = ns.stats
const started = performance.now()
const end = started + Number(seconds) * 1000
const inFlight = buffers.map(send)
let reads = 0

do {
  // The clock costs as much as a read: it is looked at once for many of them.
  for (let round = 0; round < 100; round++) {
    for (let i = 0; i < inFlight.length; i++) {
      if (!ns.apoll(inFlight[i]!)) continue
      reads++
      inFlight[i] = send(buffers[i]!)
    }
  }
} while (performance.now() < end)
for (const iod of inFlight) while (!ns.apoll(iod));

const elapsed = (performance.now() - started) / 1000
const { commands, doorbells } = ns.stats
console.log(`${reads} reads of ${nlb * ns.blocksize} bytes in ${elapsed.toFixed(2)} s, depth ${depth}`)
console.log(`${Math.round(reads / elapsed).toLocaleString('en')} reads/s`)
console.log(
  `${((commands - before.commands) / (doorbells - before.doorbells)).toFixed(1)} commands for each doorbell`,
)
ns.free(memory)
