// Walks over all blocks of a device with `for await`, and prints the ranges that are not empty: a map of what is
// in use.
//
//   node dist/examples/iterate-blocks.js [ADDRESS]
//
// `blocks()` reads ahead, and its data is valid until the next step; `copy: true` would hand out buffers that stay.

import { open } from 'unvme'
import './support/one-line.ts'

const [address] = process.argv.slice(2)
await using ns = await open(address ?? 'sim:?size=64M')

if (address === undefined) {
  // Something to find.
  await ns.promises.write(Buffer.alloc(3 * ns.blocksize, 'first'), 100)
  await ns.promises.write(Buffer.alloc(ns.blocksize, 'second'), 70_000)
}

const empty = Buffer.alloc(ns.blocksize)
let start = -1
let ranges = 0

for await (const { slba, nlb, data } of ns.blocks({ chunk: 256 })) {
  for (let i = 0; i < nlb; i++) {
    const used = data.compare(empty, 0, empty.length, i * ns.blocksize, (i + 1) * ns.blocksize) !== 0
    if (used && start < 0) start = slba + i
    if (!used && start >= 0) report(slba + i)
  }
}
if (start >= 0) report(ns.blockcount)
console.log(`${ranges} ranges in use, of ${ns.blockcount} blocks of ${ns.blocksize} bytes`)

function report(end: number): void {
  console.log(`LBA ${start} to ${end - 1}: ${end - start} blocks`)
  start = -1
  ranges++
}
