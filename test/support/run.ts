// Runs a program with this Node and collects what it prints.
// Text only, and no input: what tests of programs need.

import { spawn } from 'node:child_process'

interface Outcome {
  code: number
  stdout: string
  stderr: string
}

/**
 * Runs a compiled program until it ends, with more in its environment where that is given. It has no terminal: the one
 * of whoever runs the tests is not asked questions.
 */
export function run(
  path: string,
  words: readonly string[] = [],
  cwd?: string,
  environment: NodeJS.ProcessEnv = {},
): Promise<Outcome> {
  const { DEBUG: _, NO_COLOR: _1, FORCE_COLOR: _2, UNVME_LOG: _3, ...inherited } = process.env
  const env = { ...inherited, ...environment }
  const child = spawn(process.execPath, [path, ...words], {
    env,
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
    ...(cwd && { cwd }),
  })
  let [stdout, stderr] = ['', '']
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text
  })
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text
  })
  return new Promise((resolve, reject) => {
    child.on('error', reject).on('close', (code, signal) => {
      if (code !== null) resolve({ code, stdout, stderr })
      else reject(new Error(`${path} was ended by ${signal}\n${stdout}${stderr}`))
    })
  })
}
