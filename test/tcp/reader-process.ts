// A host that reads or writes as many blocks as it is told, 32 at a time, for the test that counts system calls.
// `reader-process.js address`, then messages with what to do; each is answered.

import { type IoDescriptor, open } from '../../src/index.ts'

export interface Work {
  readonly op: 'read' | 'write'
  readonly how: 'polled' | 'promises'
  readonly commands: number
}

const DEPTH = 32
const [address = ''] = process.argv.slice(2)
const ns = await open(address, { qsize: 64 })
const buf = ns.alloc(DEPTH * ns.blocksize)
const parts = Array.from({ length: DEPTH }, (_, i) => buf.subarray(i * ns.blocksize, (i + 1) * ns.blocksize))

function poll({ op, commands }: Work): void {
  const send = op === 'read' ? ns.aread : ns.awrite
  const iods: IoDescriptor[] = []
  for (let done = 0; done < commands; done += DEPTH) {
    for (const [i, part] of parts.entries()) iods[i] = send.call(ns, 0, part, i, 1)
    for (const iod of iods) while (!ns.apoll(iod, 10));
  }
}

async function wait({ op, commands }: Work): Promise<void> {
  for (let done = 0; done < commands; done += DEPTH) {
    await Promise.all(parts.map((part, i) => ns.promises[op](part, i, 1)))
  }
}

process.on('message', async (work: Work) => {
  if (work.how === 'polled') poll(work)
  else await wait(work)
  process.send?.('done')
})
process.on('disconnect', () => void ns.close())
process.send?.('ready')
