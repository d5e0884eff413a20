// The rule for what is about to be written by its path, on files, on a made-up machine, and on loop devices where this
// system lets them be made.

import { spawnSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { fcntlLock } from '../../lib/sys/libc.ts'
import { compare, copy, open } from '../../src/index.ts'
import { readUseTables, usesOfDevice } from '../../src/system/uses.ts'
import { openOutputFile, openToWrite, refuseBelowDev } from '../../src/system/writable.ts'
import { unvme } from '../cli/command.ts'
import { FakeMachine } from '../setup/fake-machine.ts'
import { testFolder } from '../support/folder.ts'
import { testUnless } from '../support/left-out.ts'
import { pattern } from '../support/pattern.ts'

const file = testFolder()
const MIB = 2 ** 20
const IN_USE = 'ERR_UNVME_IN_USE'

function made(name: string, content: Uint8Array | string = pattern(MIB)): string {
  fs.writeFileSync(file(name), content)
  return file(name)
}

function machineOf(t: ExecutionContext): FakeMachine {
  const machine = new FakeMachine()
  t.teardown(() => machine.remove())
  return machine
}

test('usesOfDevice: a disk with its partitions, a partition with its disk, and never the partition beside it', (t) => {
  const machine = machineOf(t)
  const namespaces = [{ nsid: 1, partitions: 2 }, { nsid: 2 }]
  machine.add('0000:00:03.0', { driver: 'nvme', controller: 0, namespaces })
  machine.mount('259:11', '/dev/nvme0n1p1', '/boot')
  machine.file('proc/swaps', 'Filename Type Size Used Priority\n/dev/nvme0n2 partition 1 0 -2\n')
  const uses = (number: string) => usesOfDevice(readUseTables(machine), number).map(({ text }) => text)
  t.deepEqual(uses('259:10'), ['nvme0n1p1 is mounted on /boot'])
  t.deepEqual(uses('259:11'), ['nvme0n1p1 is mounted on /boot'])
  t.deepEqual(uses('259:12'), [])
  t.deepEqual(uses('259:20'), ['nvme0n2 is swap'])
  t.deepEqual(uses('259:99'), [])
  machine.process(7, 'qemu', ['/dev/nvme0n1'])
  t.deepEqual(uses('259:12'), ['nvme0n1 is open in process 7 (qemu)'])
})

test('usesOfDevice: who has a device open to read alone is a reader, whoever may write it is not', (t) => {
  const machine = machineOf(t)
  machine.add('0000:00:03.0', { driver: 'nvme', controller: 0, namespaces: [{ nsid: 1 }] })
  machine.process(7, 'udev', ['/dev/nvme0n1'])
  machine.process(8, 'qemu', ['/dev/nvme0n1', '/dev/nvme0n1'])
  machine.file('proc/7/fdinfo/0', 'pos:\t0\nflags:\t02500000\nmnt_id:\t5\n')
  machine.file('proc/8/fdinfo/0', 'pos:\t0\nflags:\t02500000\nmnt_id:\t5\n')
  machine.file('proc/8/fdinfo/1', 'pos:\t0\nflags:\t02500002\nmnt_id:\t5\n')
  const uses = usesOfDevice(readUseTables(machine), '259:10')
  t.deepEqual(
    uses.map(({ kind }) => kind),
    ['reader', 'process'],
  )
})

test('refuseBelowDev: no new file in place of a device, by whatever path; other places are free', (t) => {
  const machine = machineOf(t)
  fs.mkdirSync(path.join(machine.dev, 'disk'))
  fs.mkdirSync(path.join(machine.dev, 'shm'))
  fs.symlinkSync('../nvme9n1', path.join(machine.dev, 'disk/by-id'))
  const link = file('link-to-nothing')
  fs.symlinkSync(path.join(machine.dev, 'disk/by-id'), link)
  const refused = { code: 'ENOENT', message: /no such device, and no file is made below \/dev/ }
  for (const name of ['nvme9n1', 'disk/x', 'disk/by-id', 'disk/../x', '../dev/x']) {
    t.throws(() => refuseBelowDev(`${machine.dev}/${name}`, machine), refused, name)
  }
  t.throws(() => refuseBelowDev(link, machine), refused)
  t.notThrows(() => refuseBelowDev(`${machine.dev}/shm/new`, machine))
  t.notThrows(() => refuseBelowDev(`${machine.root}/device`, machine))
  t.notThrows(() => refuseBelowDev(file('new'), machine))
})

test('copy, read, bench and copy(): a path below /dev that does not exist is an error, and no new file', async (t) => {
  const missing = '/dev/unvme-no-such-device'
  const source = made('source')
  const outcomes = await Promise.all([
    unvme(['copy', source, missing, '--yes']),
    unvme(['read', 'sim:?size=1M', missing, '--yes', '--force']),
    unvme(['bench', missing, '--rw', 'write', '--size', '1M', '--yes']),
    unvme(['admin-passthru', 'sim:', '-o', '6', '-l', '4096', '--cdw10=1', '-r', '-i', missing]),
  ])
  for (const { code, stderr } of outcomes) {
    t.is(code, 1)
    t.regex(stderr, /ENOENT: no such device, and no file is made below \/dev/)
  }
  await t.throwsAsync(copy(source, missing, { force: true }), { code: 'ENOENT' })
  await using ns = await open('sim:?size=1M')
  await t.throwsAsync(copy(ns, missing), { code: 'ENOENT' })
  t.false(fs.existsSync(missing))
})

test('openToWrite: what another has locked is refused and stays as it was, unless forced', async (t) => {
  const image = made('locked.img')
  await using _ns = await open(`sim:${image}`)
  await t.throwsAsync(openToWrite(image), { code: IN_USE, message: /in use by another controller or copy/ })
  await t.throwsAsync(openOutputFile(image), { code: IN_USE })
  t.is(fs.statSync(image).size, MIB)
  const { handle } = await openToWrite(image, { force: true })
  await handle.close()
})

test('openOutputFile: what is there is kept until data comes; an empty new file goes; a FIFO without a reader is an error', async (t) => {
  const kept = made('kept', 'what was there')
  const first = await openOutputFile(kept)
  await t.throwsAsync(openOutputFile(kept), { code: IN_USE })
  t.is(fs.readFileSync(kept, 'utf8'), 'what was there')
  await first.write('new')
  await first.close()
  t.is(fs.readFileSync(kept, 'utf8'), 'new')
  await (await openOutputFile(file('empty'))).close()
  t.false(fs.existsSync(file('empty')))
  const others = [{ name: 'the target', identity: first.identity }]
  await t.throwsAsync(openOutputFile(kept, others), { code: 'ERR_UNVME_USAGE', message: /is the target/ })
  shell(`mkfifo ${file('fifo')}`)
  await t.throwsAsync(openOutputFile(file('fifo')), { code: 'ENXIO' })
})

test('bench: a report does not overwrite the image that is measured, nor one that another has locked', async (t) => {
  const image = made('measured.img')
  const locked = made('locked-report.img')
  await using _ns = await open(`sim:${locked}`)
  for (const option of ['--output', '--html']) {
    const own = await unvme(['bench', `sim:${image}`, '--rw', 'read', option, image])
    t.is(own.code, 2)
    t.regex(own.stderr, /measured\.img is sim:.*, which is measured/)
    const other = await unvme(['bench', 'sim:?size=1M', option, locked])
    t.is(other.code, 1)
    t.regex(other.stderr, /ERR_UNVME_IN_USE/)
  }
  t.true(fs.readFileSync(image).equals(pattern(MIB)))
  t.is(fs.statSync(locked).size, MIB)
})

test('io-passthru and telemetry-log: the output is opened before the command is sent', async (t) => {
  const nowhere = file('no-such-folder/out')
  for (const words of [
    ['io-passthru', 'sim:?size=1M&fault=read:vanish', '-o', '2', '-l', '512', '-i', nowhere],
    ['telemetry-log', 'sim:', '-o', nowhere],
  ]) {
    t.regex((await unvme(words)).stderr, /^unvme: ENOENT/, words[0])
  }
})

test('copy(): a path is never standard output', async (t) => {
  const log = made('program.log', '')
  const source = made('small', 'data')
  const script = `
    const { copy } = await import(${JSON.stringify(new URL('../../src/index.js', import.meta.url).href)})
    require('node:fs').writeSync(1, 'a line of the log')
    await copy(${JSON.stringify(source)}, ${JSON.stringify(log)})`.replace(
    'require(',
    'process.getBuiltinModule(',
  )
  const fd = fs.openSync(log, 'r+')
  t.teardown(() => fs.closeSync(fd))
  const { status, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', fd, 'pipe'],
    encoding: 'utf8',
  })
  t.deepEqual([status, stderr], [0, ''])
  t.is(fs.readFileSync(log, 'utf8'), 'data')
})

test('openToWrite: a record lock, as QEMU takes it, counts too; the own lock ends with the handle', async (t) => {
  const image = made('record.img')
  const fd = fs.openSync(image, 'r+')
  const lock = Buffer.alloc(32)
  // F_OFD_SETLK of a read lock on one byte: as QEMU has it for a permission.
  lock.writeBigInt64LE(100n, 8)
  lock.writeBigInt64LE(1n, 16)
  t.is(fcntlLock(fd, 37, lock), 0)
  await t.throwsAsync(openToWrite(image), { code: IN_USE, message: /a process has locked it/ })
  await t.throwsAsync(open(`sim:${image}`), { code: IN_USE, message: /a process has locked it/ })
  fs.closeSync(fd)
  const { handle } = await openToWrite(image)
  await t.throwsAsync(openToWrite(image), { code: IN_USE })
  await t.throwsAsync(open(`sim:${image}`), { code: IN_USE })
  await handle.close()
  await (await openToWrite(image)).handle.close()
})

test('copy: an image that another has locked is refused before it is emptied, by one thread and by several', async (t) => {
  const image = made('target.img', pattern(2 * MIB, 3))
  const source = made('new.img')
  await using ns = await open('sim:?size=1M', { qcount: 2, threads: true })
  {
    await using _other = await open(`sim:${image}`)
    await t.throwsAsync(copy(source, image), { code: IN_USE })
    await t.throwsAsync(copy(ns, image), { code: IN_USE })
    await t.throwsAsync(copy(ns, image, { jobs: 2 }), { code: IN_USE })
    const command = await unvme(['copy', source, image, '--yes'])
    t.is(command.code, 1)
    t.regex(command.stderr, /ERR_UNVME_IN_USE/)
    t.is((await unvme(['read', 'sim:?size=1M', image])).code, 1)
    t.true(fs.readFileSync(image).equals(pattern(2 * MIB, 3)))
    await copy(source, image, { force: true })
    t.true(fs.readFileSync(image).equals(pattern(MIB)))
  }
  for (const jobs of [1, 2]) {
    await copy(ns, image, { jobs })
    t.is((await compare(ns, image)).difference, null)
  }
})

const shell = (command: string) => spawnSync('/bin/sh', ['-c', command], { encoding: 'utf8' })

/** Why no loop device can be made here; null where one can. */
function loopTrouble(): string | null {
  if (process.getuid?.() !== 0) return 'it takes root to make a loop device'
  const image = path.join(fs.mkdtempSync('/tmp/unvme-loop-'), 'img')
  const { stdout, status } = shell(`truncate -s 1M ${image} && losetup -f --show ${image}`)
  if (status === 0) shell(`losetup -d ${stdout.trim()}`)
  fs.rmSync(path.dirname(image), { recursive: true })
  return status === 0 ? null : 'no loop device can be made here'
}

const trouble = loopTrouble()

function loopTest(title: string, run: (t: ExecutionContext) => Promise<void>): void {
  testUnless(trouble, title, run, { serial: true })
}

function loopDevice(t: ExecutionContext, name: string): string {
  made(name, pattern(4 * MIB, 4))
  const device = shell(`losetup -f --show ${file(name)}`).stdout.trim()
  t.teardown(() => shell(`losetup -d ${device}`))
  return device
}

loopTest(`copy, read and bench on a block device: a question, or --yes`, async (t) => {
  const device = loopDevice(t, 'free.img')
  const source = made('data')
  const lines = [
    ['copy', source, device],
    ['read', 'sim:?size=1M', device],
    ['bench', device, '--rw', 'write', '--size', '1M'],
  ]
  for (const words of lines) {
    const asked = await unvme(words)
    t.is(asked.code, 2, words.join(' '))
    t.regex(asked.stderr, /^unvme: Overwrite .*\? Not asked without a terminal: give --yes/, words.join(' '))
  }
  t.true(fs.readFileSync(device).equals(pattern(4 * MIB, 4)))
  for (const words of lines) t.is((await unvme([...words, '--yes'])).code, 0, words.join(' '))
  await copy(source, device)
  t.is((await compare(source, device, { bytes: MIB })).difference, null)
  await t.throwsAsync(openOutputFile(device), { code: 'ERR_UNVME_USAGE' })
})

loopTest(`copy to standard output that is a block device: the question, and the in-use rule`, async (t) => {
  const device = loopDevice(t, 'output.img')
  const source = made('to-output')
  const run = async (...words: string[]) => {
    const stdout = fs.openSync(device, 'r+')
    const outcome = await unvme(['copy', source, '-', ...words], { stdout })
    fs.closeSync(stdout)
    return outcome
  }
  const asked = await run()
  t.is(asked.code, 2)
  t.regex(asked.stderr, /Overwrite .*block device.*Not asked without a terminal/)
  const holder = fs.openSync(device, fs.constants.O_EXCL)
  t.regex((await run('--yes')).stderr, /is in use: .*\(--force writes/)
  fs.closeSync(holder)
  t.true(fs.readFileSync(device).equals(pattern(4 * MIB, 4)))
  const written = await run('--yes', '--force')
  t.deepEqual([written.code, written.stderr], [0, ''])
  t.is((await compare(source, device, { bytes: MIB })).difference, null)
})

loopTest(`copy, read, bench and copy() refuse a block device in use, unless forced`, async (t) => {
  const device = loopDevice(t, 'used.img')
  const source = made('more')
  const { O_EXCL } = fs.constants
  const holder = fs.openSync(device, O_EXCL)
  t.teardown(() => fs.closeSync(holder))
  const lines = [
    ['copy', source, device, '--yes'],
    ['read', 'sim:?size=1M', device, '--yes'],
    ['bench', device, '--rw', 'write', '--size', '1M', '--yes'],
  ]
  for (const words of lines) {
    const { code, stderr } = await unvme(words)
    t.is(code, 1, words.join(' '))
    t.regex(stderr, /is in use: .* is held by the kernel or by a process.*\(--force writes.*ERR_UNVME_IN_USE/)
  }
  await t.throwsAsync(copy(source, device), { code: IN_USE })
  // What is behind a loop device is not written past it, either.
  const behind = await t.throwsAsync(copy(source, file('used.img')), { code: IN_USE })
  t.regex(behind!.message, /used\.img is behind loop\d+ \(force: true writes it all the same\)/)
  t.true(fs.readFileSync(device).equals(pattern(4 * MIB, 4)))
  for (const words of lines) t.is((await unvme([...words, '--force'])).code, 0, words.join(' '))
  await copy(source, device, { force: true })
  t.is((await compare(source, device, { bytes: MIB })).difference, null)
})

loopTest(`copy: a block device is one, by whatever node, and is held while it is written`, async (t) => {
  const device = loopDevice(t, 'held.img')
  const node = file('node')
  const { rdev } = fs.statSync(device)
  shell(`mknod ${node} b ${(rdev >>> 8) & 0xfff} ${rdev & 0xff}`)
  await t.throwsAsync(copy(device, node), { code: 'ERR_OUT_OF_RANGE', message: /are the same, or overlap/ })
  const codes: unknown[] = []
  const onProgress = () => {
    try {
      fs.closeSync(fs.openSync(device, fs.constants.O_EXCL))
    } catch (error) {
      codes.push((error as NodeJS.ErrnoException).code)
    }
  }
  await copy(made('held'), node, { onProgress })
  t.is(codes[0], 'EBUSY')
  t.notThrows(() => fs.closeSync(fs.openSync(device, fs.constants.O_EXCL)))
})
