// Makes each check of a program that runs in the virtual machine a test on the host; one boot for all of them.

import fs from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import test, { type ExecutionContext } from 'ava'
import { type MachineOptions, runInMachine } from '../../scripts/vm/machine.ts'
import { findParts, type KernelChoice, partsRequired } from '../../scripts/vm/parts.ts'
import { type How, testUnless } from '../support/left-out.ts'
import { type CheckResult, checkNames } from './checks.ts'

/** What a test needs of the machine; `module` is a file of the kernel's modules that a cache of before may lack. */
type Needs = KernelChoice & { readonly module?: string }

/**
 * What is missing of the machine, or the kernel chosen, which it then says in one line; null where nothing is.
 * @throws Error in CI, where tests must not be left out; but for those with a kernel that only `build-kernel` makes
 */
export function leftOut(what: string, needs: Needs = {}): string | null {
  const missing = missingOf(needs)
  if (missing === null) return null
  if (partsRequired() && needs.kernel === undefined) throw new Error(missing)
  process.stdout.write(`left out, ${what} in the virtual machine: ${missing}\n`)
  return missing
}

function missingOf({ module, ...choice }: Needs): string | null {
  const found = findParts(choice)
  if ('missing' in found) return found.missing
  const { modules = '' } = found.parts
  if (module === undefined || fs.existsSync(path.join(modules, module))) return null
  return `the kernel in the cache has no ${module}: run scripts/vm/setup again`
}

/** As `leftOut`, for a machine with a network card. */
export function leftOutWithoutNetwork(what: string): string | null {
  return leftOut(what, { module: 'kernel/drivers/net/virtio_net.ko' })
}

/** As `leftOut`, for what takes minutes: also where it is not asked for by UNVME_TEST_SUITE=1, nor by CI. */
export function leftOutUnlessAsked(what: string, needs?: Needs): string | null {
  if (process.env.UNVME_TEST_SUITE || process.env.CI) return leftOut(what, needs)
  process.stdout.write(`left out, ${what} in the virtual machine: set UNVME_TEST_SUITE=1\n`)
  return 'set UNVME_TEST_SUITE=1'
}

type Register = (title: string, run: (t: ExecutionContext) => void | Promise<void>) => void

/** Registers tests, or where something is missing leaves them out, with what is missing in each title. */
export function registerUnless(missing: string | null, how: How = {}): Register {
  return (title, run) => testUnless(missing, title, run, how)
}

/**
 * Adds the tests. Import the program before, which adds the checks.
 * @param program its compiled file in this folder
 * @param left `leftOutUnlessAsked` for a program that takes minutes
 */
export function testInMachine(
  program: string,
  { module, ...options }: Omit<MachineOptions, 'command'> & Needs,
  what = 'VFIO',
  left = leftOut,
): void {
  const missing = left(what, { ...options, ...(module !== undefined && { module }) })
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

  const register = registerUnless(missing)
  for (const name of checkNames()) {
    register(name, (t) => {
      const result = results.get(name)
      if (result?.error) t.fail(result.error)
      else if (result === undefined) t.fail(trouble || 'the check was not run')
      else t.pass()
    })
  }
}
