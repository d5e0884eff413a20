// A controller behind a root port is unplugged with commands in flight, and comes back; run in the machine by
// unplug.test.ts. The kernel holds the removal until the process lets the device go, so each check that ends
// shows that it did.

import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import fs from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { readPciFacts } from '../../lib/pci/sysfs.ts'
import { openVfio } from '../../lib/vfio/index.ts'
import { open } from '../../src/index.ts'
import { startAdminRing } from './admin-ring.ts'
import { check, readHoldings, runChecks } from './checks.ts'

const NAME = '0000:01:00.0'
const device = `/sys/bus/pci/devices/${NAME}`
const ALL_ONES = 0xffff_ffff
const REMOVED = 'ERR_UNVME_DEVICE_REMOVED'

/** Asks for the removal; the event loop need not run for it to begin. */
const unplug = () => void spawn('vm-host', ['unplug', 'hot'], { stdio: 'inherit' })

async function waitFor(what: string, done: () => boolean): Promise<void> {
  const until = performance.now() + 30_000
  while (!done()) {
    if (performance.now() > until) throw new Error(`no ${what} within 30 s`)
    await delay(20)
  }
}

/** The system has let the device go: then it can come back, bound to vfio-pci again. */
async function replug(): Promise<void> {
  await waitFor('removal', () => !fs.existsSync(device))
  for (let tries = 0; tries < 20; tries++) {
    // Until the machine has given the old one up, its name is taken.
    if (spawnSync('vm-host', ['plug', 'hot']).status === 0) break
    await delay(200)
  }
  await waitFor('device', () => fs.existsSync(`${device}/driver`))
  fs.writeFileSync(`${device}/driver/unbind`, NAME)
  fs.writeFileSync(`${device}/driver_override`, 'vfio-pci')
  fs.writeFileSync('/sys/bus/pci/drivers_probe', NAME)
  assert.equal(readPciFacts(NAME).driver, 'vfio-pci')
}

check('the event loop learns of it: registers read all-ones, the device is let go', async () => {
  const before = readHoldings()
  const pci = await openVfio(NAME)
  let removed: (Error & { code?: string }) | undefined
  pci.onRemoved = (cause) => {
    removed = cause
  }
  const ring = startAdminRing(pci)
  ring.identify(ring.arena.iova + 8192)
  unplug()
  while (removed === undefined) {
    // Doorbells are rung up to the end, as a poll loop would.
    pci.doorbells[1] = 0
    await new Promise(setImmediate)
  }
  assert.equal(removed.code, REMOVED)
  assert.equal(pci.readRegister(0x1c), ALL_ONES)
  pci.doorbells[0] = 1
  assert.throws(() => pci.mapDma(4096), { code: REMOVED })
  await assert.rejects(pci.reset(), { code: REMOVED })
  await waitFor('removal', () => !fs.existsSync(device))
  // The memory is still there, as the owner's until close.
  assert.equal(ring.bytes.toString('latin1', 8192 + 24, 8192 + 28), 'QEMU')
  await pci.close()
  assert.equal(pci.readRegister(0x1c), ALL_ONES)
  assert.deepEqual(readHoldings(), before)
  await replug()
})

check('a caller that never lets the event loop run learns of it by looking', async () => {
  const pci = await openVfio(NAME)
  let calls = 0
  pci.onRemoved = () => calls++
  const ring = startAdminRing(pci)
  unplug()
  const until = performance.now() + 30_000
  for (let polls = 1; ; polls++) {
    ring.identify(ring.arena.iova + 8192)
    if (polls % 20 === 0 && pci.checkRemoved()) break
    assert.ok(performance.now() < until, 'removal within 30 s')
  }
  assert.equal(pci.readRegister(0x1c), ALL_ONES)
  assert.equal(pci.checkRemoved(), true)
  assert.equal(calls, 0, 'the event loop has not run')
  await waitFor('removal', () => !fs.existsSync(device))
  assert.equal(calls, 1)
  await pci.close()
  await replug()
})

check('every call in flight is rejected, and so is every later one', async () => {
  const ns = await open(NAME, { qcount: 1, qsize: 64 })
  const buffer = ns.alloc(512)
  const codes: string[] = []
  let reads = 0
  const failed = (error: unknown) => codes.push((error as { code: string }).code)
  const iterate = async (slba: number) => {
    for (;;) for await (const { nlb } of ns.blocks({ slba, nlb: 1024, chunk: 64 })) reads += nlb > 0 ? 1 : 0
  }
  const poll = async (slba: number) => {
    const buffer = ns.alloc(65536)
    for (;;) {
      const iod = ns.aread(0, buffer, slba, 128)
      while (!ns.apoll(iod)) await new Promise(setImmediate)
      reads++
    }
  }
  const all = Array.from({ length: 4 }, (_, i) => iterate(i * 4096).catch(failed))
  for (let i = 0; i < 16; i++) all.push(poll(i * 128).catch(failed))
  await waitFor('reads', () => reads > 100)
  unplug()
  await Promise.all(all)
  assert.deepEqual(codes, Array(20).fill(REMOVED))
  assert.throws(() => ns.read(0, buffer, 0, 1), { code: REMOVED })
  await waitFor('removal', () => !fs.existsSync(device))
  await ns.close()
  await replug()
})

check('a blocking read ends with the error', async () => {
  const ns = await open(NAME, { qcount: 1 })
  const buffer = ns.alloc(4096)
  ns.read(0, buffer, 0, 8)
  unplug()
  const until = performance.now() + 30_000
  assert.throws(
    () => {
      while (performance.now() < until) ns.read(0, buffer, 0, 8)
    },
    { code: REMOVED },
  )
  await ns.close()
  await replug()
  const again = await open(NAME)
  again.read(0, again.alloc(512), 0, 1)
  await again.close()
})

await runChecks()
