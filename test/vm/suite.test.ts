// The suite of test/device on every controller shape of the machine, and once as a user without rights.

import fs from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import test, { type ExecutionContext } from 'ava'
import { type MachineOptions, runInMachine } from '../../scripts/vm/machine.ts'
import { findParts } from '../../scripts/vm/parts.ts'
import { shapeNames } from '../../scripts/vm/shapes.ts'
import { suiteCommand } from '../../scripts/vm/suite.ts'

const found = findParts({})
// Several minutes a run under emulation: asked for by a variable, as `scripts/vm/test --shape all` is by hand.
const reason =
  'missing' in found ? found.missing : process.env.UNVME_TEST_SUITE ? '' : 'set UNVME_TEST_SUITE=1'
if (reason) process.stdout.write(`left out, the suite in the virtual machine: ${reason}\n`)
const register = reason ? test.serial.skip : test.serial

const folder = fileURLToPath(new URL('../device/', import.meta.url))
const suite = fs
  .readdirSync(folder)
  .filter((name) => name.endsWith('.test.js'))
  .map((name) => path.join(folder, name))

const LIMIT_S = 1800

/** Runs the machine: every test in it has passed, and some have. */
async function passes(t: ExecutionContext, options: MachineOptions): Promise<void> {
  t.timeout((LIMIT_S + 60) * 1000)
  const { status, stdout, stderr } = await runInMachine({ timeLimit: LIMIT_S, ...options })
  const passed = [...stdout.matchAll(/^ {2}(\d+) passed/gm)].reduce((sum, [, n]) => sum + Number(n), 0)
  const failures = stdout.split('\n').filter((line) => /✘|failed/.test(line))
  t.is(status, 0, `${failures.join('\n')}\n${stdout.slice(-4000)}\n${stderr.slice(-2000)}`)
  t.deepEqual(failures, [])
  t.true(passed >= suite.length, `${passed} passed`)
  t.log(`${passed} tests passed in the machine`)
}

register('the suite passes on every controller shape', async (t) => {
  await passes(t, { shapes: shapeNames, ...suiteCommand(suite) })
})

register('no root: handed the group, a user passes the suite', async (t) => {
  const { command, replace } = suiteCommand(suite)
  const main = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url))
  // Pinning memory counts against the limit of a user, as setup says.
  const script = `"$0" "${main}" setup --user nobody 00:04.0 >&2 && ulimit -l 262144 &&
    exec setpriv --reuid=65534 --regid=65534 --clear-groups --bounding-set=-all --inh-caps=-all "$@"`
  await passes(t, {
    shapes: ['lba512'],
    replace,
    command: ['sh', '-c', script, process.execPath, ...command],
  })
})
