// What the virtual machine is put together from, without booting it.

import { execFileSync } from 'node:child_process'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import test from 'ava'
import fc from 'fast-check'
import { commandScript, quote } from '../../scripts/vm/guest.ts'
import { initramfs, loadOrder } from '../../scripts/vm/initramfs.ts'
import { cacheFolder, findParts, partsRequired } from '../../scripts/vm/parts.ts'
import { device, shapeNames, shapes, suiteAddresses } from '../../scripts/vm/shapes.ts'

function temporaryFolder(t: { teardown(f: () => void): void }): string {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'unvme-'))
  t.teardown(() => fs.rmSync(folder, { recursive: true }))
  return folder
}

test('any word survives the shell', (t) => {
  const words = fc.array(
    fc.string({ unit: 'grapheme' }).map((word) => word.replaceAll('\0', '')),
    { minLength: 1 },
  )
  fc.assert(
    fc.property(words, (list) => {
      const script = `printf '%s\\0' ${list.map(quote).join(' ')}`
      t.is(execFileSync('sh', ['-c', script]).toString(), list.map((word) => `${word}\0`).join(''))
    }),
    { numRuns: 20 },
  )
})

test('a command that is not root changes user last, after its environment and folder', (t) => {
  const lines = commandScript({
    command: ['a', "b'c"],
    user: 'nobody',
    cwd: '/some where',
    env: { X: '1 2' },
  })
  t.regex(lines, /^export X='1 2'$/m)
  t.regex(lines, /^cd '\/some where' \|\| exit$/m)
  t.regex(lines, /\nexec setpriv --reuid='nobody' .*--init-groups 'a' 'b'\\''c'\n$/)
})

test('each shape has an address and names of its own', (t) => {
  const addresses = shapeNames.flatMap((name) => [shapes[name].address, shapes[name].sibling ?? []].flat())
  t.is(new Set(addresses).size, addresses.length)
  for (const name of shapeNames) {
    const { arguments: args, disks } = device(name, '/folder')
    t.is(args.filter((arg) => arg === '-blockdev').length, shapes[name].namespaces.length)
    t.is(disks.length, shapes[name].null ? 0 : shapes[name].namespaces.length)
    t.true(args.some((arg) => arg.startsWith(`nvme,id=${name},`)))
  }
})

test('a disk that is given takes the place of the first namespace only', (t) => {
  const { arguments: args, disks } = device('multi', '/folder', '/given.img')
  t.deepEqual(
    disks.map((disk) => disk.path),
    ['/folder/multi-ns3.img', '/folder/multi-ns7.img'],
  )
  t.true(args.some((arg) => arg.includes('"filename":"/given.img"')))
})

test('the suite runs on every namespace that keeps data, or on what there is', (t) => {
  t.deepEqual(suiteAddresses(['lba512', 'multi', 'null512']), [
    '00:04.0/1',
    '00:06.0/1',
    '00:06.0/3',
    '00:06.0/7',
  ])
  t.deepEqual(suiteAddresses(['null512']), ['00:0b.0/1'])
  t.deepEqual(suiteAddresses([]), [])
})

test('modules are loaded after what they depend on, and those that are not there are left out', (t) => {
  const folder = temporaryFolder(t)
  fs.writeFileSync(path.join(folder, 'modules.dep'), 'k/a.ko: k/b.ko k/c.ko\nk/b.ko: k/c.ko\nk/c.ko:\n')
  t.deepEqual(loadOrder(folder, ['a', 'built-in']), ['k/c.ko', 'k/b.ko', 'k/a.ko'])
})

test('the initramfs is a cpio archive as newc has it', (t) => {
  const folder = temporaryFolder(t)
  const busybox = path.join(folder, 'busybox')
  const init = path.join(folder, 'init')
  fs.writeFileSync(busybox, 'BUSY!')
  fs.writeFileSync(init, 'INIT')
  const archive = initramfs({ busybox, init, modules: undefined }).toString('latin1')
  const record = (inode: number, mode: string, name: string, data: string) => {
    const hex = (value: number) => value.toString(16).padStart(8, '0')
    const zero = hex(0)
    const fields = [hex(inode), mode, zero, zero, hex(1), zero, hex(data.length), zero, zero, zero, zero]
    const head = `070701${fields.join('')}${hex(name.length + 1)}${zero}${name}\0`
    const padded = (text: string) => text.padEnd(Math.ceil(text.length / 4) * 4, '\0')
    return padded(head) + padded(data)
  }
  t.is(
    archive,
    record(1, '000041ed', 'bin', '') +
      record(2, '000041ed', 'modules', '') +
      record(3, '000081ed', 'bin/busybox', 'BUSY!') +
      record(4, '000081ed', 'init', 'INIT') +
      record(5, '000081ed', 'modules/order', '') +
      record(6, '00000000', 'TRAILER!!!', ''),
  )
})

test('what is missing is one line that names the package or the script', (t) => {
  const found = findParts({ kernel: '/no/such/vmlinux', modules: '/no/such/modules' })
  const missing = 'missing' in found ? found.missing : ''
  t.regex(missing, /a kernel at \/no\/such\/vmlinux \(scripts\/vm\/setup\), .*modules at \/no\/such\/modules/)
  t.notRegex(missing, /\n/)
})

test('the cache folder, and where the machine must be', (t) => {
  t.is(cacheFolder({ UNVME_VM_CACHE: '/x', XDG_CACHE_HOME: '/y' }), '/x')
  t.is(cacheFolder({ XDG_CACHE_HOME: '/y' }), '/y/unvme/vm')
  t.is(cacheFolder({}), path.join(os.homedir(), '.cache/unvme/vm'))
  t.true(partsRequired({ CI: 'true' }))
  t.true(partsRequired({ UNVME_REQUIRE_VM: '1' }))
  t.false(partsRequired({ CI: 'true', UNVME_REQUIRE_VM: '0' }))
  t.false(partsRequired({}))
})
