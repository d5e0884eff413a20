// balena's stack on a namespace: file-disk's Disk is the base, partitioninfo reads the partition table, ext2fs edits an ext4 file
// system, and e2fsprogs look at what the image holds then.

import { execFileSync } from 'node:child_process'
import { readFileSync, truncateSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import test from 'ava'
import { Disk } from 'file-disk'
import { getPartitions } from 'partitioninfo'
import { open } from 'unvme'
import { bytes, fileDisk } from 'unvme/adapters'
import { testFolder } from '../support/folder.ts'
import { testWith } from '../support/left-out.ts'
import { pattern } from '../support/pattern.ts'

// It has no declarations.
const { withMountedDisk } = createRequire(import.meta.url)('ext2fs') as {
  withMountedDisk<T>(
    disk: Disk,
    offset: number,
    work: (fs: { promises: Files; trim(): Promise<void> }) => Promise<T>,
  ): Promise<T>
}
type Files = Pick<
  typeof import('node:fs/promises'),
  'readFile' | 'writeFile' | 'mkdir' | 'unlink' | 'readdir'
>

const file = testFolder()
const MIB = 2 ** 20
// The second partition has the file system.
const START = 5 * MIB
const sbin = { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` }
const tool = (command: string, ...args: string[]) =>
  execFileSync(command, args, { env: sbin, encoding: 'utf8', stdio: 'pipe' })
const TOOLS = { 'mkfs.ext4': 'e2fsprogs', e2fsck: 'e2fsprogs', debugfs: 'e2fsprogs' }

/** A sector with a partition table of the old kind: type, first byte and bytes of each. */
function partitionTable(entries: readonly (readonly [type: number, start: number, bytes: number])[]): Buffer {
  const sector = Buffer.alloc(512)
  for (const [i, [type, start, bytes]] of entries.entries()) {
    const at = 446 + 16 * i
    sector[at + 4] = type
    sector.writeUInt32LE(start / 512, at + 8)
    sector.writeUInt32LE(bytes / 512, at + 12)
  }
  sector.writeUInt16BE(0x55aa, 510)
  return sector
}

function makeImage(name: string): string {
  const path = file(name)
  const table = partitionTable([
    [0x0c, MIB, 4 * MIB],
    [0x83, START, 32 * MIB],
  ])
  writeFileSync(path, table)
  truncateSync(path, 48 * MIB)
  tool('mkfs.ext4', '-q', '-F', '-E', `offset=${START}`, path, '32M')
  return path
}

/** The file system of an image, for tools that take no offset. */
function partition(path: string): string {
  const part = `${path}-part`
  writeFileSync(part, readFileSync(path).subarray(START, START + 32 * MIB))
  return part
}

testWith('fileDisk: partitioninfo lists the partitions, and ext2fs edits a file system', TOOLS, async (t) => {
  const path = makeImage('disk.img')
  const large = pattern(3_000_001)
  {
    await using ns = await open(`sim:${path}?lba=512`)
    const disk = fileDisk(Disk, ns)
    t.true(disk instanceof Disk)
    t.is(await disk.getCapacity(), 48 * MIB)
    const table = await getPartitions(disk)
    t.is(table.type, 'mbr')
    t.deepEqual(
      table.partitions.map(({ index, type, offset, size }) => [index, type, offset, size]),
      [
        [1, 0x0c, MIB, 4 * MIB],
        [2, 0x83, START, 32 * MIB],
      ],
    )
    await withMountedDisk(disk, START, async ({ promises: files, trim }) => {
      await files.mkdir('/etc')
      await files.writeFile('/etc/hostname', 'raw\n')
      await files.writeFile('/large', large)
      await files.writeFile('/gone', large)
      await files.unlink('/gone')
      t.is(await files.readFile('/etc/hostname', 'utf8'), 'raw\n')
      await trim()
    })
    t.true(disk.getDiscardedChunks().length > 0)
    await disk.flush()
  }
  const part = partition(path)
  t.notThrows(() => tool('e2fsck', '-f', '-n', part))
  t.is(tool('debugfs', '-R', 'cat /etc/hostname', part), 'raw\n')
  tool('debugfs', '-R', `dump /large ${file('large')}`, part)
  t.true(readFileSync(file('large')).equals(large))
  t.notRegex(tool('debugfs', '-R', 'ls /', part), /gone/)
})

test('fileDisk: a discard reaches the device, and a disk that is read-only changes nothing', async (t) => {
  await using ns = await open('sim:?size=1M&lba=512')
  await bytes(ns).write(pattern(MIB), 0)
  const reading = fileDisk(Disk, ns, { readOnly: true, recordWrites: true })
  await reading.write(Buffer.from('hidden'), 0, 6, 1000)
  await reading.discard(4096, 4096)
  await reading.flush()
  t.is((await reading.read(Buffer.alloc(6), 0, 6, 1000)).buffer.toString(), 'hidden')
  t.true((await bytes(ns).read(Buffer.alloc(MIB), 0)).equals(pattern(MIB)))
  const writing = fileDisk(Disk, ns, { discardIsZero: false })
  await writing.write(Buffer.from('xseeny'), 1, 4, 1001)
  await writing.discard(4096, 4096)
  t.is((await bytes(ns).read(Buffer.alloc(4), 1001)).toString(), 'seen')
  t.true((await bytes(ns).read(Buffer.alloc(4096), 4096)).equals(Buffer.alloc(4096)))
  t.throws(() => fileDisk({} as typeof Disk, ns), { code: 'ERR_INVALID_ARG_TYPE' })
})
