// Tests that are left out where something is missing: the one place that skips any, with the reason in the title.

import test, { type ExecutionContext } from 'ava'
import { withoutTool } from './tools.ts'

/** Programs that a test needs, by name, with the Debian package of each. */
export type Tools = Readonly<Record<string, string>>

export interface How {
  /** No other test of its file at the same time. */
  readonly serial?: boolean
}

type Run = (t: ExecutionContext) => void | Promise<void>

/** A test that needs programs of other projects: left out where one is missing, and its title says which. */
export function testWith(title: string, tools: Tools, run: Run, how: How = {}): void {
  const missing = Object.keys(tools).filter((name) => withoutTool(name, tools[name]!))
  testUnless(missing.length > 0 && `${missing.join(', ')} not installed`, title, run, how)
}

/** A test that is left out for a reason, which its title says. @param reason false or null where it can run */
export function testUnless(
  reason: string | false | null,
  title: string,
  run: Run,
  { serial = false }: How = {},
): void {
  const register = serial ? test.serial : test
  if (reason === false || reason === null) register(title, run)
  else leaveOut(reason, title)
}

/** In place of a test, or of all of a file's, that can't run. */
export function leaveOut(reason: string, title: string): void {
  test.skip(`${title} (left out: ${reason})`, () => {})
}
