// VFIO's no-IOMMU mode, in a machine without an IOMMU; run there by noiommu.test.ts.

import assert from 'node:assert/strict'
import fs from 'node:fs'
import { DmaPool } from '../../lib/memory/pool.ts'
import { readPciFacts } from '../../lib/pci/sysfs.ts'
import { HUGE_PAGE_BYTES } from '../../lib/sys/units.ts'
import { openVfio } from '../../lib/vfio/index.ts'
import { open } from '../../src/index.ts'
import { startAdminRing } from './admin-ring.ts'
import { check, readHoldings, runChecks } from './checks.ts'

const NAME = '0000:00:04.0'
const noIommu = true

const setHugePages = (count: number) => fs.writeFileSync('/proc/sys/vm/nr_hugepages', String(count))

function bindAgain(): void {
  const device = `/sys/bus/pci/devices/${NAME}`
  if (fs.existsSync(`${device}/driver`)) fs.writeFileSync(`${device}/driver/unbind`, NAME)
  fs.writeFileSync(`${device}/driver_override`, 'vfio-pci')
  fs.writeFileSync('/sys/bus/pci/drivers_probe', NAME)
}

check('without an IOMMU nothing opens, and the error says what to do', async () => {
  // Where the mode is off, the kernel does not even bind.
  await assert.rejects(openVfio(NAME), { code: 'ERR_UNVME_SETUP', message: /not bound to vfio-pci.*IOMMU/ })
  fs.writeFileSync('/sys/module/vfio/parameters/enable_unsafe_noiommu_mode', 'Y')
  bindAgain()
  const facts = readPciFacts(NAME)
  assert.equal(facts.driver, 'vfio-pci')
  assert.equal(facts.iommuGroup, null)
  assert.ok(Number.isInteger(facts.noIommuGroup))
  await assert.rejects(openVfio(NAME), {
    code: 'ERR_UNVME_SETUP',
    message: /no IOMMU.*intel_iommu=on.*noIommu/,
  })
})

check('asked for, it opens with a warning; memory needs a huge page', async () => {
  const warning = new Promise<Error & { code?: string }>((resolve) => process.once('warning', resolve))
  const pci = await openVfio(NAME, { noIommu })
  assert.equal((await warning).code, 'UNVME_NOIOMMU')
  assert.match((await warning).message, /without an IOMMU/)
  assert.equal(pci.iommu, 'noiommu')
  assert.equal(pci.maxArenaBytes, HUGE_PAGE_BYTES)
  assert.throws(() => pci.mapDma(4096), { code: 'ERR_UNVME_OUT_OF_MEMORY', message: /vm.nr_hugepages/ })
  await pci.close()
})

check('Identify, with data at a physical address', async () => {
  setHugePages(16)
  const pci = await openVfio(NAME, { noIommu })
  const ring = startAdminRing(pci)
  assert.equal(ring.arena.iova % HUGE_PAGE_BYTES, 0)
  ring.identify(ring.arena.iova + 8192)
  assert.equal(ring.bytes.toString('latin1', 8192 + 24, 8192 + 38), 'QEMU NVMe Ctrl')
  ring.disable()
  await pci.close()
})

check('buffers of a pool lie in huge pages, apart from each other', async () => {
  const pci = await openVfio(NAME, { noIommu })
  const pool = new DmaPool(pci)
  const buffers = [100, 4096, 70_000, 2 ** 20].map((bytes) => pool.alloc(bytes))
  for (const [i, buffer] of buffers.entries()) buffer.fill(i + 1)
  for (const [i, buffer] of buffers.entries()) assert.ok(buffer.every((byte) => byte === i + 1))
  assert.throws(() => pool.alloc(HUGE_PAGE_BYTES + 1), { code: 'ERR_UNVME_OUT_OF_MEMORY' })
  const stale = buffers[1]!
  pool.free(stale)
  // Recycled memory is zeroed for the next.
  assert.ok(pool.alloc(4096).every((byte) => byte === 0))
  pool.close()
  await pci.close()
  // Touching what was freed does nothing, whether the view is empty or shows nobody's pages.
  stale.fill(7)
})

check('the whole driver reads and writes', async () => {
  const ns = await open(NAME, { noIommu, qcount: 1 })
  const data = ns.alloc(65536)
  for (let i = 0; i < data.length; i++) data[i] = (i * 31) & 0xff
  const back = ns.alloc(65536)
  ns.write(0, data, 0, 128)
  ns.read(0, back, 0, 128)
  assert.ok(back.equals(data))
  await ns.close()
  assert.equal(readHoldings().files.filter((file) => !file.includes('eventfd')).length, 0)
  assert.match(fs.readFileSync('/proc/meminfo', 'utf8'), /HugePages_Free: +16\n/)
})

await runChecks()
