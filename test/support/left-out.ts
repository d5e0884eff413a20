// Tests that are left out where something is missing, which their titles say.

import test, { type ExecutionContext } from 'ava'
import { withoutTool } from './tools.ts'

/** Programs that a test needs, by name, with the Debian package of each. */
export type Tools = Readonly<Record<string, string>>

interface How {
  /** No other test of its file at the same time. */
  readonly serial?: boolean
}

type Run = (t: ExecutionContext) => void | Promise<void>

/** A test that needs programs of other projects: left out where one is missing, and its title says which. */
export function testWith(title: string, tools: Tools, run: Run, how: How = {}): void {
  const missing = Object.keys(tools).filter((name) => withoutTool(name, tools[name]!))
  testUnless(missing.length > 0 && `${missing.join(', ')} not installed`, title, run, how)
}

/** A test that is left out for a reason, which its title says. @param reason false where it can run */
export function testUnless(
  reason: string | false,
  title: string,
  run: Run,
  { serial = false }: How = {},
): void {
  const register = serial ? test.serial : test
  if (reason === false) register(title, run)
  else register.skip(`${title} (left out: ${reason})`, run)
}
