// scripts/vm/run [options] -- command [arguments]: runs a command in the virtual machine.

import {
  checkParts,
  endWith,
  machineOptions,
  machineUsage,
  parse,
  runAndReport,
  UsageError,
} from './options.ts'
import { shapeNames, shapes } from './shapes.ts'

const usage = `usage: scripts/vm/run [options] -- command [arguments]
Runs a command in a virtual machine that has VFIO, an IOMMU and NVMe controllers.

${machineUsage}  --shapes            list the shapes and end
  --check             say what is missing, if anything, and end

In the machine, "vm-host unplug hot" and "vm-host plug hot" take a controller away and bring it back.
`

await endWith('scripts/vm/run', async () => {
  const { values, positionals } = parse()
  if (values.help) {
    process.stdout.write(usage)
    return 0
  }
  if (values.shapes) {
    for (const name of shapeNames) {
      process.stdout.write(`${name.padEnd(10)} ${shapes[name].address}  ${shapes[name].about}\n`)
    }
    return 0
  }
  const ended = checkParts(values)
  if (ended !== undefined) return ended
  if (positionals.length === 0) throw new UsageError('no command given')
  return runAndReport(values, { ...machineOptions(values), command: positionals })
})
