// Controllers on threads of their own, one after the other.

import fs from 'node:fs'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import test from 'ava'
import { open } from '../../src/index.ts'

setFlagsFromString('--expose-gc')
const collect: () => void = runInNewContext('gc')

// Of V8's heap, which grows as it likes.
const V8_PAGE = 2 ** 18
function isV8Page(line: string): boolean {
  const [from, to] = line.split(/[- ]/, 2).map((address) => Number.parseInt(address, 16))
  return to! - from! === V8_PAGE
}

// Views that this Node can't detach are unmapped when nobody can see them.
async function mappings(): Promise<number> {
  collect()
  await new Promise((resolve) => setTimeout(resolve, 50))
  const lines = fs.readFileSync('/proc/self/maps', 'utf8').split('\n')
  return lines.filter((line) => !isV8Page(line)).length
}

test('openSim uses threads again, so that controllers that come and go leave no mappings behind', async (t) => {
  const cycle = async () => {
    const ns = await open('sim:?size=4M&thread=1')
    await ns.promises.read(Buffer.alloc(4096), 0)
    await ns.close()
  }
  for (let i = 0; i < 10; i++) await cycle()
  const before = await mappings()
  for (let i = 0; i < 40; i++) await cycle()
  // Three for each thread that had loaded koffi and ended, before.
  const more = (await mappings()) - before
  t.true(more < 40, `${more} more mappings after 40 controllers`)
})
