// Controllers on threads of their own, one after the other.

import fs from 'node:fs'
import test from 'ava'
import { open } from '../../src/index.ts'

const mappings = () => fs.readFileSync('/proc/self/maps', 'utf8').split('\n').length

test('openSim uses threads again, so that controllers that come and go leave no mappings behind', async (t) => {
  const cycle = async () => {
    const ns = await open('sim:?size=4M&thread=1')
    await ns.promises.read(Buffer.alloc(4096), 0)
    await ns.close()
  }
  for (let i = 0; i < 10; i++) await cycle()
  const before = mappings()
  for (let i = 0; i < 40; i++) await cycle()
  // Three for each thread that had loaded koffi and ended, before.
  t.true(mappings() - before < 40, `${mappings() - before} more mappings after 40 controllers`)
})
