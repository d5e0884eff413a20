// A host that writes, several blocks at once, until it is killed: `killed-host-program.js address`. It says when it has begun.

import { open } from '../../src/index.ts'
import { pattern } from '../support/pattern.ts'

const BLOCKS = 256
const ns = await open(process.argv[2]!)
const work = async (first: number) => {
  for (let round = 0; ; round++) {
    await ns.promises.write(pattern(BLOCKS * ns.blocksize, round), first * BLOCKS, BLOCKS)
    if (round === 3) process.send!('writing')
  }
}
await Promise.all(Array.from({ length: 8 }, (_, i) => work(i)))
