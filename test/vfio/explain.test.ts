import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import test from 'ava'
import { InUseError, OutOfMemoryError, SetupError, SystemCallError } from '../../lib/errors.ts'
import type { PciFacts } from '../../lib/pci/sysfs.ts'
import {
  checkBinding,
  explainMap,
  explainOpen,
  explainSetIommu,
  findHolder,
  readMemlock,
} from '../../lib/vfio/explain.ts'

const facts: PciFacts = {
  name: '0000:0a:00.0',
  vendor: 0x144d,
  device: 0xa808,
  subsystemVendor: 0,
  subsystemDevice: 0,
  class: 0x010802,
  driver: 'vfio-pci',
  driverOverride: null,
  iommuGroup: 12,
  noIommuGroup: null,
  vfioDevice: null,
  resources: [],
}
const failure = (code: string) => new SystemCallError('failed', { code, errno: 1, syscall: 'ioctl' })

const proc = fs.mkdtempSync(path.join(os.tmpdir(), 'unvme-proc-'))
test.after.always(() => fs.rmSync(proc, { recursive: true }))

const refused = (facts: PciFacts, noIommu: boolean) => {
  try {
    checkBinding(facts, noIommu)
    return null
  } catch (error) {
    return error instanceof SetupError ? error.message : String(error)
  }
}

test('bindings that will do', (t) => {
  t.is(refused(facts, false), null)
  t.is(refused(facts, true), null)
  t.is(refused({ ...facts, iommuGroup: null, noIommuGroup: 0 }, true), null)
})

test('bindings that will not, and what to do', (t) => {
  t.is(
    refused({ ...facts, driver: 'nvme' }, false),
    "0000:0a:00.0 is not bound to vfio-pci: the driver 'nvme' has it; 'unvme setup 0000:0a:00.0' binds it; as it is, it opens by its path below /dev (unvme list)",
  )
  t.regex(refused({ ...facts, driver: null }, false)!, /no driver has it; 'unvme setup/)
  t.regex(
    refused({ ...facts, driver: null, iommuGroup: null }, false)!,
    /intel_iommu=on.*, then 'unvme setup/,
  )
  t.regex(refused({ ...facts, iommuGroup: null, noIommuGroup: 0 }, false)!, /no IOMMU.*option noIommu/)
  t.regex(refused({ ...facts, iommuGroup: null }, true)!, /enable_unsafe_noiommu_mode=1/)
})

test('files that do not open', (t) => {
  const explain = (code: string) => explainOpen(failure(code), '/dev/vfio/12', facts)
  t.true(explain('EBUSY') instanceof InUseError)
  t.regex(explain('EACCES').message, /no permission to open \/dev\/vfio\/12.*unvme setup --user/)
  t.regex(explain('ENOENT').message, /\/dev\/vfio\/12 is missing; 'modprobe vfio-pci'/)
  t.regex(explain('EIO').message, /EIO/)
  for (const code of ['EBUSY', 'EACCES', 'ENOENT', 'EIO']) {
    t.is((explain(code).cause as SystemCallError).code, code)
  }
})

test('without interrupt remapping', (t) => {
  t.regex(explainSetIommu(failure('EPERM'), facts).message, /interrupts.*allow_unsafe_interrupts=1/)
  t.regex(explainSetIommu(failure('EINVAL'), facts).message, /group 12/)
})

test('limits of DMA memory', (t) => {
  const memlock = explainMap(failure('ENOMEM'), facts.name, 8 * 2 ** 20)
  t.true(memlock instanceof OutOfMemoryError)
  t.regex(memlock.message, /8 MiB of DMA memory.*RLIMIT_MEMLOCK is .*ulimit -l \d+/)
  t.regex(explainMap(failure('ENOSPC'), facts.name, 4096).message, /no more mappings.*dma_entry_limit/)
  t.is(explainMap(failure('EINVAL'), facts.name, 4096).cause instanceof SystemCallError, true)
})

test('the limit on locked memory, as the kernel tells it', (t) => {
  const folder = path.join(proc, 'self')
  fs.mkdirSync(folder)
  const limits = (soft: string) => `Limit                     Soft Limit           Hard Limit           Units
Max cpu time              unlimited            unlimited            seconds
Max locked memory         ${soft.padEnd(20)} 8388608              bytes
`
  fs.writeFileSync(path.join(folder, 'limits'), limits('4194304'))
  fs.writeFileSync(path.join(folder, 'status'), 'Name:\tnode\nVmLck:\t    1024 kB\nVmPin:\t       8 kB\n')
  t.deepEqual(readMemlock(folder), { limit: 4194304, used: 1032 * 1024 })
  fs.writeFileSync(path.join(folder, 'limits'), limits('unlimited'))
  t.deepEqual(readMemlock(folder), { limit: null, used: 1032 * 1024 })
})

test('who has a file open', (t) => {
  for (const [pid, file] of [
    ['100', '/dev/null'],
    ['200', '/dev/vfio/12'],
    [String(process.pid), '/dev/vfio/13'],
  ] as const) {
    fs.mkdirSync(path.join(proc, pid, 'fd'), { recursive: true })
    fs.writeFileSync(path.join(proc, pid, 'cmdline'), '/usr/bin/fio\0--name\0job\0')
    fs.symlinkSync(file, path.join(proc, pid, 'fd', '9'))
  }
  fs.mkdirSync(path.join(proc, '300'))
  t.is(findHolder(['/dev/vfio/12'], proc), 'process 200 (fio)')
  t.regex(findHolder(['/dev/vfio/13'], proc)!, /this process/)
  t.is(findHolder(['/dev/vfio/devices/vfio0', '/dev/vfio/12'], proc), 'process 200 (fio)')
  t.is(findHolder(['/dev/vfio/14'], proc), null)
})
