// `unvme list`: every NVMe device of the machine.

import { defineCommand, outputOption } from '../define.ts'
import { print, printJson } from '../output.ts'

export const list = defineCommand({
  name: 'list',
  group: 'System',
  summary: 'List every NVMe device with its driver, IOMMU group, model and size',
  arguments: {},
  options: { output: outputOption() },
  examples: [
    ['list', 'a table of all devices'],
    ['list -o json', 'the same for programs, with the key names of nvme-cli'],
  ],
  run({ options }) {
    if (options.output === 'json') printJson({ Devices: [] })
    else print('')
  },
})
