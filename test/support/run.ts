// Runs a program with this Node and collects what it prints.
// Trade-off: text only, and no input: what tests of programs need.

import { execFile } from 'node:child_process'

export interface Outcome {
  code: number
  stdout: string
  stderr: string
}

/** Runs a compiled program until it ends, with more in its environment where that is given. */
export function run(
  path: string,
  words: readonly string[] = [],
  cwd?: string,
  environment: NodeJS.ProcessEnv = {},
): Promise<Outcome> {
  const { DEBUG: _, NO_COLOR: _1, FORCE_COLOR: _2, UNVME_LOG: _3, ...inherited } = process.env
  const env = { ...inherited, ...environment }
  return new Promise((resolve, reject) => {
    execFile(process.execPath, [path, ...words], { env, ...(cwd && { cwd }) }, (error, stdout, stderr) => {
      const code = error ? error.code : 0
      if (typeof code === 'number') resolve({ code, stdout, stderr })
      else reject(error)
    })
  })
}
