// Runs in the virtual machine: makes the system use some NVMe devices, runs `unvme setup` as a user would, and
// prints what came of each step as JSON for setup.test.ts to check.
// One boot and one process for all steps, in an order that each of them relies on.

import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import fs from 'node:fs'
import { fileURLToPath } from 'node:url'
import { ioctl } from '../../lib/sys/libc.ts'
import { listDevices, thisMachine } from '../../src/setup/index.ts'

const MAIN = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url))
const BUSYBOX = '/run/unvme-vm/bin/busybox'

export interface Report {
  /** Exit code and output of each command line that was run, by name of the step. */
  steps: Record<string, { code: number | null; stdout: string; stderr: string }>
  /** Driver and use of each device after a step, by name of the step and PCI name. */
  states: Record<string, Record<string, { driver: string | null; override: string | null; uses: string[] }>>
  /** Whether an unprivileged process can open the group's file. */
  groupOpens: { before: boolean; after: boolean }
  /** First bytes of a device before it was bound and after it came back. */
  content: { before: string; after: string }
}

const report: Report = {
  steps: {},
  states: {},
  groupOpens: { before: false, after: false },
  content: { before: '', after: '' },
}

function unvme(step: string, ...words: string[]): void {
  const { status, stdout, stderr } = spawnSync(process.execPath, [MAIN, ...words], { encoding: 'utf8' })
  report.steps[step] = { code: status, stdout, stderr }
}

function state(step: string): void {
  report.states[step] = Object.fromEntries(
    listDevices(thisMachine()).map(({ name, driver, driverOverride, uses }) => [
      name,
      { driver, override: driverOverride, uses: uses.map(({ text }) => text) },
    ]),
  )
}

function must(command: string, ...words: string[]): void {
  const { status, error, stderr } = spawnSync(command, words, { encoding: 'utf8' })
  if (status !== 0) throw new Error(`${command} ${words.join(' ')}: ${error?.message ?? stderr} (${status})`)
}

/** The block device of a namespace, by PCI name and nsid. */
function blockOf(name: string, nsid = 1): string {
  const device = listDevices(thisMachine()).find((one) => one.name === name)
  return device!.namespaces.find((one) => one.nsid === nsid)!.block
}

const numbers = (block: string) => fs.readFileSync(`/sys/class/block/${block}/dev`, 'utf8').trim()

/** A process that keeps a file open until it is killed. */
async function keepOpen(file: string): Promise<ChildProcess> {
  const child = spawn('/bin/sh', ['-c', `exec 3<>${file}; echo open; exec ${BUSYBOX} sleep 1000`], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  await once(child.stdout!, 'data')
  return child
}

/** An array of md with one member, made through sysfs, so that mdadm is not needed. */
function makeRaid(block: string): void {
  must('/sbin/modprobe', 'raid1')
  fs.writeFileSync('/sys/module/md_mod/parameters/new_array', 'md_test')
  const md = '/sys/block/md_test/md'
  fs.writeFileSync(`${md}/metadata_version`, 'external:test')
  fs.writeFileSync(`${md}/level`, 'raid1')
  fs.writeFileSync(`${md}/raid_disks`, '2')
  fs.writeFileSync(`${md}/new_dev`, numbers(block))
}

// struct dm_ioctl and struct dm_target_spec (linux/dm-ioctl.h).
const DM_IOCTL_BYTES = 312
const DM_SPEC_BYTES = 40
const DM_DEV_CREATE = 3
const DM_DEV_SUSPEND = 6
const DM_TABLE_LOAD = 9

/** A linear device-mapper device over the first MiB, named as LVM would, so that dmsetup is not needed. */
function makeMapping(block: string, name: string): void {
  must('/sbin/modprobe', 'dm-mod')
  const fd = fs.openSync('/dev/mapper/control', 'r+')
  const call = (command: number, target?: string) => {
    const data = Buffer.alloc(DM_IOCTL_BYTES + 256)
    data.writeUInt32LE(4, 0)
    data.writeUInt32LE(data.length, 12)
    data.writeUInt32LE(DM_IOCTL_BYTES, 16)
    data.write(name, 48, 'latin1')
    if (command === DM_DEV_CREATE) data.write(`LVM-${name}`, 176, 'latin1')
    if (target !== undefined) {
      data.writeUInt32LE(1, 20)
      data.writeUInt32LE(2048, DM_IOCTL_BYTES + 8)
      data.writeUInt32LE(DM_SPEC_BYTES + 128, DM_IOCTL_BYTES + 20)
      data.write('linear', DM_IOCTL_BYTES + 24, 'latin1')
      data.write(target, DM_IOCTL_BYTES + DM_SPEC_BYTES, 'latin1')
    }
    // _IOWR(0xfd, command, struct dm_ioctl)
    const request = 0xc000_0000 + DM_IOCTL_BYTES * 0x1_0000 + 0xfd00 + command
    if (ioctl(fd, request, data) !== 0) throw new Error(`dm ioctl ${command} failed`)
  }
  call(DM_DEV_CREATE)
  call(DM_TABLE_LOAD, `${numbers(block)} 0`)
  // Without the flag that suspends, this resumes: the table becomes live.
  call(DM_DEV_SUSPEND)
  fs.closeSync(fd)
}

/** Gives a device to zram for what it does not keep in memory: a holder that only an exclusive open finds. */
function makeBacking(block: string): void {
  must('/sbin/modprobe', 'zram')
  fs.writeFileSync('/sys/block/zram0/backing_dev', `/dev/${block}`)
}

/** Exports a device by the kernel's NVMe target. */
function makeTarget(block: string): void {
  must('/sbin/modprobe', 'nvmet')
  must(BUSYBOX, 'mount', '-t', 'configfs', 'config', '/sys/kernel/config')
  const namespace = '/sys/kernel/config/nvmet/subsystems/test/namespaces/1'
  fs.mkdirSync('/sys/kernel/config/nvmet/subsystems/test')
  fs.mkdirSync(namespace)
  fs.writeFileSync(`${namespace}/device_path`, `/dev/${block}`)
  fs.writeFileSync(`${namespace}/enable`, '1')
}

const firstBytes = (block: string) => {
  const fd = fs.openSync(`/dev/${block}`, 'r')
  const data = Buffer.alloc(512)
  fs.readSync(fd, data)
  fs.closeSync(fd)
  return data.toString('hex')
}

/** Whether the user `nobody` can open it. */
const opensFor = (uid: number, file: string) =>
  spawnSync('/bin/sh', ['-c', `: <>${file}`], { uid, gid: uid }).status === 0

const NOBODY = 65534
const groupFile = (name: string) =>
  `/dev/vfio/${fs.readlinkSync(`/sys/bus/pci/devices/${name}/iommu_group`).split('/').at(-1)}`

async function main(): Promise<void> {
  const [free, same, mounted, several, opened, claimed, exported] = [
    '0000:00:04.0',
    '0000:00:07.0',
    '0000:00:05.0',
    '0000:00:06.0',
    '0000:00:08.0',
    '0000:00:0a.0',
    '0000:00:0b.0',
  ] as const
  fs.writeFileSync(`/dev/${blockOf(free)}`, Buffer.alloc(512, 'still here'))
  report.content.before = firstBytes(blockOf(free))
  must(BUSYBOX, 'mke2fs', '-b', '4096', `/dev/${blockOf(mounted)}`)
  must('/sbin/modprobe', 'ext4')
  must(BUSYBOX, 'mount', '-t', 'ext2', `/dev/${blockOf(mounted)}`, '/mnt')
  must(BUSYBOX, 'mkswap', `/dev/${blockOf(several, 1)}`)
  must(BUSYBOX, 'swapon', `/dev/${blockOf(several, 1)}`)
  makeMapping(blockOf(several, 3), 'vg-data')
  makeRaid(blockOf(several, 7))
  makeBacking(blockOf(claimed))
  makeTarget(blockOf(exported))
  const reader = await keepOpen(`/dev/${blockOf(opened)}`)
  state('start')

  unvme('dry run', 'setup', '--dry-run')
  state('dry run')
  unvme('named, mounted', 'setup', '00:04.0', '00:05.0')
  state('named, mounted')

  unvme('one', 'setup', '00:04.0')
  state('one')
  report.groupOpens.before = opensFor(NOBODY, groupFile(free))
  unvme('user', 'setup', '00:04.0', '--user', String(NOBODY))
  report.groupOpens.after = opensFor(NOBODY, groupFile(free))

  unvme('all, not asked', 'setup')
  state('all, not asked')
  unvme('all', 'setup', '--yes')
  state('all')
  unvme('show', 'setup', 'show', '-o', 'json')
  unvme('list', 'list')

  const driver = await keepOpen(groupFile(same))
  unvme('reset all', 'setup', 'reset')
  state('reset all')
  driver.kill('SIGKILL')
  await once(driver, 'close')
  reader.kill('SIGKILL')
  await once(reader, 'close')
  unvme('reset one', 'setup', 'reset', '00:07.0')
  report.content.after = firstBytes(blockOf(free))
  unvme('opened no more', 'setup', '00:08.0')
  state('end')
  unvme('forced', 'setup', '--force', '00:05.0')
  state('forced')
  process.stdout.write(JSON.stringify(report))
}

await main()
