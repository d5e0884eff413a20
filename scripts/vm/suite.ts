// Modules of test/device as a command of the machine: one process, by the loop of test/support/device-loop.ts.
// Stacks are those of the compiled files, since reading source maps takes a fifth of all the time there
// (NODE_OPTIONS=--enable-source-maps has them read).

import fs from 'node:fs'
import path from 'node:path'

const tests = path.join(import.meta.dirname, '../../test')

/** The whole suite: its compiled modules, without those that have ava run them. */
export function suiteModules(): string[] {
  const folder = path.join(tests, 'device')
  return fs
    .readdirSync(folder)
    .filter((name) => name.endsWith('.js') && !name.endsWith('.test.js'))
    .map((name) => path.join(folder, name))
}

/**
 * The command that runs modules of the suite in the machine. Its status is 0 where all tests passed.
 * @param modules paths, absolute or from the working folder
 */
export function suiteCommand(modules: readonly string[]): string[] {
  return [process.execPath, path.join(tests, 'support/device-loop.js'), ...modules]
}
