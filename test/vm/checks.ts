// Checks that run in the virtual machine, one after the other, and tell the test on the host how each went.
// No test runner in there, where it would cost seconds: a line of JSON for each check. The host
// imports the same file for the checks' names, so that each is a test before the machine has started.

import fs from 'node:fs'

export interface CheckResult {
  name: string
  milliseconds: number
  /** Stack of what was thrown; absent where all went well. */
  error?: string
}

const checks: [name: string, run: () => void | Promise<void>][] = []

/** Adds a check. It fails by throwing. */
export function check(name: string, run: () => void | Promise<void>): void {
  checks.push([name, run])
}

/** Names of the checks that have been added, in their order. */
export const checkNames = (): string[] => checks.map(([name]) => name)

/** In the machine, runs all of them, whatever fails, and prints a CheckResult for each; on the host, nothing. */
export async function runChecks(): Promise<void> {
  if (process.env.UNVME_VM === undefined) return
  for (const [name, run] of checks) {
    const started = performance.now()
    let error: string | undefined
    try {
      await run()
    } catch (thrown) {
      error = (thrown as Error).stack ?? String(thrown)
      const { cause } = thrown as Error
      if (cause) error += `\ncause: ${(cause as Error).stack}`
    }
    const milliseconds = Math.round(performance.now() - started)
    const result: CheckResult = error === undefined ? { name, milliseconds } : { name, milliseconds, error }
    fs.writeSync(1, `${JSON.stringify(result)}\n`)
  }
}

/** What this process holds of the system: leaks show as a difference. */
export function readHoldings(): { files: string[]; mappings: number; lockedKib: number } {
  const files = fs.readdirSync('/proc/self/fd').map((fd) => {
    try {
      return fs.readlinkSync(`/proc/self/fd/${fd}`)
    } catch {
      return ''
    }
  })
  const maps = fs.readFileSync('/proc/self/maps', 'utf8').split('\n')
  const status = fs.readFileSync('/proc/self/status', 'utf8')
  return {
    files: files.filter((file) => /vfio|iommu|memfd|eventfd/.test(file)).sort(),
    mappings: maps.filter((line) => /vfio|iommu|memfd/.test(line)).length,
    lockedKib: Number(/^VmLck:\s+(\d+)/m.exec(status)?.[1] ?? 0),
  }
}
