// `other-machine-program.js address…`: writes and reads each by promises, streams and iterators; prints what came of it.

import { pipeline } from 'node:stream/promises'
import { open } from '../../src/index.ts'
import { pattern } from '../support/pattern.ts'

async function work(address: string): Promise<string> {
  await using ns = await open(address)
  const data = pattern(300 * ns.blocksize, 1)
  const same = (parts: readonly Uint8Array[], from = data) => Buffer.concat(parts).equals(from)
  await ns.promises.write(data, 0)
  if (!same([await ns.promises.read(Buffer.alloc(data.length), 0)])) return 'promises differ'
  const other = pattern(data.length, 2)
  await pipeline([other], ns.createWriteStream({ slba: 0 }))
  const taken: Buffer[] = []
  for await (const chunk of ns.createReadStream({ slba: 0, nlb: 300 })) taken.push(chunk)
  if (!same(taken, other)) return 'streams differ'
  const chunks: Buffer[] = []
  for await (const { data } of ns.blocks({ slba: 0, nlb: 300, chunk: 64 })) chunks.push(Buffer.from(data))
  if (!same(chunks, other)) return 'blocks differ'
  const web: Uint8Array[] = []
  for await (const chunk of ns.readableWebStream({ slba: 0, nlb: 300 })) web.push(chunk)
  if (!same(web, other)) return 'web streams differ'
  await ns.promises.flush()
  const part = ns.alloc(ns.blocksize)
  const iod = ns.aread(0, part, 7, 1)
  while (!ns.apoll(iod)) await new Promise(setImmediate)
  if (!other.subarray(7 * ns.blocksize, 8 * ns.blocksize).equals(part)) return 'aread differs'
  ns.free(part)
  return 'works'
}

for (const address of process.argv.slice(2)) {
  console.log(await work(address).catch((error: NodeJS.ErrnoException) => `${error.code}: ${error.message}`))
}
