import test, { type ExecutionContext } from 'ava'
import { type Check, checkSystem } from '../../src/setup/index.ts'
import { FakeMachine } from './fake-machine.ts'

function check(t: ExecutionContext, name: Check['name'], prepare: (machine: FakeMachine) => void): Check {
  const machine = new FakeMachine({ vfio: false })
  t.teardown(() => machine.remove())
  prepare(machine)
  return checkSystem(machine).find((one) => one.name === name)!
}

test('IOMMU: groups say that it is on', (t) => {
  const on = check(t, 'iommu', (machine) => machine.add('0000:00:03.0', { group: 0 }))
  t.deepEqual(on, { name: 'iommu', state: 'ok', finding: 'IOMMU is on (1 groups)', mend: null })
})

test('IOMMU: the mend fits the processor and the command line', (t) => {
  const mend = (cmdline: string, vendor: string) =>
    check(t, 'iommu', (machine) => {
      machine.file('proc/cmdline', `BOOT_IMAGE=/vmlinuz ${cmdline}\n`)
      machine.file('proc/cpuinfo', `processor\t: 0\nvendor_id\t: ${vendor}\n`)
    }).mend
  t.regex(mend('ro quiet', 'GenuineIntel')!, /^add intel_iommu=on to the kernel command line/)
  t.regex(mend('intel_iommu=on', 'GenuineIntel')!, /^turn on VT-d in the firmware setup/)
  t.regex(mend('ro', 'AuthenticAMD')!, /AMD-Vi/)
  t.is(mend('amd_iommu=off ro', 'AuthenticAMD'), 'take amd_iommu=off off the kernel command line and reboot')
})

test('no-IOMMU mode is reported, not silently taken', (t) => {
  const allowed = check(t, 'iommu', (machine) =>
    machine.file('sys/module/vfio/parameters/enable_unsafe_noiommu_mode', 'Y\n'),
  )
  t.is(allowed.state, 'warn')
  t.regex(allowed.finding, /can reach all memory/)
})

test('modules', (t) => {
  const missing = check(t, 'modules', () => {})
  t.is(missing.state, 'warn')
  t.regex(missing.mend!, /^modprobe -a vfio-pci vfio_iommu_type1/)
  const loaded = check(t, 'modules', (machine) => {
    machine.loadModule('vfio-pci')
  })
  t.is(loaded.state, 'ok')
})

test('locked memory: too little for a user, whatever it is for root', (t) => {
  const memlock = (soft: string, capabilities: string) =>
    check(t, 'memlock', (machine) => {
      const limits = `Max locked memory         ${soft}              ${soft}              bytes     \n`
      machine.file('proc/self/limits', `Limit                     Soft Limit\n${limits}`)
      machine.file('proc/self/status', `Name:\tnode\nCapEff:\t${capabilities}\n`)
    })
  const root = '000001ffffffffff'
  const user = '0000000000000000'
  t.is(memlock('unlimited', user).state, 'ok')
  t.is(memlock('8388608', root).state, 'ok')
  t.is(memlock('1073741824', user).state, 'ok')
  const little = memlock('8388608', user)
  t.is(little.state, 'warn')
  t.regex(little.finding, /8192 KiB/)
  t.regex(little.mend!, /limits\.d/)
})
