// Programs of other projects that are peers of a test: Debian packages, which CI has all of. Without ava, since what runs
// in the virtual machine imports it, too.

import { execFile, spawnSync } from 'node:child_process'

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
