// A client that reads as many blocks as it is told, for the test that counts system calls.
// `reader-process.js address`, then messages with a number of commands; each is answered with the same number.

import { type IoDescriptor, open } from '../../src/index.ts'

const DEPTH = 32
const [address = ''] = process.argv.slice(2)
const ns = await open(address)
const buf = ns.alloc(DEPTH * ns.blocksize)
const parts = Array.from({ length: DEPTH }, (_, i) => buf.subarray(i * ns.blocksize, (i + 1) * ns.blocksize))

function read(count: number): void {
  const iods: (IoDescriptor | undefined)[] = parts.map((part, i) => ns.aread(0, part, i, 1))
  for (let done = 0, sent = DEPTH; done < count; ) {
    for (let i = 0; i < DEPTH && done < count; i++) {
      const iod = iods[i]
      if (iod === undefined || !ns.apoll(iod)) continue
      done++
      if (sent < count) iods[i] = ns.aread(0, parts[i]!, sent++ % ns.blockcount, 1)
      else iods[i] = undefined
    }
  }
}

process.on('message', (count: number) => {
  read(count)
  process.send?.(count)
})
process.on('disconnect', () => void ns.close())
process.send?.('ready')
