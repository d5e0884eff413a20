// A process that ends with devices open ends by itself.

import test from 'ava'
import { run } from '../support/run.ts'

test('a process that ends while it watches descriptors has its own exit code', async (t) => {
  const { code, stdout } = await run(new URL('./ended-watch-program.js', import.meta.url).pathname)
  t.deepEqual([code, stdout], [0, 'ends\n'])
})
