// Has ava run the tests of a module of test/device.
// One after another, since a real device is opened by one process at a time; the run on real devices
// gives ava `--serial --concurrency=1`.

import test from 'ava'
import { takeTests } from './device-suite.ts'

/** Registers what the modules imported before have declared. */
export async function runByAva(): Promise<void> {
  for (const { title, run } of await takeTests()) {
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
