// What the whole driver must show on a real kernel: data that the kernel's own driver and this one agree on,
// a process that dies in the middle, and many opens; run in the machine by driver.test.ts.

import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import fs from 'node:fs'
import { pipeline } from 'node:stream/promises'
import { fileURLToPath } from 'node:url'
import { open } from '../../src/index.ts'
import { check, readHoldings, runChecks } from './checks.ts'

const ADDRESS = '00:04.0'
const DISK = '/dev/nvme0n1'
const IMAGE_BYTES = 32 * 2 ** 20
const ROUNDS = 20
// 1000 take some five minutes under emulation: UNVME_TEST_CYCLES=1000.
const CYCLES = Number(process.env.UNVME_TEST_CYCLES ?? 100)

const env = { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` }
const run = (program: string, ...words: string[]) =>
  execFileSync(program, words, { env, encoding: 'utf8', stdio: 'pipe' })
const command = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url))
const setup = (...words: string[]) => run(process.execPath, command, 'setup', ...words)

async function hashOf(chunks: AsyncIterable<Buffer>): Promise<string> {
  const hash = createHash('sha256')
  for await (const chunk of chunks) hash.update(chunk)
  return hash.digest('hex')
}

check('a file system piped to the device is mounted by the kernel after reset, and passes fsck', async () => {
  fs.mkdirSync('/tmp/content')
  for (let i = 0; i < 50; i++) fs.writeFileSync(`/tmp/content/${i}`, `file ${i}\n`.repeat(1000 * i))
  run('mke2fs', '-q', '-t', 'ext4', '-d', '/tmp/content', '/tmp/disk.img', `${IMAGE_BYTES >> 10}k`)
  {
    await using ns = await open(ADDRESS)
    await pipeline(fs.createReadStream('/tmp/disk.img'), ns.createWriteStream())
  }
  setup('reset', ADDRESS)
  assert.ok(fs.existsSync(DISK), 'the block device is back when reset returns')
  run('e2fsck', '-fn', DISK)
  run('mount', DISK, '/mnt')
  try {
    for (let i = 0; i < 50; i++) {
      assert.ok(fs.readFileSync(`/mnt/${i}`).equals(fs.readFileSync(`/tmp/content/${i}`)), `file ${i}`)
    }
    fs.writeFileSync('/mnt/from-the-kernel', 'k'.repeat(100_000))
  } finally {
    run('umount', '/mnt')
  }
})

check('what the kernel wrote is read byte for byte', async () => {
  const written = await hashOf(fs.createReadStream(DISK, { end: IMAGE_BYTES - 1 }))
  setup(ADDRESS)
  assert.ok(!fs.existsSync(DISK))
  await using ns = await open(ADDRESS)
  assert.equal(await hashOf(ns.createReadStream({ nlb: IMAGE_BYTES / ns.blocksize })), written)
  const image = await hashOf(fs.createReadStream('/tmp/disk.img'))
  assert.notEqual(written, image, 'the kernel has changed something')
})

/** A process that keeps its queue full of writes until it is killed. */
const writer = `
  const { open } = await import('${fileURLToPath(new URL('../../src/index.js', import.meta.url))}')
  const ns = await open('${ADDRESS}', { qsize: 64 })
  const buf = ns.alloc(128 * 1024)
  const iods = Array.from({ length: 63 }, (_, i) => ns.awrite(0, buf, 4096 + 256 * i, 256))
  let told = false
  for (;;) for (let i = 0; i < iods.length; i++) {
    if (!ns.apoll(iods[i])) continue
    iods[i] = ns.awrite(0, buf, 4096 + 256 * i, 256)
    if (!told) process.stdout.write('writing')
    told = true
  }`

check(
  `a process killed with a full queue of writes leaves a device that opens and works, ${ROUNDS} times`,
  async () => {
    for (let round = 0; round < ROUNDS; round++) {
      const child = spawn(process.execPath, ['--input-type=module', '-e', writer], {
        stdio: ['ignore', 'pipe', 'inherit'],
      })
      await once(child.stdout, 'data')
      if (round === 0) {
        // One clear sentence for whoever comes second.
        await assert.rejects(open(ADDRESS), { code: 'ERR_UNVME_IN_USE', message: /in use|open/ })
      }
      const ended = once(child, 'exit')
      child.kill('SIGKILL')
      assert.equal((await ended)[1], 'SIGKILL')
      await using ns = await open(ADDRESS)
      const data = Buffer.alloc(8 * ns.blocksize, round + 1)
      await ns.promises.write(data, round)
      const back = Buffer.alloc(data.length)
      await ns.promises.read(back, round)
      assert.ok(back.equals(data), `round ${round}`)
    }
  },
)

check(`${CYCLES} opens and closes leave no descriptor, mapping or locked memory`, async () => {
  const cycle = async () => {
    const ns = await open(ADDRESS, { qsize: 16 })
    const buf = ns.alloc(ns.blocksize)
    ns.read(0, buf, 0, 1)
    await ns.close()
  }
  await cycle()
  globalThis.gc?.()
  const before = readHoldings()
  for (let i = 0; i < CYCLES; i++) await cycle()
  globalThis.gc?.()
  await new Promise((resolve) => setTimeout(resolve, 50))
  assert.deepEqual(readHoldings(), before)
  assert.equal(before.lockedKib, 0)
  assert.equal(before.mappings, 0)
})

check('bus mastering is off after close', async () => {
  const command = () => fs.readFileSync(`/sys/bus/pci/devices/0000:${ADDRESS}/config`).readUInt16LE(4)
  const ns = await open(ADDRESS)
  assert.equal(command() & 4, 4)
  await ns.close()
  assert.equal(command() & 4, 0)
})

await runChecks()
