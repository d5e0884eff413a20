// scripts/vm/test [options] [modules]: runs the suite of test/device in the virtual machine, one boot for all of it,
// on the controllers of the shapes given.

import { checkParts, endWith, machineOptions, machineUsage, parse, runAndReport } from './options.ts'
import { suiteCommand, suiteModules } from './suite.ts'

const usage = `usage: scripts/vm/test [options] [dist/test/device/….js …]
Runs modules of test/device in the virtual machine, by default all, with UNVME_TEST_ADDRESS naming the
namespaces of the shapes given (default lba512). The time limit is 1800 s here.

${machineUsage}`

await endWith('scripts/vm/test', async () => {
  const { values, positionals } = parse()
  if (values.help) {
    process.stdout.write(usage)
    return 0
  }
  const ended = checkParts(values)
  if (ended !== undefined) return ended
  const machine = machineOptions({ 'time-limit': '1800', ...values })
  if (machine.shapes.length === 0) machine.shapes = ['lba512']
  const command = suiteCommand(positionals.length > 0 ? positionals : suiteModules())
  return runAndReport(values, { ...machine, command })
})
