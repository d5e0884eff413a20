// A worker thread that is terminated, or calls process.exit(), with a device of its own open ends itself alone.

import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import test from 'ava'

const PROGRAM = fileURLToPath(new URL('./ended-workers-program.js', import.meta.url))

test('a process outlives workers that are terminated while they watch descriptors', async (t) => {
  const { stdout } = await promisify(execFile)(process.execPath, [PROGRAM, '12'])
  t.is(stdout.trim(), 'outlived 12')
})
