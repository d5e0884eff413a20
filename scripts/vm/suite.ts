// Test files as a command of the machine: each in a process of its own, with guest/ava.ts in ava's place.
// Trade-off: that is a bind mount over ava's entry in the machine, since a loader hook costs a thread in each
// process; it knows that ava's entry for `import` is a single file.

import path from 'node:path'
import { fileURLToPath } from 'node:url'
import type { MachineOptions } from './machine.ts'

/**
 * The options that make a machine run compiled test files. Its status is 0 where all passed.
 * @param files paths, absolute or from the working folder
 */
export function suiteCommand(
  files: readonly string[],
): Required<Pick<MachineOptions, 'command' | 'replace'>> {
  const entry = fileURLToPath(import.meta.resolve('ava'))
  const script =
    'status=0; for file; do echo "$file"; "$node" --enable-source-maps "$entry" "$file" || status=1; done; exit $status'
  return {
    command: ['env', `node=${process.execPath}`, `entry=${entry}`, 'sh', '-c', script, 'sh', ...files],
    replace: { [entry]: path.join(import.meta.dirname, 'guest/ava.js') },
  }
}
