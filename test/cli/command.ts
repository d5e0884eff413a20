// Runs the real `unvme` command as a process, for tests of its output and exit code.

import { type ChildProcess, spawn } from 'node:child_process'
import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
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
  /** Descriptors in place of pipes. */
  stdin?: number
  stdout?: number
}

/** Runs `unvme` with these words until it ends. Its input is empty unless given. */
export async function unvme(words: readonly string[], options: Options = {}): Promise<Outcome> {
  return start(words, options).ended
}

export interface Started {
  child: ChildProcess
  ended: Promise<Outcome>
}

/** Starts `unvme`, without a terminal: the one of whoever runs the tests is not asked questions. */
export function start(
  words: readonly string[],
  { env = {}, input = '', stdin, stdout }: Options = {},
): Started {
  const child = spawn(process.execPath, [MAIN, ...words], {
    env: cleanEnvironment(env),
    stdio: [stdin ?? 'pipe', stdout ?? 'pipe', 'pipe'],
    detached: true,
  })
  const output = { stdout: '', stderr: '' }
  child.stdout?.setEncoding('utf8').on('data', (text: string) => {
    output.stdout += text
  })
  child.stderr!.setEncoding('utf8').on('data', (text: string) => {
    output.stderr += text
  })
  // A command that does not read its input may be gone before all of it is written.
  child.stdin?.on('error', () => {})
  child.stdin?.end(input)
  const ended = new Promise<number | null>((resolve, reject) => {
    child.on('error', reject).on('close', resolve)
  }).then((code) => ({ code, ...output }))
  return { child, ended }
}

/** Waits until a command that was started does its work: it has opened one of these files, or a software controller. */
export async function working({ child, ended }: Started, ...files: string[]): Promise<void> {
  let over = false
  void ended.then(() => {
    over = true
  })
  const isOpen = () =>
    openFiles(child.pid!).some((file) => file.startsWith('/memfd:') || files.includes(file))
  while (!over && !isOpen()) await sleep(10)
}

function openFiles(pid: number): string[] {
  const folder = `/proc/${pid}/fd`
  try {
    return readdirSync(folder).flatMap((fd) => {
      try {
        return readlinkSync(`${folder}/${fd}`)
      } catch {
        return []
      }
    })
  } catch {
    return []
  }
}

/** A file of /proc about a process; empty once it is gone. */
export function readProc(pid: number, file: string): string {
  try {
    return readFileSync(`/proc/${pid}/${file}`, 'utf8')
  } catch {
    return ''
  }
}

/** This process's environment without what changes the output of the command. */
export function cleanEnvironment(more: Record<string, string> = {}): NodeJS.ProcessEnv {
  const { DEBUG: _, NO_COLOR: _1, FORCE_COLOR: _2, UNVME_LOG: _3, ...rest } = process.env
  return { ...rest, ...more }
}
