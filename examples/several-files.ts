// Copies several files to a device, one after another in its blocks and a few of them at a time, and compares
// them there.
//
//   node dist/examples/several-files.js [ADDRESS] [FILE…]
//
// On a real device this overwrites blocks from 0 on. `copy()` and `compare()` keep the queue full by
// themselves where a file is long; doing several at a time helps where they are short.

import { readdir, stat } from 'node:fs/promises'
import pLimit from 'p-limit'
import { compare, copy, open } from 'unvme'
import './support/one-line.ts'

const [address = 'sim:?size=64M', ...given] = process.argv.slice(2)
const here = import.meta.dirname
const files = (await readdir(here, { withFileTypes: true })).filter((entry) => entry.isFile())
const paths = given.length > 0 ? given : files.map(({ name }) => `${here}/${name}`)

await using ns = await open(address)

// Where each file goes: the first block that is free, as many as it needs.
let slba = 0
const places: { path: string; slba: number; bytes: number }[] = []
for (const path of paths) {
  const { size: bytes } = await stat(path)
  places.push({ path, slba, bytes })
  slba += Math.ceil(bytes / ns.blocksize)
}

const limit = pLimit(4)
const results = await Promise.all(
  places.map((place) =>
    limit(async () => {
      await copy(place.path, ns, { dstSlba: place.slba, flush: false })
      const { difference } = await compare(place.path, ns, { dstSlba: place.slba })
      return { ...place, equal: difference === null }
    }),
  ),
)
await ns.promises.flush()

for (const { path, slba: first, bytes, equal } of results) {
  console.log(`${equal ? 'equal  ' : 'DIFFERS'}  LBA ${String(first).padStart(6)}, ${bytes} bytes  ${path}`)
}
if (results.some(({ equal }) => !equal)) process.exitCode = 1
