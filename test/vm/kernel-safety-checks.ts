// Runs in the virtual machine: what could harm data on devices of the kernel's own driver. One of them answers slowly.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import fs from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { Worker } from 'node:worker_threads'
import { createRing, viewsOfRing } from '../../lib/nvme/linux/ring.ts'
import { findKernelController } from '../../lib/nvme/linux/sysfs.ts'
import { UringQueue } from '../../lib/nvme/linux/uring-queue.ts'
import { ADMIN, NVM } from '../../lib/nvme/spec/opcodes.ts'
import { open, openController } from '../../src/index.ts'
import { check, runChecks } from './checks.ts'

const THREADS = new URL('../../src/threads/index.js', import.meta.url).href
const NAMESPACE = /^nvme\d+n\d+$/

const nameOf = (serial: string) =>
  fs
    .readdirSync('/dev')
    .filter((name) => NAMESPACE.test(name))
    .find((name) => fs.readFileSync(`/sys/class/block/${name}/device/serial`, 'utf8').trim() === serial)!

const IN_USE = { code: 'ERR_UNVME_IN_USE', message: /is open in process/ }

/** Runs while another process has a file open to write it. */
async function whileOpen(file: string, work: () => Promise<void>): Promise<void> {
  const holder = spawn('sh', ['-c', `exec 3<>${file}; echo; exec sleep 60`], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  await once(holder.stdout, 'data')
  try {
    await work()
  } finally {
    holder.kill()
    await once(holder, 'close')
  }
}

check('a process that is started while reads are in flight takes none of their data', async () => {
  await using ns = await open(`/dev/${nameOf('slow')}`, { qsize: 256 })
  const { blocksize } = ns
  const others = ns.alloc(4096)
  const page = ns.alloc(4096)
  for (let round = 0; round < 5; round++) {
    page.fill(0xaa)
    const before = Array.from({ length: 200 }, () => ns.aread(0, others, 0, 1))
    const read = ns.aread(0, page.subarray(0, blocksize), 0, 1)
    assert.equal(ns.apoll(read, 0), false)
    const child = spawn('/bin/sleep', ['0.01'], { stdio: 'ignore' })
    // The same page, another block of it.
    page[4095] = 1
    for (const descriptor of [...before, read]) assert.ok(ns.apoll(descriptor, 10_000))
    assert.ok(page.subarray(0, blocksize).every((byte) => byte === 0))
    await once(child, 'close')
  }
})

check('nothing that was sent before a reset is in the kernel after it', async () => {
  await using ns = await open(`/dev/${nameOf('slow')}`, { qsize: 4096 })
  const buf = ns.alloc(4096)
  const { reset } = UringQueue.prototype
  const outstanding: number[] = []
  UringQueue.prototype.reset = function () {
    reset.call(this)
    outstanding.push(this.outstanding)
  }
  // More than the kernel has tags for: the others wait, longer than the kernel waits before a reset.
  const ends = Array.from({ length: 4000 }, () => ns.promises.read(buf, 0))
  const settled = Promise.allSettled(ends)
  await delay(0)
  // On a busy host they may go on for longer than is waited for: then their memory stays in use.
  const error = await ns.controller.reset().catch((error: { code: string }) => error)
  UringQueue.prototype.reset = reset
  assert.deepEqual(outstanding, error ? [] : [0])
  const rejected = (await settled).filter(({ status }) => status === 'rejected')
  assert.ok(rejected.length > 0)
  if (error) assert.equal(error.code, 'ERR_UNVME_TIMEOUT')
  else await ns.promises.read(Buffer.alloc(4096), 0)
})

check("entries that the kernel's thread has not taken yet are outstanding", () => {
  const name = nameOf('slow')
  const fd = fs.openSync(`/dev/${name.replace('nvme', 'ng')}`, 'r+')
  const files = { address: name, fdOf: () => fd, fileOf: () => name, health: () => null }
  const options = { qid: 1, entries: 8, maxBytes: 4096, timeout: 10_000, kernelTimeout: 10_000 }
  const queue = new UringQueue(files, options, createRing({ entries: 8, sqpoll: true }))
  for (let i = 0; i < 4; i++) queue.post(NVM.FLUSH, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0)
  queue.ring()
  // It may have ended all of them already, on a busy host.
  const { words } = viewsOfRing(queue.ringShare)
  const { outstanding } = queue
  assert.ok(outstanding > 0 || words[queue.ringShare.cqTail]! - words[queue.ringShare.sqTail]! === 0)
  for (let ended = 0; ended < 4; ) {
    queue.step()
    if (queue.reap() >= 0) ended++
  }
  assert.equal(queue.outstanding, 0)
  queue.free()
  fs.closeSync(fd)
})

const serialOf = (name: string) => fs.readFileSync(`/sys/class/nvme/${name}/serial`, 'utf8').trim()
const controllerOf = (serial: string) =>
  fs.readdirSync('/sys/class/nvme').find((name) => serialOf(name) === serial)!

check('a namespace that was detached and attached again is opened again, and asked about', async () => {
  const controller = controllerOf('paths')
  await using handle = await openController(`/dev/${controller}`)
  const list = Buffer.alloc(4096)
  list.writeUInt16LE(1, 0)
  list.writeUInt16LE(handle.controller.identity.cntlid, 2)
  const find = () => findKernelController(controller)!.namespaces.find(({ nsid }) => nsid === 2)?.block
  const attach = async (attached: boolean) => {
    await handle.controller.admin({
      ...{ opcode: ADMIN.NAMESPACE_ATTACHMENT, nsid: 2, cdw10: attached ? 0 : 1 },
      data: list,
    })
    fs.writeFileSync(`/sys/class/nvme/${controller}/rescan_controller`, '1')
    while ((find() !== undefined) !== attached) await delay(20)
  }
  {
    await using ns = await handle.openNamespace(2)
    await ns.promises.write(Buffer.alloc(ns.blocksize), 0)
  }
  await attach(false)
  await attach(true)
  await delay(200)
  await using ns = await handle.openNamespace(2)
  await ns.promises.read(Buffer.alloc(ns.blocksize), 0)
  await whileOpen(`/dev/${find()}`, () =>
    assert.rejects(ns.promises.write(Buffer.alloc(ns.blocksize), 0), IN_USE),
  )
  await ns.promises.write(Buffer.alloc(ns.blocksize), 0)
})

check("a namespace of the kernel's own multipath is written, and not while it is in use", async () => {
  const controller = controllerOf('paths')
  const [namespace] = findKernelController(controller)!.namespaces
  assert.ok(namespace !== undefined && namespace.generic !== null && namespace.maxBytes > 0)
  for (const file of [`/dev/${controller}?nsid=1`, `/dev/${namespace.generic}`, `/dev/${namespace.block}`]) {
    await using ns = await open(file)
    assert.match(ns.controller.transport.how ?? '', /^io_uring/)
    await whileOpen(`/dev/${namespace.block}`, () =>
      assert.rejects(ns.promises.write(Buffer.alloc(ns.blocksize), 0), IN_USE),
    )
    await ns.promises.write(Buffer.alloc(2 ** 21), 0)
    await ns.promises.read(Buffer.alloc(2 ** 21), 0)
  }
})

check('force is for the namespace that it was opened with', async () => {
  const first = `/dev/${nameOf('multi')}`
  const second = first.replace(/1$/, '2')
  await whileOpen(second, async () => {
    await using forced = await open(first, { force: true })
    await using ns = await open(second)
    await forced.promises.write(Buffer.alloc(forced.blocksize), 0)
    await assert.rejects(ns.promises.write(Buffer.alloc(ns.blocksize), 0), IN_USE)
    await using other = await open(second, { force: true })
    await other.promises.write(Buffer.alloc(ns.blocksize), 0)
  })
})

check('a thread that has a queue asks for every namespace that it writes', async () => {
  const first = `/dev/${nameOf('multi')}`
  const second = first.replace(/1$/, '2')
  await using ns = await open(first, { qcount: 2 })
  await using other = await open(second)
  await whileOpen(second, async () => {
    const share = ns.share(1)
    const program = `
      const { workerData: ticket, parentPort } = require('node:worker_threads')
      import('${THREADS}').then(async ({ attach }) => {
        const ns = await attach(ticket)
        const other = await ns.openNamespace(${other.id})
        ns.write(0, ns.alloc(ns.blocksize), 0, 1)
        try {
          other.write(0, other.alloc(other.blocksize), 0, 1)
          parentPort.postMessage('written')
        } catch ({ code }) {
          parentPort.postMessage(code)
        }
        await other.close()
        await ns.close()
      })`
    const { ticket } = share
    const worker = new Worker(program, { eval: true, workerData: ticket, transferList: [ticket.port] })
    const [answer] = await once(worker, 'message')
    assert.equal(answer, 'ERR_UNVME_IN_USE')
    await share.returned
  })
})

await runChecks()
