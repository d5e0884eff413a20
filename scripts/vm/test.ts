// scripts/vm/test [options] [files]: runs compiled test files in the virtual machine, one boot for all of them,
// on the controllers of the shapes given.
// Trade-off: guest/ava.ts stands in for ava, which takes many seconds to load under emulation.

import fs from 'node:fs'
import { checkParts, endWith, machineOptions, machineUsage, parse, runAndReport } from './options.ts'
import { suiteCommand } from './suite.ts'

const usage = `usage: scripts/vm/test [options] [dist/test/….test.js …]
Runs test files in the virtual machine, by default the suite in test/device, with UNVME_TEST_ADDRESS naming
the namespaces of the shapes given (default lba512). The time limit is 1800 s here.

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
  const suite = 'dist/test/device'
  const files =
    positionals.length > 0
      ? positionals
      : fs.readdirSync(suite).flatMap((name) => (name.endsWith('.test.js') ? [`${suite}/${name}`] : []))
  return runAndReport(values, { ...machine, ...suiteCommand(files) })
})
