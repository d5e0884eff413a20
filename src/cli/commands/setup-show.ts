// What `unvme setup show` prints: the devices, and the checks of the system with how to mend each.
// Trade-off: everything that is found stands in one line each, however long: it is looked for, not skimmed.

import { isVfioDriver } from '../../../lib/pci/sysfs.ts'
import { type Check, checkSystem, groupReasons, type Machine, type NvmeDevice } from '../../setup/index.ts'
import { bad, bytesText, good, note, print, printJson, table } from '../output.ts'

export function showDevices(
  machine: Machine,
  devices: readonly NvmeDevice[],
  output: 'normal' | 'json',
): void {
  const checks = checkSystem(machine)
  if (output === 'json') {
    printJson({ Devices: devices.map(deviceJson), Checks: checks.map(checkJson) })
    return
  }
  if (devices.length === 0) print('This machine has no NVMe device.')
  else print(table(columns, devices))
  print()
  for (const { state, finding, mend } of checks) {
    print(`${state === 'ok' ? good('ok  ') : bad(state.padEnd(4))}  ${finding}${mend ? `: ${mend}` : ''}`)
  }
  for (const device of devices) {
    // Others that are free would be bound with it.
    const free = isVfioDriver(device.driver) ? [] : devices.filter(({ uses }) => uses.length === 0)
    for (const reason of groupReasons(device, [device, ...free]))
      print(`${bad('warn')}  ${device.name}: ${reason}`)
  }
  if (process.getuid?.() !== 0) note('Not root: what processes of other users have open is not seen.')
}

const columns = [
  { title: 'Device', text: ({ name }: NvmeDevice) => name },
  { title: 'Driver', text: ({ driver }: NvmeDevice) => driver ?? '-' },
  { title: 'Group', text: groupText, right: true },
  { title: 'Id', text: idText },
  { title: 'Model', text: ({ model }: NvmeDevice) => model ?? '-' },
  { title: 'Block devices', text: blocksText },
  { title: 'Used', text: ({ uses }: NvmeDevice) => uses.map((use) => use.text).join('; ') || 'no' },
]

export function groupText({ iommuGroup, noIommuGroup }: NvmeDevice): string {
  if (iommuGroup !== null) return String(iommuGroup)
  return noIommuGroup === null ? '-' : `noiommu-${noIommuGroup}`
}

function idText({ vendor, device }: NvmeDevice): string {
  return `${vendor.toString(16).padStart(4, '0')}:${device.toString(16).padStart(4, '0')}`
}

function blocksText({ namespaces }: NvmeDevice): string {
  return namespaces.map(({ block, size }) => `${block} (${bytesText(size)})`).join(', ') || '-'
}

function deviceJson(device: NvmeDevice) {
  return {
    Address: device.name,
    Driver: device.driver,
    DriverOverride: device.driverOverride,
    IOMMUGroup: device.iommuGroup,
    GroupMembers: device.members.map(({ name, driver }) => ({ Address: name, Driver: driver })),
    VendorID: device.vendor,
    DeviceID: device.device,
    Controller: device.controller,
    ModelNumber: device.model,
    SerialNumber: device.serial,
    Firmware: device.firmware,
    Namespaces: device.namespaces.map(({ nsid, block, size, lbaSize }) => ({
      NameSpace: nsid,
      DevicePath: `/dev/${block}`,
      PhysicalSize: size,
      SectorSize: lbaSize,
    })),
    UsedBy: device.uses.map(({ text }) => text),
  }
}

function checkJson({ name, state, finding, mend }: Check) {
  return { Name: name, State: state, Finding: finding, Mend: mend }
}
