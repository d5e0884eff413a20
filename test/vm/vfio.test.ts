// VFIO on a real kernel, in the virtual machine: each check of vfio-checks.ts is a test here.
import { fileURLToPath } from 'node:url'
import test from 'ava'
import { runInMachine } from '../../scripts/vm/machine.ts'
import { findParts } from '../../scripts/vm/parts.ts'
import type { CheckResult } from './checks.ts'

const found = findParts()
if ('missing' in found) {
  test('VFIO in the virtual machine', (t) => {
    t.log(`left out: ${found.missing}`)
    t.pass()
  })
} else {
  const program = fileURLToPath(new URL('vfio-checks.js', import.meta.url))
  const { status, stdout, stderr } = await runInMachine({
    command: [process.execPath, '--expose-gc', program],
    shapes: ['lba512', 'group'],
  })
  const lines = stdout.split('\n').filter(Boolean)
  for (const { name, error } of lines.map((line): CheckResult => JSON.parse(line))) {
    test(name, (t) => {
      if (error === undefined) t.pass()
      else t.fail(error)
    })
  }
  test('the machine ran all checks', (t) => {
    t.is(status, 0, stderr)
    t.true(lines.length > 0)
  })
}
