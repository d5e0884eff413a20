// Back to the kernel's own driver: which devices, and the steps for one, up to its block device.
// It waits until the kernel shows a block device, so that the next command of a script finds it.

import fs from 'node:fs'
import path from 'node:path'
import { SetupError } from '../../lib/errors.ts'
import { isVfioDriver, readPciFacts } from '../../lib/pci/sysfs.ts'
import { type Machine, readFolder, readText } from '../system/machine.ts'
import { deviceFile, type Plan, type PlanOptions, select, unbindSteps } from './bind.ts'
import type { NvmeDevice } from './inventory.ts'
import type { Step } from './steps.ts'

const NVME_DRIVER = 'nvme'

/**
 * The devices to give back: those named, or all that VFIO has or that have no driver.
 * One that a process drives is refused: the kernel would wait for the process to let go of it.
 */
export function planReset(
  machine: Machine,
  devices: readonly NvmeDevice[],
  names: readonly string[],
  { force = false }: PlanOptions = {},
): Plan {
  const asked = names.length > 0 ? select(machine, devices, names) : devices
  const plan: Plan = { chosen: [], done: [], refused: [] }
  for (const device of asked) {
    const kept = device.driver === NVME_DRIVER && device.driverOverride === null
    // Without a name, a device that some third driver has is none of ours.
    const foreign = names.length === 0 && device.driver !== null && !isVfioDriver(device.driver)
    const reasons = device.driver === NVME_DRIVER || force ? [] : device.uses.map(({ text }) => text)
    if (kept || (foreign && device.driverOverride === null)) plan.done.push(device)
    else if (reasons.length > 0) plan.refused.push({ device, reasons })
    else plan.chosen.push(device)
  }
  return plan
}

const PROBE_TIMEOUT = 10_000
// CAP.TO goes up to 127.5 s; a drive that needs more than this is mended with patience.
const READY_TIMEOUT = 60_000
/** A live controller that shows no block device after this time has no namespace to show. */
const EMPTY_AFTER = 3_000

/** The steps that give one device back to the kernel's driver. In use by then, it is refused, unless `force`. */
export function resetSteps(machine: Machine, device: NvmeDevice, options: PlanOptions = {}): Step[] {
  const { name } = device
  const clear: Step[] =
    device.driverOverride === null
      ? []
      : [{ kind: 'write', file: deviceFile(machine, name, 'driver_override'), value: '\n' }]
  if (device.driver === NVME_DRIVER) return clear
  const loaded = fs.existsSync(path.join(machine.sys, 'bus/pci/drivers', NVME_DRIVER))
  return [
    ...(loaded ? [] : [{ kind: 'load', module: NVME_DRIVER } as const]),
    ...clear,
    ...unbindSteps(machine, device, options),
    { kind: 'write', file: path.join(machine.sys, 'bus/pci/drivers_probe'), value: name },
    waitForDriver(machine, name),
    waitForBlockDevice(machine, name),
  ]
}

function waitForDriver(machine: Machine, name: string): Step {
  const driver = () => readPciFacts(name, { root: machine.sys }).driver
  return {
    kind: 'wait',
    what: `the kernel's driver has ${name}`,
    timeout: PROBE_TIMEOUT,
    ready: () => driver() === NVME_DRIVER,
    problem: () =>
      isVfioDriver(driver())
        ? `${name}: ${driver()} took it again; its id was given to that driver (new_id, or ids= of the module)`
        : `${name}: the kernel's driver did not take it (driver: ${driver() ?? 'none'}); dmesg says why`,
  }
}

function waitForBlockDevice(machine: Machine, name: string): Step {
  let liveSince = Number.POSITIVE_INFINITY
  const controllers = () => readFolder(deviceFile(machine, name, NVME_DRIVER))
  const state = () => {
    const controller = controllers()[0]
    return controller === undefined
      ? null
      : readText(deviceFile(machine, name, NVME_DRIVER), controller, 'state')
  }
  return {
    kind: 'wait',
    what: `${name} has a block device`,
    timeout: READY_TIMEOUT,
    ready() {
      // A controller that does not come up is taken off its driver again.
      if (readPciFacts(name, { root: machine.sys }).driver !== NVME_DRIVER || state() === 'dead') {
        throw new SetupError(`${name}: the kernel's driver gave it up; dmesg says why`)
      }
      if (state() !== 'live') return false
      liveSince = Math.min(liveSince, performance.now())
      return blockDevices(machine, name).length > 0 || performance.now() - liveSince > EMPTY_AFTER
    },
    problem: () => `${name}: the kernel's driver has it, but it is not ready (${state() ?? 'no controller'})`,
  }
}

/** Block devices of a controller that have their node in /dev. */
export function blockDevices(machine: Machine, name: string): string[] {
  const folder = deviceFile(machine, name, NVME_DRIVER)
  const entries = readFolder(folder).flatMap((controller) => readFolder(folder, controller))
  const blocks = entries
    .filter((entry) => /^nvme\d+(c\d+)?n\d+$/.test(entry))
    .map((entry) => entry.replace(/c\d+n/, 'n'))
  return blocks.filter((block) => fs.existsSync(path.join(machine.dev, block)))
}
