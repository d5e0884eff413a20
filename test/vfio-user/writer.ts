// A client in a process of its own that writes without end, for tests that end it: `writer.js address`.

import { open } from '../../src/index.ts'

const DEPTH = 64
const [address = ''] = process.argv.slice(2)
const ns = await open(address, { qsize: 256 })
const data = Buffer.alloc(64 * 1024, 0xab)
const nlb = data.length / ns.blocksize
let done = 0

async function write(slba: number): Promise<never> {
  for (;;) {
    await ns.promises.write(data, slba, nlb)
    if (++done === DEPTH) process.send?.('writing')
  }
}

for (let i = 0; i < DEPTH; i++) void write(i * nlb)
