// A folder of its own for a test's files.
// Removed when the test's file ends, so that a failure's files can be looked at by a longer run only.

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import test from 'ava'

/** Makes the folder; returns what gives the path of a file in it. */
export function testFolder(): (name: string) => string {
  const folder = mkdtempSync(path.join(tmpdir(), 'unvme-test-'))
  test.after.always(() => rmSync(folder, { recursive: true, force: true }))
  return (name) => path.join(folder, name)
}
