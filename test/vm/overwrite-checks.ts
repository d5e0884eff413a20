// Runs in the virtual machine: what writes by a path, on disks of the kernel's driver that the system uses and that it
// does not. The same rule with loop devices, where they can be had: test/system/writable.test.ts.

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import fs from 'node:fs'
import { fileURLToPath } from 'node:url'
import { openBenchTarget } from '../../src/bench/target.ts'
import { copy } from '../../src/index.ts'
import { listDevices, thisMachine } from '../../src/setup/index.ts'
import { check, runChecks } from './checks.ts'

const MAIN = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url))
const BUSYBOX = '/run/unvme-vm/bin/busybox'
const SOURCE = '/run/overwrite-source'
const BYTES = 2 ** 20

function unvme(...words: string[]) {
  return spawnSync(process.execPath, [MAIN, ...words], { encoding: 'utf8', input: '' })
}

function must(command: string, ...words: string[]): void {
  const { status, error, stderr } = spawnSync(command, words, { encoding: 'utf8' })
  assert.equal(status, 0, `${command} ${words.join(' ')}: ${error?.message ?? stderr}`)
}

function diskOf(name: string): string {
  const device = listDevices(thisMachine()).find((one) => one.name === name)
  return `/dev/${device!.namespaces[0]!.block}`
}

function firstBytes(file: string): Buffer {
  const data = Buffer.alloc(BYTES)
  const fd = fs.openSync(file, 'r')
  fs.readSync(fd, data, 0, BYTES, 0)
  fs.closeSync(fd)
  return data
}

/** Writes a disk in every way but those of a command line; returns what each was refused with, or null. */
async function writeBy(
  disk: string,
  force: boolean,
): Promise<Record<string, { code: string; message: string } | null>> {
  const bench = async () => {
    const options = { rw: 'write', bs: 4096, iodepth: 1, numjobs: 1, force } as const
    const target = await openBenchTarget(disk, options)
    await target.close()
  }
  const outcome = (work: Promise<unknown>) => work.then(() => null).catch((error) => error)
  return { copy: await outcome(copy(SOURCE, disk, { force })), bench: await outcome(bench()) }
}

async function refuses(disk: string, reason: RegExp): Promise<void> {
  const before = firstBytes(disk)
  const { status, stderr } = unvme('read', 'sim:?size=1M', disk, '--yes')
  assert.equal(status, 1, stderr)
  assert.match(stderr, reason)
  assert.match(stderr, /ERR_UNVME_IN_USE/)
  for (const [way, error] of Object.entries(await writeBy(disk, false))) {
    assert.equal(error?.code, 'ERR_UNVME_IN_USE', way)
    assert.match(error.message, reason, way)
  }
  assert.ok(firstBytes(disk).equals(before))
}

check('copy(), read and bench write a disk that is not in use, after a yes', async () => {
  fs.writeFileSync(SOURCE, Buffer.alloc(BYTES, 0xa5))
  const disk = diskOf('0000:00:04.0')
  const { status, stderr } = unvme('read', 'sim:?size=1M', disk)
  assert.equal(status, 2, stderr)
  assert.match(stderr, /^unvme: Overwrite 1\.05 MB of block device .* give --yes/)
  assert.deepEqual(await writeBy(disk, false), { copy: null, bench: null })
  assert.ok(firstBytes(disk).equals(fs.readFileSync(SOURCE)))
})

check('copy(), read and bench refuse a disk that is swap', async () => {
  const disk = diskOf('0000:00:05.0')
  must(BUSYBOX, 'mkswap', disk)
  must(BUSYBOX, 'swapon', disk)
  await refuses(disk, /nvme\dn1 is in use: nvme\dn1 is swap/)
  must(BUSYBOX, 'swapoff', disk)
})

check('copy(), read, bench and serve refuse a disk that is mounted, and write it with --force', async () => {
  const disk = diskOf('0000:00:04.0')
  must(BUSYBOX, 'mke2fs', '-b', '4096', disk)
  // By busybox, and with what a mount asks for, so that it does not depend on the host's modprobe.
  for (const module of ['crc32c_generic', 'ext4']) must(BUSYBOX, 'modprobe', module)
  // To read alone: a file system that may write changes the disk by itself.
  must(BUSYBOX, 'mount', '-t', 'ext2', '-o', 'ro', disk, '/mnt')
  await refuses(disk, /nvme\dn1 is in use: nvme\dn1 is mounted on \/mnt/)
  const served = unvme('serve', disk, '--nbd', 'unix:/run/nbd-in-use')
  assert.equal(served.status, 1, served.stderr)
  assert.match(served.stderr, /is mounted on \/mnt.*ERR_UNVME_IN_USE/)
  const asked = unvme('copy', SOURCE, disk, '--force')
  assert.equal(asked.status, 2)
  assert.match(asked.stderr, /Overwrite .*, in use: nvme\dn1 is mounted on \/mnt\? Not asked/)
  const forced = unvme('copy', SOURCE, disk, '--yes', '--force')
  assert.equal(forced.status, 0, forced.stderr)
  assert.deepEqual(await writeBy(disk, true), { copy: null, bench: null })
  must(BUSYBOX, 'umount', '/mnt')
})

check('copy() makes no file in place of a disk that is gone', async () => {
  for (const missing of ['/dev/nvme9n1', '/dev/nvme0n1p9']) {
    await assert.rejects(copy(SOURCE, missing), { code: 'ENOENT', message: /no such device/ })
    assert.equal(fs.existsSync(missing), false)
  }
})

await runChecks()
