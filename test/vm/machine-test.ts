// Makes each check of a program that runs in the virtual machine a test on the host; one boot for all of them.

import fs from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import test, { type ExecutionContext } from 'ava'
import { type MachineOptions, runInMachine } from '../../scripts/vm/machine.ts'
import { findParts, type KernelChoice, partsRequired } from '../../scripts/vm/parts.ts'
import { type CheckResult, checkNames } from './checks.ts'

/**
 * What is missing of the machine, or the kernel chosen, which it then says in one line; null where nothing is.
 * @throws Error in CI, where tests must not be left out; but for those with a kernel that only `build-kernel` makes
 */
export function leftOut(what: string, choice: KernelChoice = {}): string | null {
  const found = findParts(choice)
  if (!('missing' in found)) return null
  if (partsRequired() && choice.kernel === undefined) throw new Error(found.missing)
  process.stdout.write(`left out, ${what} in the virtual machine: ${found.missing}\n`)
  return found.missing
}

/** As `leftOut`, for a machine with a network card: a cache of before does not have its modules. */
export function leftOutWithoutNetwork(what: string): string | null {
  const missing = leftOut(what)
  const found = findParts()
  if (missing !== null || 'missing' in found) return missing
  const { modules } = found.parts
  const card = 'kernel/drivers/net/virtio_net.ko'
  if (modules !== undefined && fs.existsSync(path.join(modules, card))) return null
  const line = `the kernel in the cache has no ${card}: run scripts/vm/setup again`
  if (partsRequired()) throw new Error(line)
  process.stdout.write(`left out, ${what} in the virtual machine: ${line}\n`)
  return line
}

/** As `leftOut`, for what takes minutes: also where it is not asked for by UNVME_TEST_SUITE=1, nor by CI. */
export function leftOutUnlessAsked(what: string): string | null {
  if (process.env.UNVME_TEST_SUITE || process.env.CI) return leftOut(what)
  process.stdout.write(`left out, ${what} in the virtual machine: set UNVME_TEST_SUITE=1\n`)
  return 'set UNVME_TEST_SUITE=1'
}

type Register = (title: string, run: (t: ExecutionContext) => void | Promise<void>) => void

/** `register`, or where something is missing `skip`, with what is missing in each title. */
export function registerUnless(missing: string | null, register: Register, skip: Register): Register {
  return missing === null ? register : (title, run) => skip(`${title} (left out: ${missing})`, run)
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
    if (missing !== null) return
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

  const register = registerUnless(missing, test, test.skip)
  for (const name of checkNames()) {
    register(name, (t) => {
      const result = results.get(name)
      if (result?.error) t.fail(result.error)
      else if (result === undefined) t.fail(trouble || 'the check was not run')
      else t.pass()
    })
  }
}
