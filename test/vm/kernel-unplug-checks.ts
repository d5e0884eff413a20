// Runs in the virtual machine: a device of the kernel's driver is unplugged. A machine without an IOMMU: with one, Linux
// 6.1 itself fails (nvme_dbbuf_dma_free) when the last file of a controller is closed that was unplugged, whose ever it is.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import fs from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { open } from '../../src/index.ts'
import { check, runChecks } from './checks.ts'

const PCI = '/sys/bus/pci/devices/0000:01:00.0'

const unplug = () => void spawn('vm-host', ['unplug', 'hot'], { stdio: 'inherit' })

for (const io of ['io_uring', 'ioctl'] as const) {
  check(
    `a device that is unplugged under load rejects everything with DeviceRemovedError, by ${io}`,
    async () => {
      const name = fs.readdirSync(`${PCI}/nvme`)[0]!
      const ns = await open(`/dev/${name}n1?io=${io}`, { qsize: 64 })
      const bufs = Array.from({ length: 32 }, () => ns.alloc(65536))
      const ends = bufs.map(async (buf, i) => {
        for (let n = 0; ; n++) {
          const slba = ((i + 32 * n) % 256) * (65536 / ns.blocksize)
          await (n % 2 === 0 ? ns.promises.read(buf, slba) : ns.promises.write(buf, slba))
        }
      })
      await delay(300)
      unplug()
      const results = await Promise.allSettled(ends)
      const errors = results.map((result) => (result as PromiseRejectedResult).reason)
      const codes = new Set(errors.map(({ code }) => code))
      assert.deepEqual([...codes], ['ERR_UNVME_DEVICE_REMOVED'], String(errors.find((one) => one)))
      await assert.rejects(ns.promises.read(Buffer.alloc(4096), 0), { code: 'ERR_UNVME_DEVICE_REMOVED' })
      await ns.close()
      const until = performance.now() + 30_000
      while (fs.existsSync(PCI) && performance.now() < until) await delay(50)
      assert.equal(fs.existsSync(PCI), false)
      for (let tries = 0; tries < 20 && !(await plugged()); tries++) await delay(200)
      while (!fs.existsSync(`${PCI}/nvme`) && performance.now() < until) await delay(50)
      await delay(500)
    },
  )
}

/** True where the machine has taken it back. */
async function plugged(): Promise<boolean> {
  const child = spawn('vm-host', ['plug', 'hot'], { stdio: 'ignore' })
  return new Promise((resolve) => child.on('close', (code) => resolve(code === 0)))
}

await runChecks()
