// The suite of test/device on devices of the kernel's driver, by io_uring and, on one of them, by ioctl.

import { runInMachine } from '../../scripts/vm/machine.ts'
import type { ShapeName } from '../../scripts/vm/shapes.ts'
import { suiteCommand, suiteModules } from '../../scripts/vm/suite.ts'
import { leftOut, registerUnless } from './machine-test.ts'

const register = registerUnless(leftOut("the suite on the kernel's devices"))
const LIMIT_S = 900

// Whatever the kernel calls them: every namespace, and the first one by ioctl as well.
const script =
  'set -- "$@" && first=$(ls /dev/nvme*n* | head -n 1) && ' +
  'UNVME_TEST_ADDRESS="$(echo /dev/nvme*n*)" "$@" && UNVME_TEST_ADDRESS="$first?io=ioctl" exec "$@"'

// The one that differs most; more of them where all is asked for.
const names: ShapeName[] = process.env.UNVME_TEST_SUITE
  ? ['lba4096', 'multi', 'mdts16k', 'metadata']
  : ['metadata']

register(`the suite passes on ${names.join(', ')}, by io_uring, and by ioctl`, async (t) => {
  t.timeout((LIMIT_S + 60) * 1000)
  const { status, stdout, stderr, seconds } = await runInMachine({
    shapes: names,
    driver: 'nvme',
    timeLimit: LIMIT_S,
    command: ['sh', '-c', script, 'sh', ...suiteCommand(suiteModules())],
  })
  const failures = stdout.split('\n').filter((line) => /✘|failed/.test(line))
  t.is(status, 0, `${failures.join('\n')}\n${stdout.slice(-4000)}\n${stderr.slice(-2000)}`)
  t.deepEqual(failures, [])
  const passed = stdout.split('\n').filter((line) => line.includes('✔'))
  // Each, and one of them by ioctl.
  t.true(passed.length >= (names.length + 1) * 30, `${passed.length} passed`)
  t.true(passed.some((line) => line.includes('?io=ioctl')))
  t.log(`${passed.length} tests passed in the machine, ${seconds.toFixed(0)} s`)
})
