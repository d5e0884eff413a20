// Writes a pattern that tells where every block belongs, made by a generator, and checks it by reading back:
// finds blocks that went to the wrong place, or nowhere.
//
//   node dist/examples/pattern-write.js [ADDRESS] [BLOCKS]
//
// On a real device this overwrites the first BLOCKS blocks. `writeBlocks()` copies each chunk before
// it asks for the next, so the generator fills one buffer again and again.

import { open } from 'unvme'
import './support/one-line.ts'

const [address = 'sim:?size=64M', count] = process.argv.slice(2)
await using ns = await open(address)
const nlb = Number(count ?? ns.blockcount)

/** Every 8 bytes of a block: its LBA in the lower half, the position in the block in the upper one. */
function fill(block: Buffer, lba: number): void {
  for (let at = 0; at < block.length; at += 8) {
    block.writeUInt32LE(lba >>> 0, at)
    block.writeUInt32LE(at, at + 4)
  }
}

function* pattern() {
  const block = Buffer.alloc(ns.blocksize)
  for (let lba = 0; lba < nlb; lba++) {
    fill(block, lba)
    yield block
  }
}

const bytes = await ns.writeBlocks(pattern(), { slba: 0, nlb })
console.log(`wrote ${bytes} bytes`)

const expected = Buffer.alloc(ns.blocksize)
let wrong = 0
for await (const { slba, nlb: n, data } of ns.blocks({ slba: 0, nlb })) {
  for (let i = 0; i < n; i++) {
    fill(expected, slba + i)
    if (data.compare(expected, 0, expected.length, i * ns.blocksize, (i + 1) * ns.blocksize) === 0) continue
    if (wrong++ === 0) console.log(`LBA ${slba + i} does not hold what was written`)
  }
}
console.log(wrong === 0 ? `${nlb} blocks hold what was written` : `${wrong} of ${nlb} blocks are wrong`)
process.exitCode = wrong === 0 ? 0 : 1
