import fs from 'node:fs'
import path from 'node:path'
import test from 'ava'
import { listDevices } from '../../src/setup/index.ts'
import { copyOf, FakeMachine } from './fake-machine.ts'

function machineOf(t: { teardown(fn: () => void): void }): FakeMachine {
  const machine = new FakeMachine()
  t.teardown(() => machine.remove())
  return machine
}

const texts = (machine: FakeMachine) =>
  listDevices(machine).flatMap(({ uses }) => uses.map(({ text }) => text))

test('devices with what the kernel knows of them', (t) => {
  const machine = machineOf(t)
  machine.add('0000:00:03.0', {
    driver: 'nvme',
    group: 3,
    controller: 0,
    namespaces: [{ nsid: 1 }, { nsid: 5, size: 2 << 30, lbaSize: 4096, partitions: 2 }],
  })
  machine.add('0000:00:04.0', { driver: 'vfio-pci', group: 4 })
  machine.add('0000:00:05.0', { class: 0x020000, driver: 'e1000', group: 3 })
  const [first, second, ...rest] = listDevices(machine)
  t.is(rest.length, 0)
  t.like(first, {
    name: '0000:00:03.0',
    driver: 'nvme',
    iommuGroup: 3,
    controller: 'nvme0',
    model: 'QEMU NVMe Ctrl',
    serial: 'S0',
    firmware: '1.0',
    uses: [],
  })
  t.deepEqual(
    first!.inTheWay.map(({ name }) => name),
    ['0000:00:03.0', '0000:00:05.0'],
  )
  t.deepEqual(first!.namespaces, [
    { nsid: 1, block: 'nvme0n1', generic: 'ng0n1', partitions: [], size: 1 << 30, lbaSize: 512, used: null },
    {
      nsid: 5,
      block: 'nvme0n5',
      generic: 'ng0n5',
      partitions: ['nvme0n5p1', 'nvme0n5p2'],
      size: 2 << 30,
      lbaSize: 4096,
      used: null,
    },
  ])
  t.like(second, { driver: 'vfio-pci', controller: null, model: null, namespaces: [], uses: [] })
  t.deepEqual(listDevices(copyOf(machine)), [first!, second!])
})

test('a machine without NVMe devices, and one without sysfs', (t) => {
  const machine = machineOf(t)
  t.deepEqual(listDevices(machine), [])
  fs.rmSync(machine.sys, { recursive: true })
  t.deepEqual(listDevices(machine), [])
})

test('a namespace with several paths has its block device by the name without the path', (t) => {
  const machine = machineOf(t)
  machine.add('0000:00:03.0', {
    driver: 'nvme',
    controller: 2,
    namespaces: [{ nsid: 1, multipath: true, partitions: 1 }],
  })
  machine.mount('259:11', '/dev/nvme2n1p1', '/data')
  t.is(listDevices(machine)[0]!.namespaces[0]!.block, 'nvme2n1')
  t.deepEqual(texts(machine), ['nvme2n1p1 is mounted on /data'])
})

test('mounted: by number, by source where the number is the file system’s own, with blanks in the path', (t) => {
  const machine = machineOf(t)
  const namespaces = [{ nsid: 1, partitions: 3 }]
  machine.add('0000:00:03.0', { driver: 'nvme', controller: 0, namespaces })
  machine.mount('259:11', '/dev/root', '/')
  machine.mount('259:11', '/dev/root', '/var/lib/my\\040files')
  machine.mount('0:44', '/dev/nvme0n1p2', '/home', 'btrfs')
  machine.mount('8:1', '/dev/sda1', '/boot')
  // Process 1 may see mounts that this process does not.
  machine.file('proc/1/mountinfo', '30 1 259:13 / /only/there rw - xfs /dev/nvme0n1p3 rw\n')
  t.deepEqual(texts(machine), [
    'nvme0n1p1 is mounted on /, /var/lib/my files',
    'nvme0n1p2 is mounted on /home',
    'nvme0n1p3 is mounted on /only/there',
  ])
})

test('swap, on a partition and by another name', (t) => {
  const machine = machineOf(t)
  machine.add('0000:00:03.0', { driver: 'nvme', controller: 0, namespaces: [{ nsid: 1, partitions: 2 }] })
  fs.mkdirSync(path.join(machine.dev, 'disk'))
  fs.symlinkSync('../nvme0n1p2', path.join(machine.dev, 'disk/swap'))
  fs.appendFileSync(
    path.join(machine.proc, 'swaps'),
    '/dev/disk/swap partition 1048572 0 -2\n/swapfile file 1 0 -3\n',
  )
  t.deepEqual(texts(machine), ['nvme0n1p2 is swap'])
})

test('RAID, LVM, encryption: by name, with the uses of what is built on them', (t) => {
  const machine = machineOf(t)
  machine.add('0000:00:03.0', { driver: 'nvme', controller: 0, namespaces: [{ nsid: 1, partitions: 3 }] })
  const holder = (of: string, name: string, files: Record<string, string>) => {
    machine.file(`sys/class/block/${of}/holders/${name}`, '')
    for (const [file, content] of Object.entries(files))
      machine.file(`sys/class/block/${name}/${file}`, content)
  }
  holder('nvme0n1p1', 'md127', { 'md/level': 'raid1\n', dev: '9:127\n' })
  holder('nvme0n1p2', 'dm-0', { 'dm/name': 'vg-root\n', 'dm/uuid': 'LVM-abc\n', dev: '253:0\n' })
  holder('nvme0n1p3', 'dm-1', { 'dm/name': 'secret\n', 'dm/uuid': 'CRYPT-LUKS2-abc\n', dev: '253:1\n' })
  holder('dm-1', 'dm-2', { 'dm/name': 'linear\n', dev: '253:2\n' })
  machine.mount('253:0', '/dev/mapper/vg-root', '/')
  t.deepEqual(texts(machine), [
    'nvme0n1p1 is part of RAID md127 (raid1)',
    'nvme0n1p2 is part of LVM volume vg-root (dm-0)',
    'dm-0 is mounted on /',
    'nvme0n1p3 is part of encrypted device secret (dm-1)',
    'dm-1 is part of device-mapper device linear (dm-2)',
  ])
})

test('open: block, controller and generic devices, VFIO groups and UIO, by process', (t) => {
  const machine = machineOf(t)
  machine.add('0000:00:03.0', { driver: 'nvme', controller: 0, namespaces: [{ nsid: 1, partitions: 1 }] })
  machine.add('0000:00:04.0', { driver: 'vfio-pci', group: 4 })
  machine.add('0000:00:05.0', { driver: 'uio_pci_generic', group: 5 })
  machine.file('sys/bus/pci/devices/0000:00:05.0/uio/uio0/dev', '241:0\n')
  machine.process(100, 'dd', ['/dev/nvme0n1', '/dev/null', '/dev/nvme0n1', 'socket:[1]'])
  machine.process(101, 'nvme', ['/dev/nvme0', '/dev/ng0n1'])
  machine.process(102, 'node', ['/dev/vfio/vfio', '/dev/vfio/4'])
  machine.process(103, 'spdk', ['/dev/uio0'])
  machine.process(104, 'other', ['/dev/nvme0n10', '/dev/vfio/44'])
  machine.process(process.pid, 'this', ['/dev/nvme0n1'])
  t.deepEqual(texts(machine), [
    'nvme0n1 is open in process 100 (dd)',
    'nvme0 is open in process 101 (nvme)',
    'ng0n1 is open in process 101 (nvme)',
    'vfio/4 is open in process 102 (node)',
    'uio0 is open in process 103 (spdk)',
  ])
})

test('loop devices and the NVMe target', (t) => {
  const machine = machineOf(t)
  machine.add('0000:00:03.0', { driver: 'nvme', controller: 0, namespaces: [{ nsid: 1, partitions: 2 }] })
  machine.file('sys/class/block/loop0/loop/backing_file', '/dev/nvme0n1p2\n')
  machine.file('sys/class/block/loop1/loop/backing_file', '/home/disk.img\n')
  const target = (nsid: number, device: string, enable: number) => {
    machine.file(`sys/kernel/config/nvmet/subsystems/shared/namespaces/${nsid}/device_path`, `${device}\n`)
    machine.file(`sys/kernel/config/nvmet/subsystems/shared/namespaces/${nsid}/enable`, `${enable}\n`)
  }
  target(1, '/dev/nvme0n1', 1)
  target(2, '/dev/nvme0n1p1', 0)
  t.deepEqual(texts(machine), ['nvme0n1 is exported by the NVMe target shared', 'nvme0n1p2 is behind loop0'])
})

test('held by something that shows nowhere else', (t) => {
  const machine = machineOf(t)
  machine.add('0000:00:03.0', { driver: 'nvme', controller: 0, namespaces: [{ nsid: 1 }] })
  machine.claimed.add('nvme0n1')
  t.deepEqual(texts(machine), ['nvme0n1 is held by the kernel or by a process for itself alone'])
  machine.mount('259:10', '/dev/nvme0n1', '/mnt')
  t.deepEqual(texts(machine), ['nvme0n1 is mounted on /mnt'])
})
