// Makes each check of a program that runs in the virtual machine a test on the host; one boot for all of them.

import { fileURLToPath } from 'node:url'
import test from 'ava'
import { type MachineOptions, runInMachine } from '../../scripts/vm/machine.ts'
import { findParts, type KernelChoice, partsRequired } from '../../scripts/vm/parts.ts'
import { type CheckResult, checkNames } from './checks.ts'

/**
 * True where the machine, or the kernel chosen, is missing, which it then says in one line.
 * @throws Error in CI, where tests must not be left out; but for those with a kernel that only `build-kernel` makes
 */
export function leftOut(what: string, choice: KernelChoice = {}): boolean {
  const found = findParts(choice)
  if (!('missing' in found)) return false
  if (partsRequired() && choice.kernel === undefined) throw new Error(found.missing)
  process.stdout.write(`left out, ${what} in the virtual machine: ${found.missing}\n`)
  return true
}

/**
 * Adds the tests. Import the program before, which adds the checks.
 * @param program its compiled file in this folder
 */
export function testInMachine(
  program: string,
  options: Omit<MachineOptions, 'command'> & KernelChoice,
  what = 'VFIO',
): void {
  const missing = leftOut(what, options)
  const results = new Map<string, CheckResult>()
  let trouble = ''

  test.before(async (t) => {
    if (missing) return
    t.timeout(((options.timeLimit ?? 300) + 300) * 1000)
    const file = fileURLToPath(new URL(program, import.meta.url))
    const command = [process.execPath, '--enable-source-maps', '--expose-gc', file]
    const { status, stdout, stderr, console } = await runInMachine({ ...options, command })
    for (const line of stdout.split('\n').filter(Boolean)) {
      const result: CheckResult = JSON.parse(line)
      results.set(result.name, result)
    }
    if (status !== 0) trouble = `the program ended with status ${status}\n${stderr}\n${console}`
  })

  for (const name of checkNames()) {
    const register = missing ? test.skip : test
    register(name, (t) => {
      const result = results.get(name)
      if (result?.error) t.fail(result.error)
      else if (result === undefined) t.fail(trouble || 'the check was not run')
      else t.pass()
    })
  }
}
