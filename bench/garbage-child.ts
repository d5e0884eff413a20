// The process that bench/garbage.ts has V8 trace: opens a device, warms up, and reads by aread and apoll as many
// times as it is told; or does the same loop without the driver's calls.

import { type Namespace, open } from '../src/index.ts'
import { rawReads } from './commands.ts'

const WARM_UP = 1_000_000
const DEPTH = 32

const [mode, words] = process.argv.slice(2)
const count = Number(words)

await using ns = await open('sim:?size=16M&lba=4096')
rawReads(ns, WARM_UP, DEPTH)
if (mode === 'driver') {
  if (count > 0) rawReads(ns, count, DEPTH)
} else {
  // What rawReads calls, answering at once.
  const descriptor = {}
  const bare = {
    blocksize: ns.blocksize,
    blockcount: ns.blockcount,
    alloc: (bytes: number) => Buffer.alloc(bytes),
    free() {},
    aread: () => descriptor,
    apoll: () => true,
  }
  rawReads(bare as unknown as Namespace, count, DEPTH)
}
