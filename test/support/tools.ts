// Programs of other projects that are peers of a test: Debian packages, which CI has all of.

import { execFile, spawnSync } from 'node:child_process'
import test, { type ExecutionContext } from 'ava'

/** True where a program is missing, which is said in one line; in CI that is a failure. */
export function withoutTool(name: string, debianPackage: string): boolean {
  const found = spawnSync('sh', ['-c', `command -v ${name}`], {
    env: { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` },
  })
  if (found.status === 0) return false
  if (process.env.CI) throw new Error(`${name} (${debianPackage}) is needed in CI`)
  process.stdout.write(`left out, what ${name} does: ${debianPackage} is not installed\n`)
  return true
}

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

/** Runs one to its end: its output, with what it says on stderr, and an error that has both where it fails. */
export function runTool(name: string, words: readonly string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    execFile(name, words, { maxBuffer: 2 ** 26, timeout: 90_000 }, (error, stdout, stderr) => {
      if (error === null) resolve(stdout + stderr)
      else
        reject(
          new Error(`${name} ${words.join(' ')}: ${error.message}\n${stdout}${stderr}`, { cause: error }),
        )
    })
  })
}
