// `unvme setup` on a real kernel: real drivers, real users of devices. One boot for all of it.

import { fileURLToPath } from 'node:url'
import anyTest from 'ava'
import { runInMachine } from '../../scripts/vm/machine.ts'
import { leftOut, registerUnless } from './machine-test.ts'
import type { Report } from './setup-guest.ts'

const missing = leftOut('setup')
const test = registerUnless(missing)

let report: Report

anyTest.before(async (t) => {
  if (missing) return
  t.timeout(300_000)
  const guest = fileURLToPath(new URL('./setup-guest.js', import.meta.url))
  const { status, stdout, stderr } = await runInMachine({
    command: [process.execPath, '--enable-source-maps', guest],
    shapes: ['lba512', 'lba4096', 'multi', 'mdts16k', 'onequeue', 'null4096', 'null512', 'group'],
    driver: 'nvme',
  })
  if (status !== 0) throw new Error(`status ${status}: ${stderr}`)
  report = JSON.parse(stdout)
})

const driversAfter = (step: string) =>
  Object.fromEntries(
    Object.entries(report.states[step]!).map(([name, { driver }]) => [name.slice(5), driver]),
  )

const ALL = [
  '00:04.0',
  '00:05.0',
  '00:06.0',
  '00:07.0',
  '00:08.0',
  '00:0a.0',
  '00:0b.0',
  '00:0d.0',
  '00:0d.1',
]
const drivers = (vfio: readonly string[]) =>
  Object.fromEntries(ALL.map((name) => [name, vfio.includes(name) ? 'vfio-pci' : 'nvme']))

test('every kind of user is seen, and named', (t) => {
  const uses = (name: string) => report.states.start![`0000:${name}`]!.uses
  t.deepEqual(uses('00:04.0'), [])
  t.deepEqual(uses('00:07.0'), [])
  t.deepEqual(uses('00:0d.0'), [])
  t.is(uses('00:05.0').length, 1)
  t.regex(uses('00:05.0')[0]!, /^nvme\dn1 is mounted on \/mnt$/)
  const several = uses('00:06.0')
  t.is(several.length, 3)
  t.regex(several[0]!, /^nvme\dn1 is swap$/)
  t.regex(several[1]!, /^nvme\dn\d is part of LVM volume vg-data \(dm-0\)$/)
  t.regex(several[2]!, /^nvme\dn\d is part of RAID md_test \(raid1\)$/)
  t.regex(uses('00:08.0')[0]!, /^nvme\dn1 is open in process \d+ \((busybox|sleep)\)$/)
  t.regex(uses('00:0a.0').join(), /^nvme\dn1 is held by the kernel or by a process for itself alone$/)
  t.regex(uses('00:0b.0').join(), /^nvme\dn1 is exported by the NVMe target test$/)
})

test('--dry-run prints the writes and changes nothing', (t) => {
  const { code, stdout, stderr } = report.steps['dry run']!
  t.is(code, 0)
  t.regex(stdout, /^modprobe vfio-pci\nmodprobe vfio_iommu_type1\n/)
  t.regex(stdout, /^echo vfio-pci > \/sys\/bus\/pci\/devices\/0000:00:0d\.1\/driver_override$/m)
  t.notRegex(stdout, /00:05\.0/)
  t.regex(stderr, /^0000:00:05\.0 {2}left out: nvme\dn1 is mounted on \/mnt$/m)
  t.deepEqual(report.states['dry run'], report.states.start)
})

test('a named device in use is refused, with its user, and the other one named is left as it was', (t) => {
  const { code, stdout, stderr } = report.steps['named, mounted']!
  t.is(code, 1)
  t.is(stdout, '')
  t.regex(stderr, /^unvme: 0000:00:05\.0: nvme\dn1 is mounted on \/mnt \(--force.*ERR_UNVME_IN_USE\)\n$/)
  t.deepEqual(report.states['named, mounted'], report.states.start)
})

test('binding one leaves every other device of the same id alone', (t) => {
  const { code, stdout } = report.steps.one!
  t.is(code, 0)
  t.regex(stdout, /^0000:00:04\.0 {2}bound to vfio-pci, IOMMU group \d+\n$/)
  t.deepEqual(driversAfter('one'), drivers(['00:04.0']))
})

test('--user: a user without rights can open the group, and could not before', (t) => {
  t.is(report.steps.user!.code, 0)
  t.regex(report.steps.user!.stdout, /already bound to vfio-pci/)
  t.deepEqual(report.groupOpens, { before: false, after: true })
})

test('without a name and without a terminal: refused, unless --yes', (t) => {
  const { code, stderr } = report.steps['all, not asked']!
  t.is(code, 2)
  t.regex(stderr, /Take 0000:00:07\.0 \(.*to VFIO\? Not asked without a terminal: give --yes/)
  t.deepEqual(driversAfter('all, not asked'), driversAfter('one'))
})

test('without a name: all that the system does not use, the two of one group together', (t) => {
  const { code, stdout, stderr } = report.steps.all!
  t.is(code, 0)
  t.is(stdout.match(/ {2}bound to vfio-pci/g)?.length, 3)
  t.is(stderr.match(/left out/g)?.length, 5)
  t.deepEqual(driversAfter('all'), drivers(['00:04.0', '00:07.0', '00:0d.0', '00:0d.1']))
})

test('show and list on the real machine', (t) => {
  const { code, stdout } = report.steps.show!
  t.is(code, 0)
  const { Devices, Checks } = JSON.parse(stdout)
  t.is(Devices.length, ALL.length)
  t.like(Devices[1], { Driver: 'nvme', ModelNumber: 'QEMU NVMe Ctrl', SerialNumber: 'lba4096' })
  t.deepEqual(
    Checks.map(({ State }: { State: string }) => State),
    ['ok', 'ok', 'ok'],
  )
  const lines = report.steps.list!.stdout.trimEnd().split('\n')
  // Titles, rule, one line for each device, and two more for the one with three namespaces.
  t.is(lines.length, 2 + ALL.length + 2)
  t.true(lines.some((line) => /^0000:00:06\.0\/7 .* 33\.55 MB +512 B/.test(line)))
})

test('reset: back to the kernel with block devices and content, except what a process drives', (t) => {
  const { code, stdout, stderr } = report.steps['reset all']!
  t.is(code, 0)
  t.regex(stdout, /^0000:00:04\.0 {2}back with the kernel: \/dev\/nvme\d+n1$/m)
  t.regex(stderr, /^0000:00:07\.0 {2}left out: vfio\/\d+ is open in process \d+ /)
  t.deepEqual(driversAfter('reset all'), drivers(['00:07.0']))
  t.is(report.steps['reset one']!.code, 0)
  t.is(report.content.after, report.content.before)
})

test('a device that nobody has open any more can be bound', (t) => {
  t.is(report.steps['opened no more']!.code, 0)
  t.deepEqual(driversAfter('end'), drivers(['00:08.0']))
  for (const name of ['00:04.0', '00:07.0']) t.is(report.states.end![`0000:${name}`]!.override, null)
})

test('--force takes a device that is mounted, and nothing else', (t) => {
  t.is(report.steps.forced!.code, 0, report.steps.forced!.stderr)
  t.deepEqual(driversAfter('forced'), drivers(['00:05.0', '00:08.0']))
})
