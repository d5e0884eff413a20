import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import test from 'ava'
import { AddressError } from '../../lib/errors.ts'
import {
  isVfioDriver,
  listNvmeFunctions,
  membersInTheWay,
  readGroupMembers,
  readPciCommand,
  readPciFacts,
  readPciMemory,
} from '../../lib/pci/sysfs.ts'

const root = fs.mkdtempSync(path.join(os.tmpdir(), 'unvme-sysfs-'))
test.after.always(() => fs.rmSync(root, { recursive: true }))

// Puts a function into the made-up tree: files, and links for driver and group.
function add(
  name: string,
  files: Record<string, string | Buffer>,
  { driver, group }: { driver?: string; group?: number } = {},
) {
  const folder = path.join(root, 'bus/pci/devices', name)
  fs.mkdirSync(folder, { recursive: true })
  for (const [file, content] of Object.entries(files)) {
    fs.mkdirSync(path.dirname(path.join(folder, file)), { recursive: true })
    fs.writeFileSync(path.join(folder, file), content)
  }
  if (driver) {
    const target = path.join(root, 'bus/pci/drivers', driver)
    fs.mkdirSync(target, { recursive: true })
    fs.symlinkSync(target, path.join(folder, 'driver'))
  }
  if (group !== undefined) {
    const target = path.join(root, 'kernel/iommu_groups', String(group))
    fs.mkdirSync(path.join(target, 'devices'), { recursive: true })
    fs.symlinkSync(target, path.join(folder, 'iommu_group'))
    fs.symlinkSync(folder, path.join(target, 'devices', name))
  }
}

const resource = `0x00000000febd4000 0x00000000febd7fff 0x0000000000140204
${'0x0000000000000000 0x0000000000000000 0x0000000000000000\n'.repeat(6)}`
const nvme = {
  vendor: '0x1b36\n',
  device: '0x0010\n',
  subsystem_vendor: '0x1af4\n',
  subsystem_device: '0x1100\n',
  class: '0x010802\n',
  resource,
}

test('an attribute ends at its first NUL: a copy by tar is filled up to 4096 bytes', (t) => {
  const padded = Object.entries(nvme).map(([file, text]) => [file, text.padEnd(4096, '\0')])
  add('0000:00:09.0', { ...Object.fromEntries(padded), driver_override: '(null)\n\0\0' })
  add('0000:00:09.1', { ...nvme, driver_override: '(null)\n' })
  const { name: _, ...facts } = readPciFacts('0000:00:09.0', { root })
  const { name: _1, ...plain } = readPciFacts('0000:00:09.1', { root })
  t.deepEqual(facts, plain)
  t.is(facts.vendor, 0x1b36)
  t.is(facts.resources[0]!.size, 0x4000)
  for (const name of ['0000:00:09.0', '0000:00:09.1']) {
    t.true(listNvmeFunctions({ root }).includes(name))
    fs.rmSync(path.join(root, 'bus/pci/devices', name), { recursive: true })
  }
})

add('0000:00:03.0', { ...nvme, driver_override: 'vfio-pci\n' }, { driver: 'vfio-pci', group: 3 })
add(
  '0000:00:03.1',
  { ...nvme, class: '0x020000\n', driver_override: '(null)\n' },
  { driver: 'e1000', group: 3 },
)
// A bridge: no BARs, then its windows of I/O ports, memory and prefetchable memory.
const none = '0x0000000000000000 0x0000000000000000 0x0000000000000000\n'
const bridge = `${none.repeat(7)}0x0000000000001000 0x0000000000001fff 0x0000000000000101
0x0000000040000000 0x00000000401fffff 0x0000000000000200
0x0000000100000000 0x00000001001fffff 0x0000000000102200
`
add('0000:00:1c.0', { ...nvme, class: '0x060400\n', resource: bridge }, { driver: 'pcieport', group: 3 })
add('0000:00:1d.0', { ...nvme, class: '0x040300\n' }, { group: 3 })
add('10000:e1:00.0', {
  ...nvme,
  'vfio-dev/vfio7/dev': '510:7\n',
  config: Buffer.from('361b100007041000', 'hex'),
})
fs.mkdirSync(path.join(root, 'kernel/iommu_groups/9'), { recursive: true })
fs.writeFileSync(path.join(root, 'kernel/iommu_groups/9/name'), 'vfio-noiommu\n')
add('0000:02:00.0', nvme, { driver: 'vfio-pci', group: 9 })

test('the facts of a function bound to vfio-pci', (t) => {
  t.deepEqual(readPciFacts('00:03.0', { root }), {
    name: '0000:00:03.0',
    vendor: 0x1b36,
    device: 0x10,
    subsystemVendor: 0x1af4,
    subsystemDevice: 0x1100,
    class: 0x010802,
    driver: 'vfio-pci',
    driverOverride: 'vfio-pci',
    iommuGroup: 3,
    noIommuGroup: null,
    vfioDevice: null,
    resources: [{ size: 0x4000, flags: 0x140204 }, ...Array(6).fill({ size: 0, flags: 0 })],
  })
})

test('a function without driver and group, with a VFIO character device', (t) => {
  const facts = readPciFacts('10000:e1:00.0', { root })
  t.is(facts.driver, null)
  t.is(facts.iommuGroup, null)
  t.is(facts.vfioDevice, 'vfio7')
})

test('a group of the no-IOMMU mode is no IOMMU group', (t) => {
  const facts = readPciFacts('02:00.0', { root })
  t.is(facts.iommuGroup, null)
  t.is(facts.noIommuGroup, 9)
})

test('a function that the machine does not have', (t) => {
  const error = t.throws(() => readPciFacts('7f:00.0', { root }), { instanceOf: AddressError })
  t.true(error.message.includes('0000:7f:00.0'))
})

test('the memory that functions and bridges answer to, without I/O ports', (t) => {
  const memory = readPciMemory({ root }).map(
    ({ first, last }) => `${first.toString(16)}-${last.toString(16)}`,
  )
  t.deepEqual([...new Set(memory)].sort(), ['100000000-1001fffff', '40000000-401fffff', 'febd4000-febd7fff'])
})

test('NVMe functions are known by class', (t) => {
  t.deepEqual(listNvmeFunctions({ root }), ['0000:00:03.0', '0000:02:00.0', '10000:e1:00.0'])
  t.deepEqual(listNvmeFunctions({ root: path.join(root, 'nothing') }), [])
})

test('group members, and which of them are in the way', (t) => {
  const members = readGroupMembers(3, { root })
  t.deepEqual(
    members.map(({ name, driver }) => [name, driver]),
    [
      ['0000:00:03.0', 'vfio-pci'],
      ['0000:00:03.1', 'e1000'],
      ['0000:00:1c.0', 'pcieport'],
      ['0000:00:1d.0', null],
    ],
  )
  t.deepEqual(
    membersInTheWay(members).map(({ name }) => name),
    ['0000:00:03.1'],
  )
  t.deepEqual(readGroupMembers(77, { root }), [])
})

test('bits of the command register', (t) => {
  t.deepEqual(readPciCommand('10000:e1:00.0', { root }), {
    memory: true,
    busMaster: true,
    intxDisabled: true,
  })
})

test('drivers of VFIO', (t) => {
  t.true(isVfioDriver('vfio-pci'))
  t.true(isVfioDriver('mlx5_vfio_pci'))
  t.false(isVfioDriver('nvme'))
  t.false(isVfioDriver(null))
})
