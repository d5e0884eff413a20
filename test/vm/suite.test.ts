// The suite of test/device as a user without rights: in CI on those controllers that differ for it; where
// UNVME_TEST_SUITE=1 asks for it on every shape that keeps data, and as root, too.
// Minutes under emulation; in two machines side by side, since each has one processor.

import { fileURLToPath } from 'node:url'
import type { ExecutionContext } from 'ava'
import { type MachineOptions, runInMachine } from '../../scripts/vm/machine.ts'
import { type ShapeName, shapeNames, shapes, suiteAddresses } from '../../scripts/vm/shapes.ts'
import { suiteCommand, suiteModules } from '../../scripts/vm/suite.ts'
import { leftOutUnlessAsked, registerUnless } from './machine-test.ts'

const asked = Boolean(process.env.UNVME_TEST_SUITE)
const register = registerUnless(leftOutUnlessAsked('the suite'))

const LIMIT_S = 1800

/** Runs the machine: every test in it has passed, and on each namespace. */
async function passes(t: ExecutionContext, options: MachineOptions): Promise<void> {
  t.timeout((LIMIT_S + 60) * 1000)
  const { status, stdout, stderr, seconds } = await runInMachine({ timeLimit: LIMIT_S, ...options })
  const failures = stdout.split('\n').filter((line) => /✘|failed/.test(line))
  t.is(status, 0, `${failures.join('\n')}\n${stdout.slice(-4000)}\n${stderr.slice(-2000)}`)
  t.deepEqual(failures, [])
  const lines = stdout.split('\n').filter((line) => line.includes('✔'))
  for (const address of suiteAddresses(options.shapes ?? [])) {
    const passed = lines.filter((line) => line.includes(`${address}: `)).length
    t.true(passed >= 30, `${address}: ${passed} passed`)
  }
  t.log(`${lines.length} tests passed in the machine, ${seconds.toFixed(0)} s`)
}

const keeping = shapeNames.filter((name) => !('null' in shapes[name]))
const command = suiteCommand(suiteModules())
const main = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url))

// The rest differ in where they are on the bus, or have LBAs as one of these: both sizes are multi's.
const DIFFERENT: readonly ShapeName[][] = [['multi'], ['mdts16k', 'metadata']]
const everyOne = [0, 1].map((half) => keeping.filter((_, i) => i % 2 === half))

for (const names of asked ? everyOne : DIFFERENT) {
  const devices = names.map((name) => shapes[name].address).join(' ')
  // Pinned memory counts against the limit of a user, as setup says.
  const script = `"$0" "${main}" setup --user nobody ${devices} >&2 && ulimit -l 262144 &&
    exec setpriv --reuid=65534 --regid=65534 --clear-groups --bounding-set=-all --inh-caps=-all "$@"`

  register(`without root, handed the groups, the suite passes on ${names.join(', ')}`, async (t) => {
    await passes(t, { shapes: names, command: ['sh', '-c', script, process.execPath, ...command] })
  })

  if (!asked) continue
  register(`as root, the suite passes on ${names.join(', ')}`, async (t) => {
    await passes(t, { shapes: names, command })
  })
}
