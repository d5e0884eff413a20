// QEMU's controller goes away under load and comes back: run in the machine by recovery.test.ts.

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import fs from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { type Namespace, open } from '../../src/index.ts'
import { check, readHoldings, runChecks } from './checks.ts'

const ADDRESS = '00:04.0'
const CC = 0x14

/** Loops that write blocks of their own and read them back, until `end` is called; it resolves with their rounds. */
function startLoad(ns: Namespace, loops = 16): { end(): Promise<number> } {
  let ended = false
  let rounds = 0
  const work = async (index: number) => {
    const data = Buffer.alloc(4096)
    const read = Buffer.alloc(4096)
    const nlb = data.length / ns.blocksize
    for (let round = 1; !ended; round++) {
      data.fill(`${index}/${round}.`)
      const slba = nlb * (index + loops * (round % 64))
      await ns.promises.write(data, slba)
      await ns.promises.read(read, slba)
      assert.deepEqual(read, data)
      rounds++
    }
  }
  const running = Promise.all(Array.from({ length: loops }, (_, index) => work(index)))
  return {
    end: async () => {
      ended = true
      await running
      return rounds
    },
  }
}

async function underLoad(disturb: (ns: Namespace) => Promise<void>, times: number): Promise<Namespace> {
  const ns = await open(ADDRESS, { timeout: 20_000 })
  const load = startLoad(ns)
  for (let i = 0; i < times; i++) {
    await disturb(ns)
    await delay(200)
  }
  assert.ok((await load.end()) > 0)
  assert.equal(ns.stats.inFlight, 0)
  assert.equal(ns.stats.lost, 0)
  return ns
}

check('a controller that somebody else disables is reset, and reads and writes go on', async () => {
  const before = readHoldings()
  const ns = await underLoad(async ({ controller }) => {
    const { transport } = controller as unknown as {
      transport: { writeProperty(offset: number, value: number): Promise<void> }
    }
    await transport.writeProperty(CC, 0)
  }, 10)
  assert.ok(ns.stats.resets >= 5, `${ns.stats.resets} resets`)
  await ns.close()
  assert.deepEqual(readHoldings(), before)
})

check('a function that is reset by sysfs comes back, and reads and writes go on', async () => {
  const ns = await underLoad(async () => {
    fs.writeFileSync(`/sys/bus/pci/devices/0000:${ADDRESS}/reset`, '1')
  }, 5)
  assert.ok(ns.stats.resets >= 1, `${ns.stats.resets} resets`)
  await ns.close()
})

check('a machine that is stopped and continued loses nothing', async () => {
  const ns = await underLoad(async () => {
    assert.equal(spawnSync('vm-host', ['pause', 'hot'], { stdio: 'inherit' }).status, 0)
  }, 2)
  await ns.close()
})

await runChecks()
