// Runs in the virtual machine: Linux's own NBD client on a device under VFIO that this process serves, with a file system
// on it. The programs are the host's; none is waited for without the event loop, which the server needs.

import assert from 'node:assert/strict'
import fs from 'node:fs'
import { open, serveNbd } from '../../src/index.ts'
import { runTool } from '../support/tools.ts'
import { check, runChecks } from './checks.ts'

const BUSYBOX = '/run/unvme-vm/bin/busybox'
const SOCKET = '/run/nbd.sock'
const DISK = '/dev/nbd0'

const address = /lba4096=(\S+)/.exec(process.env.UNVME_VM_CONTROLLERS ?? '')?.[1]

check('the kernel’s client with two connections: mkfs, mount, fstrim, fsck', async () => {
  await runTool(BUSYBOX, ['modprobe', 'nbd'])
  for (const module of ['crc32c_generic', 'ext4']) await runTool(BUSYBOX, ['modprobe', module])
  const ns = await open(address!)
  const server = await serveNbd(ns, { path: SOCKET })
  await runTool('/usr/sbin/nbd-client', ['-unix', SOCKET, DISK, '-connections', '2', '-block-size', '4096'])
  assert.equal(Number(fs.readFileSync('/sys/block/nbd0/size', 'utf8')) * 512, ns.blockcount * ns.blocksize)
  assert.equal(server.stats.clients, 2)
  await runTool('/sbin/mkfs.ext4', ['-q', '-E', 'nodiscard', DISK])
  await runTool(BUSYBOX, ['mount', '-t', 'ext4', DISK, '/mnt'])
  await runTool(BUSYBOX, ['dd', 'if=/dev/urandom', 'of=/mnt/a', 'bs=1M', 'count=8'])
  await runTool(BUSYBOX, ['cp', '/mnt/a', '/mnt/b'])
  await runTool(BUSYBOX, ['sync'])
  assert.ok(server.stats.flushes > 0)
  await runTool(BUSYBOX, ['rm', '/mnt/a'])
  const clears = server.stats.clears
  assert.match(await runTool('/sbin/fstrim', ['-v', '/mnt']), /trimmed/)
  assert.ok(server.stats.clears > clears, 'fstrim has sent nothing')
  const sum = await runTool(BUSYBOX, ['sha256sum', '/mnt/b'])
  await runTool(BUSYBOX, ['umount', '/mnt'])
  assert.match(await runTool('/sbin/e2fsck', ['-f', '-n', DISK]), /clean|files/)
  await runTool(BUSYBOX, ['mount', '-t', 'ext4', '-o', 'ro', DISK, '/mnt'])
  assert.equal(await runTool(BUSYBOX, ['sha256sum', '/mnt/b']), sum)
  await runTool(BUSYBOX, ['umount', '/mnt'])
  await runTool('/usr/sbin/nbd-client', ['-d', DISK])
  assert.equal(server.stats.failed, 0)
  await server.close()
  await ns.close()
})

await runChecks()
