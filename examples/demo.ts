// A real file through real NVMe queues, in this process: written to a software controller by a pipeline, read
// back by a stream and by an iterator, verified, with rates and how full the queue was kept.
//
//   npm run demo
//
// The file is the node binary that runs this. First the controller answers at once: it is never waited for, and
// the queue is nearly empty. Then each command takes 5 ms, any number at once: there the rate depends on how full
// the queue is kept. Exits with 1 where a byte differs.

import { createReadStream } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { pipeline } from 'node:stream/promises'
import { crc32 } from 'node:zlib'
import { type Namespace, open, type Stats } from 'unvme'
import './support/one-line.ts'

// The defaults of every stream and iterator.
const DEPTH = 32
const CHUNK = 128 * 1024
const LATENCY_MS = 5
const MIB = 1 << 20

const path = process.execPath
const file = await readFile(path)
const size = `${Math.ceil(file.length / MIB) + 1}M`

console.log(`A file through NVMe queues: ${path}, ${file.length} bytes`)
await demonstrate(`sim:?lba=4096&size=${size}&populate=1`, 'It answers at once: the processor is the limit.')
const limit = (DEPTH * CHUNK) / LATENCY_MS / 1000
await demonstrate(
  `sim:?lba=4096&size=${size}&populate=1&latency=${LATENCY_MS}ms`,
  `It takes ${LATENCY_MS} ms for each command: ${DEPTH} of ${CHUNK / 1024} KiB in flight make ${limit.toFixed(0)} MB/s, no more.`,
)
console.log(process.exitCode ? '\nFAILED: see above' : '\nAll read back as written.')

async function demonstrate(address: string, what: string): Promise<void> {
  await using ns = await open(address)
  const nlb = Math.ceil(file.length / ns.blocksize)
  console.log(`\n${address}\n${what}`)
  console.log(row('', 'time', 'rate', 'commands', 'doorbells', 'in flight', ''))

  await measure(ns, 'write pipeline', async () => {
    await pipeline(
      createReadStream(path, { highWaterMark: MIB }),
      ns.createWriteStream({ slba: 0, depth: DEPTH }),
    )
    return ''
  })

  await measure(ns, 'read stream', async () => {
    let left = file.length
    let crc = 0
    for await (const chunk of ns.createReadStream({ slba: 0, nlb, depth: DEPTH })) {
      crc = crc32(chunk.subarray(0, left), crc)
      left -= Math.min(left, chunk.length)
    }
    return result(left === 0 && crc === crc32(file), 'CRC-32')
  })

  await measure(ns, 'read for await', async () => {
    let equal = 0
    for await (const { slba, data } of ns.blocks({ slba: 0, nlb, depth: DEPTH })) {
      const start = slba * ns.blocksize
      const end = Math.min(start + data.length, file.length)
      if (data.compare(file, start, end, 0, end - start) === 0) equal += end - start
    }
    return result(equal === file.length, 'blocks')
  })
}

/** Runs one step, and prints how long it took and what the queue did meanwhile. */
async function measure(ns: Namespace, name: string, step: () => Promise<string>): Promise<void> {
  const before = ns.stats
  const started = performance.now()
  const checked = await step()
  const ms = performance.now() - started
  const after = ns.stats
  const moved = (key: keyof Stats) => after[key] - before[key]
  const occupancy = moved('inFlightTime') / moved('wantedTime')
  console.log(
    row(
      name,
      `${ms.toFixed(0)} ms`,
      `${(file.length / ms / 1000).toFixed(0)} MB/s`,
      String(moved('commands')),
      String(moved('doorbells')),
      `${(occupancy * DEPTH).toFixed(1)} of ${DEPTH}`,
      checked,
    ),
  )
}

function result(good: boolean, how: string): string {
  if (!good) process.exitCode = 1
  return `${how} ${good ? 'equal' : 'DIFFER'}`
}

function row(name: string, ...cells: string[]): string {
  const widths = [8, 10, 10, 10, 12]
  const checked = cells.pop()
  const columns = cells.map((cell, i) => cell.padStart(widths[i]!))
  return `  ${name.padEnd(14)}${columns.join('')}  ${checked}`.trimEnd()
}
