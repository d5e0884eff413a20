// Has ava run the tests of a module of test/device.
// One after another, since a real device is opened by one process at a time; the run on real devices
// gives ava `--serial --concurrency=1`.

import test from 'ava'
import { takeTests } from './device-suite.ts'

/** Registers what the modules imported before have declared. @param end called after all of them */
export async function runByAva(end?: () => Promise<void>): Promise<void> {
  const tests = await takeTests()
  if (end !== undefined) test.after.always(end)
  for (const { title, run } of tests) {
    if (run === null) {
      test.skip(title, () => {})
    } else {
      test.serial(title, async (t) => {
        await run(t.log)
        t.pass()
      })
    }
  }
}
