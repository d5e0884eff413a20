// Test files as a command of the machine: one process, with guest/ava.ts in ava's place.
// Trade-off: that is a bind mount over ava's entry in the machine, since a loader hook costs a thread in each
// process; it knows that ava's entry for `import` is a single file. Stacks are those of the compiled files:
// reading source maps takes a fifth of all the time there (NODE_OPTIONS=--enable-source-maps has them read).

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
  return {
    command: [process.execPath, entry, ...files],
    replace: { [entry]: path.join(import.meta.dirname, 'guest/ava.js') },
  }
}
