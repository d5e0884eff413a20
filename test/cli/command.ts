// Runs the real `unvme` command as a process, for tests of its output and exit code.

import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'

/** The compiled command. */
export const MAIN = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url))

export interface Outcome {
  /** The exit code, or null where a signal ended it. */
  code: number | null
  stdout: string
  stderr: string
}

interface Options {
  env?: Record<string, string>
  input?: string | Buffer
}

/** Runs `unvme` with these words until it ends. Its input is empty unless given. */
export async function unvme(
  words: readonly string[],
  { env = {}, input = '' }: Options = {},
): Promise<Outcome> {
  const child = spawn(process.execPath, [MAIN, ...words], { env: cleanEnvironment(env) })
  const output = { stdout: '', stderr: '' }
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output.stdout += text
  })
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    output.stderr += text
  })
  // A command that does not read its input may be gone before all of it is written.
  child.stdin.on('error', () => {})
  child.stdin.end(input)
  const code = await new Promise<number | null>((resolve, reject) => {
    child.on('error', reject).on('close', resolve)
  })
  return { code, ...output }
}

/** This process's environment without what changes the output of the command. */
export function cleanEnvironment(more: Record<string, string> = {}): NodeJS.ProcessEnv {
  const { DEBUG: _, NO_COLOR: _1, FORCE_COLOR: _2, UNVME_LOG: _3, ...rest } = process.env
  return { ...rest, ...more }
}
