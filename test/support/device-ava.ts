// Has ava run the tests of a module of test/device.
// One after another, since a real device is opened by one process at a time; the run on real devices
// gives ava `--serial --concurrency=1`.

import test, { type ExecutionContext } from 'ava'
import { takeTests } from './device-suite.ts'
import { testUnless } from './left-out.ts'

/** Registers what the modules imported before have declared. @param end called after all of them */
export async function runByAva(end?: () => Promise<void>): Promise<void> {
  const tests = await takeTests()
  if (end !== undefined) test.after.always(end)
  for (const { title, lacks, run } of tests) {
    const runOne = async (t: ExecutionContext) => {
      await run(t.log)
      t.pass()
    }
    testUnless(lacks, title, runOne, { serial: true })
  }
}
