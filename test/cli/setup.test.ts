import { spawnSync } from 'node:child_process'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import test from 'ava'
import { FakeMachine } from '../setup/fake-machine.ts'
import { cleanEnvironment, unvme } from './command.ts'

// The command looks at the made-up machine; only --dry-run and show may, and nothing in it changes.
const machine = new FakeMachine()
machine.add('0000:00:03.0', {
  driver: 'nvme',
  group: 3,
  controller: 0,
  namespaces: [{ nsid: 1 }, { nsid: 5, lbaSize: 4096 }],
})
machine.add('0000:00:04.0', {
  driver: 'nvme',
  group: 4,
  controller: 1,
  namespaces: [{ nsid: 2, partitions: 1 }],
})
machine.add('0000:00:05.0', { driver: 'vfio-pci', group: 5 })
machine.mount('259:21', '/dev/nvme1n2p1', '/srv')
const root = machine.root
const sysroot = ['--sysroot', root]
test.after.always(() => machine.remove())

test('list: a table with a line for each namespace', async (t) => {
  const { code, stdout, stderr } = await unvme(['list', ...sysroot])
  t.is(stderr, '')
  t.is(code, 0)
  t.deepEqual(
    stdout.split('\n').map((line) => line.split(/ {2,}/)),
    [
      ['Device', 'Driver', 'Group', 'Node', 'SN', 'Model', 'Size', 'Format', 'FW Rev'],
      stdout.split('\n')[1]!.split('  '),
      ['0000:00:03.0/1', 'nvme', '3', '/dev/nvme0n1', 'S0', 'QEMU NVMe Ctrl', '1.07 GB', '512 B', '1.0'],
      ['0000:00:03.0/5', 'nvme', '3', '/dev/nvme0n5', 'S0', 'QEMU NVMe Ctrl', '1.07 GB', '4096 B', '1.0'],
      ['0000:00:04.0/2', 'nvme', '4', '/dev/nvme1n2', 'S1', 'QEMU NVMe Ctrl', '1.07 GB', '512 B', '1.0'],
      ['0000:00:05.0', 'vfio-pci', '5', '-', '-', '-', '-', '-', '-'],
      [''],
    ],
  )
})

test('list and setup show: a copy of /sys by tar, whose attributes are filled up with NULs', async (t) => {
  const copy = fs.mkdtempSync(path.join(os.tmpdir(), 'unvme-tar-'))
  t.teardown(() => fs.rmSync(copy, { recursive: true }))
  fs.cpSync(root, copy, { recursive: true, verbatimSymlinks: true })
  for (const file of fs.readdirSync(path.join(copy, 'sys'), { recursive: true, withFileTypes: true })) {
    if (!file.isFile()) continue
    const name = path.join(file.parentPath, file.name)
    fs.writeFileSync(name, fs.readFileSync(name, 'utf8').padEnd(4096, '\0'))
  }
  for (const words of [['list'], ['list', '-o', 'json'], ['setup', 'show']]) {
    const padded = await unvme([...words, '--sysroot', copy])
    t.deepEqual(padded, await unvme([...words, ...sysroot]))
    t.is(padded.code, 0)
  }
})

test('list -o json has the keys of nvme-cli', async (t) => {
  const { code, stdout } = await unvme(['list', '-o', 'json', ...sysroot])
  t.is(code, 0)
  const { Devices } = JSON.parse(stdout)
  t.is(Devices.length, 4)
  t.deepEqual(Devices[1], {
    NameSpace: 5,
    DevicePath: '/dev/nvme0n5',
    GenericPath: '/dev/ng0n5',
    Firmware: '1.0',
    ModelNumber: 'QEMU NVMe Ctrl',
    SerialNumber: 'S0',
    UsedBytes: null,
    MaximumLBA: 262144,
    PhysicalSize: 1073741824,
    SectorSize: 4096,
    Address: '0000:00:03.0',
    Driver: 'nvme',
    IOMMUGroup: 3,
  })
  t.like(Devices[3], { NameSpace: null, DevicePath: null, Driver: 'vfio-pci', IOMMUGroup: 5 })
})

test('list and setup on a machine without NVMe devices', async (t) => {
  const empty = new FakeMachine()
  t.teardown(() => empty.remove())
  t.like(await unvme(['list', '--sysroot', empty.root]), {
    code: 0,
    stdout: 'This machine has no NVMe device.\n',
  })
  t.like(await unvme(['list', '-o', 'json', '--sysroot', empty.root]), {
    code: 0,
    stdout: '{\n  "Devices": []\n}\n',
  })
  t.like(await unvme(['setup', '-n', '--sysroot', empty.root]), {
    code: 1,
    stderr: 'unvme: this machine has no NVMe device (ERR_UNVME_SETUP)\n',
  })
  const shown = await unvme(['setup', 'show', '--sysroot', empty.root])
  t.is(shown.code, 0)
  t.regex(shown.stdout, /^This machine has no NVMe device\.\n\nbad {3}no IOMMU/)
})

test('setup show: devices, users, checks', async (t) => {
  const { code, stdout } = await unvme(['setup', 'show', ...sysroot])
  t.is(code, 0)
  t.regex(stdout, /^0000:00:03\.0 {2}nvme .* 1b36:0010 .*nvme0n1 \(1\.07 GB\), nvme0n5 \(1\.07 GB\) +no$/m)
  t.regex(stdout, /^0000:00:04\.0 {2}nvme .*nvme1n2p1 is mounted on \/srv$/m)
  t.regex(stdout, /^0000:00:05\.0 {2}vfio-pci +5 /m)
  t.regex(stdout, /^ok {4}IOMMU is on \(3 groups\)$/m)
  t.regex(stdout, /^ok {4}vfio-pci and vfio_iommu_type1 are loaded$/m)
})

test('setup show -o json', async (t) => {
  const { code, stdout } = await unvme(['setup', 'show', '-o', 'json', ...sysroot])
  t.is(code, 0)
  const { Devices, Checks } = JSON.parse(stdout)
  t.like(Devices[1], {
    Address: '0000:00:04.0',
    Driver: 'nvme',
    IOMMUGroup: 4,
    GroupMembers: [{ Address: '0000:00:04.0', Driver: 'nvme' }],
    UsedBy: ['nvme1n2p1 is mounted on /srv'],
  })
  t.deepEqual(
    Checks.map(({ Name }: { Name: string }) => Name),
    ['iommu', 'modules', 'memlock'],
  )
})

test('setup --dry-run: what would be written, and what is left out; the machine stays as it is', async (t) => {
  const { code, stdout, stderr } = await unvme(['setup', '--dry-run', ...sysroot])
  t.is(code, 0)
  t.is(stderr, '0000:00:04.0  left out: nvme1n2p1 is mounted on /srv\n')
  const device = `${root}/sys/bus/pci/devices/0000:00:03.0`
  t.is(
    stdout,
    [
      `echo vfio-pci > ${device}/driver_override`,
      `echo 0000:00:03.0 > ${device}/driver/unbind`,
      '# wait: nvme has let go of 0000:00:03.0',
      `echo 0000:00:03.0 > ${root}/sys/bus/pci/drivers_probe`,
      '# wait: 0000:00:03.0 is bound to vfio-pci',
      `# wait: its group is in ${root}/dev/vfio`,
      '',
    ].join('\n'),
  )
  t.deepEqual(
    ['03', '04', '05'].map((slot) => machine.driver(`0000:00:${slot}.0`)),
    ['nvme', 'nvme', 'vfio-pci'],
  )
})

test('setup reset --dry-run', async (t) => {
  const { code, stdout } = await unvme(['setup', 'reset', '-n', ...sysroot])
  t.is(code, 0)
  t.regex(stdout, /^echo 0000:00:05\.0 > .*0000:00:05\.0\/driver\/unbind\n/)
  t.false(stdout.includes('00:03.0'))
})

test('a device in use: refused by name, with its user; --force takes it', async (t) => {
  t.deepEqual(await unvme(['setup', '00:04.0', '-n', ...sysroot]), {
    code: 1,
    stdout: '',
    stderr:
      'unvme: 0000:00:04.0: nvme1n2p1 is mounted on /srv (--force takes it all the same) (ERR_UNVME_IN_USE)\n',
  })
  const forced = await unvme(['setup', '00:04.0', '--force', '-n', ...sysroot])
  t.is(forced.code, 0)
  t.regex(forced.stdout, /echo 0000:00:04\.0 > .*unbind/)
})

test('setup --user: the group changes hands; an unknown user is a usage error', async (t) => {
  const { code, stdout, stderr } = await unvme(['setup', '00:03.0', '-n', '-u', 'nobody', ...sysroot])
  t.is(code, 0)
  t.regex(stdout, new RegExp(`^chown \\d+:\\d+ ${root}/dev/vfio/3$`, 'm'))
  t.regex(stderr, /nobody.*ulimit -l.*limits\.d/)
  t.deepEqual(await unvme(['setup', '00:03.0', '-n', '-u', 'no-such-user', ...sysroot]), {
    code: 2,
    stdout: '',
    stderr: "unvme: there is no user 'no-such-user' (ERR_UNVME_USAGE)\n",
  })
})

test('bad words: exit code 2, one line, nothing done', async (t) => {
  const bad: [string[], RegExp][] = [
    [['shwo'], /'shwo' is not a PCI name \(BB:DD\.F\) or show, reset, help; did you mean 'show'\?/],
    [['reset', 'show'], /'show' is not a PCI name/],
    [['00:03.0', 'reset'], /'reset' is not a PCI name/],
    [['show', '00:03.0'], /show takes no names/],
    [['00:zz.0'], /no PCI name.*ERR_UNVME_ADDRESS/],
    [['00:1f.7', '-n'], /no such PCI function/],
    [['--forse'], /did you mean '--force'/],
    [['-o', 'json', '-n'], /-o json is for show/],
    [['00:03.0'], /--sysroot is for show and --dry-run/],
  ]
  for (const [words, message] of bad) {
    const { code, stdout, stderr } = await unvme(['setup', ...words, ...sysroot])
    t.is(code, 2, words.join(' '))
    t.is(stdout, '', words.join(' '))
    t.regex(stderr, message)
    t.is(stderr.split('\n').length, 2, stderr)
  }
  const nowhere = await unvme(['setup', 'show', '--sysroot', '/nowhere'])
  t.is(nowhere.code, 2)
  t.regex(nowhere.stderr, /--sysroot <DIR>': '\/nowhere' has no folder sys/)
  t.deepEqual(machine.writes, [])
})

test('a group that others are in the way of: show says so and how to mend it, and it is left out', async (t) => {
  const shared = new FakeMachine()
  t.teardown(() => shared.remove())
  shared.add('0000:00:03.0', { driver: 'nvme', group: 3, controller: 0, namespaces: [{ nsid: 1 }] })
  shared.add('0000:00:03.1', { class: 0x020000, driver: 'e1000', group: 3 })
  const { stdout } = await unvme(['setup', 'show', '--sysroot', shared.root])
  const reason =
    /0000:00:03\.0: IOMMU group 3 also has 0000:00:03\.1 \(e1000\).*echo 0000:00:03\.1 > .*unbind$/m
  t.regex(stdout, reason)
  const bound = await unvme(['setup', '-n', '--sysroot', shared.root])
  t.is(bound.code, 1)
  t.regex(bound.stderr, /^0000:00:03\.0 {2}left out: IOMMU group 3 also has 0000:00:03\.1/)
  const named = await unvme(['setup', '00:03.0', '-n', '--sysroot', shared.root])
  t.is(named.code, 1)
  t.regex(named.stderr, /--force.*ERR_UNVME_SETUP/)
})

test('setup help, and scripts/unvme-setup with UNVMe’s words', async (t) => {
  const help = await unvme(['setup', 'help'])
  t.is(help.code, 0)
  t.regex(help.stdout, /^Usage: unvme setup \[options\] \[show\|reset\|help\|BB:DD\.F\.\.\.\]/)
  const script = fileURLToPath(new URL('../../../scripts/unvme-setup', import.meta.url))
  const run = (...words: string[]) => spawnSync(script, words, { encoding: 'utf8', env: cleanEnvironment() })
  t.is(run('help').stdout, help.stdout)
  t.is(run('show', ...sysroot).status, 0)
  t.is(run('shwo').status, 2)
})
