// Runs in the virtual machine: a namespace of the kernel's driver, or of a device under VFIO, behind a vfio-user socket.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import fs from 'node:fs'
import { open, serve } from '../../src/index.ts'
import { pattern } from '../support/pattern.ts'
import { check, runChecks } from './checks.ts'

const BYTES = 2 ** 20
const ADDRESS = 'vfio-user:/run/cntrl'
const DISK = '/dev/nvme0n1'
const device = fs.existsSync(DISK) ? DISK : /lba4096=(\S+)/.exec(process.env.UNVME_VM_CONTROLLERS ?? '')?.[1]

check('a device is read and written by a vfio-user client', async () => {
  const back = await open(device!, { qcount: 2 })
  const server = await serve(ADDRESS, { device: back })
  const ns = await open(ADDRESS, { qcount: 2 })
  assert.deepEqual([ns.blocksize, ns.blockcount], [back.blocksize, back.blockcount])
  const data = pattern(BYTES, 1)
  await ns.promises.write(data, 3)
  await ns.promises.flush()
  assert.ok(data.equals(await back.promises.read(Buffer.alloc(BYTES), 3)))
  const lane = async (i: number) => {
    for (let n = 0; n < 5; n++) {
      const own = pattern(4096, 100 * i + n)
      await ns.promises.write(own, 1024 + i, 1, { qid: i % 2 })
      assert.ok(own.equals(await ns.promises.read(Buffer.alloc(4096), 1024 + i, 1, { qid: i % 2 })))
    }
  }
  await Promise.all(Array.from({ length: 16 }, (_, i) => lane(i)))
  await ns.promises.writeZeroes(3, 8)
  assert.ok((await back.promises.read(Buffer.alloc(32_768), 3)).every((byte) => byte === 0))
  assert.equal(server.stats.failures, 0)
  await ns.close()
  await server.close()
  await back.close()
})

check('a device that the system uses is served for reading alone', async () => {
  if (device !== DISK) return
  const holder = spawn('sh', ['-c', `exec 3<>${DISK}; echo; exec sleep 60`], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  await once(holder.stdout, 'data')
  const back = await open(DISK)
  await assert.rejects(serve(ADDRESS, { device: back }), { code: 'ERR_UNVME_IN_USE' })
  const server = await serve(ADDRESS, { device: back, readOnly: true })
  const ns = await open(ADDRESS)
  await ns.promises.read(Buffer.alloc(4096), 0)
  await assert.rejects(ns.promises.write(Buffer.alloc(4096), 0), /Write Protected/)
  await ns.close()
  await server.close()
  await back.close()
  holder.kill()
  await once(holder, 'close')
})

await runChecks()
