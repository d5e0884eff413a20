// `unvme list`: every NVMe device of the machine, a line for each namespace that can be seen.
// Trade-off: nothing is opened, so that listing disturbs nobody; of what VFIO has, only the PCI facts are known.

import { type KernelNamespace, listDevices, type NvmeDevice, thisMachine } from '../../setup/index.ts'
import { defineCommand, outputOption, sysrootOption } from '../define.ts'
import { bytesText, print, printJson, table } from '../output.ts'
import { groupText } from './setup-show.ts'

interface Row {
  device: NvmeDevice
  /** Null where no namespace can be seen. */
  namespace: KernelNamespace | null
}

export const list = defineCommand({
  name: 'list',
  group: 'System',
  summary: 'List every NVMe device with its driver, IOMMU group, model and size',
  details: `A device that VFIO has shows its model and sizes only when it is opened (unvme info): here they are \
'-', null in JSON.`,
  arguments: {},
  options: { output: outputOption(), sysroot: sysrootOption() },
  ignored: ['-v, --verbose'],
  examples: [
    ['list', 'a table of all devices'],
    ['list -o json', 'the same for programs, with the key names of nvme-cli'],
  ],
  run({ options }) {
    const rows = listDevices(thisMachine(options.sysroot)).flatMap((device): Row[] =>
      device.namespaces.length === 0
        ? [{ device, namespace: null }]
        : device.namespaces.map((namespace) => ({ device, namespace })),
    )
    if (options.output === 'json') printJson({ Devices: rows.map(rowJson) })
    else print(rows.length === 0 ? 'This machine has no NVMe device.' : table(columns, rows))
  },
})

const columns = [
  {
    title: 'Device',
    text: ({ device, namespace }: Row) => `${device.name}${namespace ? `/${namespace.nsid}` : ''}`,
  },
  { title: 'Driver', text: ({ device }: Row) => device.driver ?? '-' },
  { title: 'Group', text: ({ device }: Row) => groupText(device), right: true },
  { title: 'Node', text: ({ namespace }: Row) => (namespace ? `/dev/${namespace.block}` : '-') },
  { title: 'SN', text: ({ device }: Row) => device.serial ?? '-' },
  { title: 'Model', text: ({ device }: Row) => device.model ?? '-' },
  { title: 'Size', text: ({ namespace }: Row) => (namespace ? bytesText(namespace.size) : '-'), right: true },
  {
    title: 'Format',
    text: ({ namespace }: Row) => (namespace ? `${namespace.lbaSize} B` : '-'),
    right: true,
  },
  { title: 'FW Rev', text: ({ device }: Row) => device.firmware ?? '-' },
]

/** nvme-cli's keys in its order; Address, Driver and IOMMUGroup are ours. */
function rowJson({ device, namespace }: Row) {
  return {
    NameSpace: namespace?.nsid ?? null,
    DevicePath: namespace ? `/dev/${namespace.block}` : null,
    GenericPath: namespace?.generic ? `/dev/${namespace.generic}` : null,
    Firmware: device.firmware,
    ModelNumber: device.model,
    SerialNumber: device.serial,
    UsedBytes: namespace?.used ?? null,
    MaximumLBA: namespace ? namespace.size / namespace.lbaSize : null,
    PhysicalSize: namespace?.size ?? null,
    SectorSize: namespace?.lbaSize ?? null,
    Address: device.name,
    Driver: device.driver,
    IOMMUGroup: device.iommuGroup,
  }
}
