import test, { type ExecutionContext } from 'ava'
import {
  bindSteps,
  handOverSteps,
  listDevices,
  loadSteps,
  type Plan,
  perform,
  planBind,
  planReset,
  resetSteps,
  stepText,
  undoSteps,
} from '../../src/setup/index.ts'
import { FakeMachine } from './fake-machine.ts'

function machineOf(t: ExecutionContext, options?: { vfio: boolean }): FakeMachine {
  const machine = new FakeMachine(options)
  t.teardown(() => machine.remove())
  return machine
}

/** Three devices of one vendor and id: free, mounted, and free in a group with a network card. */
function threeDevices(t: ExecutionContext): FakeMachine {
  const machine = machineOf(t)
  machine.add('0000:00:03.0', { driver: 'nvme', group: 3, controller: 0, namespaces: [{ nsid: 1 }] })
  machine.add('0000:00:04.0', { driver: 'nvme', group: 4, controller: 1, namespaces: [{ nsid: 2 }] })
  machine.add('0000:00:05.0', { driver: 'nvme', group: 5, controller: 2, namespaces: [{ nsid: 3 }] })
  machine.add('0000:00:05.1', { class: 0x020000, driver: 'e1000', group: 5 })
  machine.mount('259:20', '/dev/nvme1n2', '/srv')
  return machine
}

const names = ({ chosen, done, refused }: Plan) => ({
  chosen: chosen.map(({ name }) => name),
  done: done.map(({ name }) => name),
  refused: Object.fromEntries(refused.map(({ device, reasons }) => [device.name, reasons])),
})

const steal =
  'IOMMU group 5 also has 0000:00:05.1 (e1000), which VFIO needs free: ' +
  'echo 0000:00:05.1 > /sys/bus/pci/devices/0000:00:05.1/driver/unbind'

test('all devices: those in use, and those whose group is not to be had, are left out with the reason', (t) => {
  const machine = threeDevices(t)
  t.deepEqual(names(planBind(machine, listDevices(machine), [])), {
    chosen: ['0000:00:03.0'],
    done: [],
    refused: { '0000:00:04.0': ['nvme1n2 is mounted on /srv'], '0000:00:05.0': [steal] },
  })
})

test('named devices: the same checks, unless forced', (t) => {
  const machine = threeDevices(t)
  const devices = listDevices(machine)
  const asked = ['00:04.0', '0000:00:05.0', '00:04.0']
  t.deepEqual(names(planBind(machine, devices, asked)), {
    chosen: [],
    done: [],
    refused: { '0000:00:04.0': ['nvme1n2 is mounted on /srv'], '0000:00:05.0': [steal] },
  })
  t.deepEqual(names(planBind(machine, devices, asked, { force: true })), {
    chosen: ['0000:00:04.0', '0000:00:05.0'],
    done: [],
    refused: {},
  })
})

test('two devices of one group are bound together, and neither where one is in use', (t) => {
  const machine = machineOf(t)
  for (const [at, name] of ['0000:01:00.0', '0000:01:00.1', '0000:01:00.2'].entries()) {
    machine.add(name, { driver: 'nvme', group: 7, controller: at, namespaces: [{ nsid: at + 1 }] })
  }
  const all = listDevices(machine)
  t.deepEqual(names(planBind(machine, all, [])).chosen, ['0000:01:00.0', '0000:01:00.1', '0000:01:00.2'])
  const two = names(planBind(machine, all, ['01:00.0', '01:00.1']))
  t.deepEqual(two.chosen, [])
  t.regex(
    two.refused['0000:01:00.0']![0]!,
    /group 7 also has 0000:01:00.2 \(nvme\).*: unvme setup 0000:01:00.0 0000:01:00.2$/,
  )
  machine.mount('259:30', '/dev/nvme2n3', '/mnt')
  const none = names(planBind(machine, listDevices(machine), []))
  t.deepEqual(none.chosen, [])
  t.is(Object.keys(none.refused).length, 3)
})

test('names that are no NVMe device, no device, no name; no IOMMU', (t) => {
  const machine = threeDevices(t)
  const devices = listDevices(machine)
  const code = 'ERR_UNVME_ADDRESS'
  t.throws(() => planBind(machine, devices, ['00:05.1']), { code, message: /no NVMe device.*020000/ })
  t.throws(() => planBind(machine, devices, ['00:06.0']), { code, message: /no such PCI function/ })
  t.throws(() => planBind(machine, devices, ['00:06']), { code, message: /no PCI name/ })
  const bare = machineOf(t)
  bare.add('0000:00:03.0', { driver: 'nvme', controller: 0 })
  t.throws(() => planBind(bare, listDevices(bare), [], { force: true }), {
    code: 'ERR_UNVME_SETUP',
    message: /no IOMMU.*intel_iommu=on/,
  })
  bare.file('sys/module/vfio/parameters/enable_unsafe_noiommu_mode', 'Y\n')
  t.deepEqual(names(planBind(bare, listDevices(bare), [])).chosen, ['0000:00:03.0'])
})

test('binding one: its own files and drivers_probe are written, nothing else', async (t) => {
  const machine = threeDevices(t)
  const [device] = planBind(machine, listDevices(machine), ['00:03.0']).chosen
  const steps = bindSteps(machine, device!)
  t.deepEqual(
    steps.map(stepText).filter((line) => !line.startsWith('#')),
    [
      `echo vfio-pci > ${machine.sys}/bus/pci/devices/0000:00:03.0/driver_override`,
      `echo 0000:00:03.0 > ${machine.sys}/bus/pci/devices/0000:00:03.0/driver/unbind`,
      `echo 0000:00:03.0 > ${machine.sys}/bus/pci/drivers_probe`,
    ],
  )
  t.deepEqual(machine.writes, [], 'describing the steps performs none')
  await perform(machine, steps)
  t.deepEqual(machine.writes, [
    'sys/bus/pci/devices/0000:00:03.0/driver_override = vfio-pci',
    'sys/bus/pci/devices/0000:00:03.0/driver/unbind = 0000:00:03.0',
    'sys/bus/pci/drivers_probe = 0000:00:03.0',
  ])
  t.is(machine.driver('0000:00:03.0'), 'vfio-pci')
  t.is(machine.driver('0000:00:04.0'), 'nvme')
  t.deepEqual(names(planBind(machine, listDevices(machine), ['00:03.0'])), {
    chosen: [],
    done: ['0000:00:03.0'],
    refused: {},
  })
})

test('bindSteps look again right before the unbinding: what is in use by then stays with the kernel', async (t) => {
  const cases: [string, (machine: FakeMachine) => void, RegExp][] = [
    ['mounted', (machine) => machine.mount('259:10', '/dev/nvme0n1', '/mnt'), /nvme0n1 is mounted on \/mnt$/],
    [
      'open',
      (machine) => machine.process(9, 'qemu', ['/dev/nvme0n1']),
      /nvme0n1 is open in process 9 \(qemu\)$/,
    ],
    ['held', (machine) => machine.claimed.add('nvme0n1'), /nvme0n1 is held by the kernel or by a process/],
  ]
  for (const [what, use, message] of cases) {
    const machine = threeDevices(t)
    const [device] = planBind(machine, listDevices(machine), ['00:03.0']).chosen
    const steps = bindSteps(machine, device!)
    const forced = bindSteps(machine, device!, { force: true })
    use(machine)
    await t.throwsAsync(perform(machine, steps), { code: 'ERR_UNVME_IN_USE', message }, what)
    t.is(machine.driver('0000:00:03.0'), 'nvme', what)
    await perform(machine, forced)
    t.is(machine.driver('0000:00:03.0'), 'vfio-pci', what)
  }
})

test('bindSteps hold every block device of the device while it is unbound, and no longer', async (t) => {
  const machine = machineOf(t)
  const namespaces = [{ nsid: 1 }, { nsid: 2, partitions: 1 }]
  machine.add('0000:00:03.0', { driver: 'nvme', group: 3, controller: 0, namespaces })
  const held: Record<string, string[]> = {}
  const { write } = machine
  machine.write = (file, value) => {
    held[file.split('/').at(-1)!] = [...machine.claimed].sort()
    write.call(machine, file, value)
  }
  await perform(machine, bindSteps(machine, listDevices(machine)[0]!))
  t.deepEqual(held, { driver_override: [], unbind: ['nvme0n1', 'nvme0n2'], drivers_probe: [] })
  t.is(machine.claimed.size, 0)
})

test('resetSteps look again: a device that a process has begun to drive is left to it', async (t) => {
  const machine = machineOf(t)
  machine.add('0000:00:03.0', { driver: 'vfio-pci', group: 3 })
  const steps = resetSteps(machine, listDevices(machine)[0]!)
  machine.process(55, 'node', ['/dev/vfio/3'])
  await t.throwsAsync(perform(machine, steps), { code: 'ERR_UNVME_IN_USE', message: /open in process 55/ })
  t.is(machine.driver('0000:00:03.0'), 'vfio-pci')
})

test('a device without a driver needs no unbinding', async (t) => {
  const machine = machineOf(t)
  machine.add('0000:00:03.0', { group: 3 })
  await perform(machine, bindSteps(machine, listDevices(machine)[0]!))
  t.is(machine.writes.length, 2)
  t.is(machine.driver('0000:00:03.0'), 'vfio-pci')
})

test('missing modules are loaded, those that are there are not', async (t) => {
  const machine = machineOf(t, { vfio: false })
  machine.add('0000:00:03.0', { driver: 'nvme', group: 3 })
  const steps = loadSteps(machine)
  t.deepEqual(steps.map(stepText), ['modprobe vfio-pci', 'modprobe vfio_iommu_type1'])
  await perform(machine, steps)
  t.deepEqual(machine.loaded, ['vfio-pci', 'vfio_iommu_type1'])
  t.deepEqual(loadSteps(machine), [])
})

test('a device that vfio-pci does not take is an error, and can be undone', async (t) => {
  const machine = machineOf(t)
  machine.add('0000:00:03.0', { driver: 'nvme', group: 3, controller: 0, namespaces: [{ nsid: 1 }] })
  machine.refusing.add('0000:00:03.0')
  const [device] = listDevices(machine)
  const steps = bindSteps(machine, device!).map((step) =>
    step.kind === 'wait' ? { ...step, timeout: 30 } : step,
  )
  await t.throwsAsync(perform(machine, steps), {
    code: 'ERR_UNVME_SETUP',
    message: '0000:00:03.0: vfio-pci did not take it (driver: none); dmesg says why',
  })
  await perform(machine, undoSteps(machine, device!))
  t.is(machine.driver('0000:00:03.0'), 'nvme')
  t.is(listDevices(machine)[0]!.driverOverride, null)
})

test('a failed write names the file and the errno; an abort stops between steps', async (t) => {
  const machine = machineOf(t)
  const missing = { kind: 'write', file: `${machine.sys}/none`, value: '1' } as const
  await t.throwsAsync(perform(machine, [missing]), {
    code: 'ERR_UNVME_SETUP',
    message: `echo 1 > ${machine.sys}/none: ENOENT`,
  })
  await t.throwsAsync(perform(machine, [missing], AbortSignal.abort()), { code: 'ABORT_ERR' })
  const wait = { kind: 'wait', what: '', timeout: 60_000, ready: () => false, problem: () => '' } as const
  const controller = new AbortController()
  setImmediate(() => controller.abort(new Error('enough')))
  const error = await t.throwsAsync(perform(machine, [wait], controller.signal), { code: 'ABORT_ERR' })
  t.is((error!.cause as Error).message, 'enough')
})

test('reset: back to the kernel, and only what VFIO has', async (t) => {
  const machine = threeDevices(t)
  await perform(machine, bindSteps(machine, listDevices(machine)[0]!))
  t.deepEqual(names(planReset(machine, listDevices(machine), [])), {
    chosen: ['0000:00:03.0'],
    done: ['0000:00:04.0', '0000:00:05.0'],
    refused: {},
  })
  machine.writes.length = 0
  await perform(machine, resetSteps(machine, listDevices(machine)[0]!))
  t.deepEqual(machine.writes, [
    'sys/bus/pci/devices/0000:00:03.0/driver_override = \n',
    'sys/bus/pci/devices/0000:00:03.0/driver/unbind = 0000:00:03.0',
    'sys/bus/pci/drivers_probe = 0000:00:03.0',
  ])
  const [device] = listDevices(machine)
  t.like(device, { driver: 'nvme', driverOverride: null, serial: 'S0' })
  t.deepEqual(names(planReset(machine, listDevices(machine), ['00:03.0'])).done, ['0000:00:03.0'])
})

test('reset: a device that a process drives is refused, unless forced; other drivers are not ours', (t) => {
  const machine = machineOf(t)
  machine.add('0000:00:03.0', { driver: 'vfio-pci', group: 3 })
  machine.add('0000:00:04.0', { driver: 'uio_pci_generic', group: 4 })
  machine.process(55, 'node', ['/dev/vfio/3'])
  const devices = listDevices(machine)
  t.deepEqual(names(planReset(machine, devices, [])), {
    chosen: [],
    done: ['0000:00:04.0'],
    refused: { '0000:00:03.0': ['vfio/3 is open in process 55 (node)'] },
  })
  t.deepEqual(names(planReset(machine, devices, ['00:04.0'])).chosen, ['0000:00:04.0'])
  t.deepEqual(names(planReset(machine, devices, ['00:03.0'], { force: true })).chosen, ['0000:00:03.0'])
})

test('a bound device is handed to a user, with its character device where there is one', async (t) => {
  const machine = machineOf(t)
  machine.add('0000:00:03.0', { driver: 'vfio-pci', group: 3 })
  const account = { uid: 1000, gid: 1001 }
  await perform(machine, handOverSteps(machine, '0000:00:03.0', account))
  t.deepEqual(machine.chowned, ['dev/vfio/3 1000:1001'])
  machine.file('sys/bus/pci/devices/0000:00:03.0/vfio-dev/vfio0/dev', '510:0\n')
  machine.file('dev/vfio/devices/vfio0', '')
  await perform(machine, handOverSteps(machine, '0000:00:03.0', account))
  t.deepEqual(machine.chowned.slice(1), ['dev/vfio/3 1000:1001', 'dev/vfio/devices/vfio0 1000:1001'])
})
