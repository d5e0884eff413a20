// Counts the system calls of a process's JavaScript with strace.

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import fs from 'node:fs'
import { newSocketPath } from './server.ts'

export interface Tracer {
  /** Detaches; resolves with the calls by name. */
  stop(): Promise<Map<string, number>>
}

/**
 * Counts the system calls of the thread that runs a process's JavaScript, from now on.
 * @param failed whether those that failed count
 */
export async function trace({ pid }: ChildProcess, { failed = true } = {}): Promise<Tracer> {
  const log = `${newSocketPath()}.strace`
  const strace = spawn('strace', ['-q', '-p', String(pid), '-o', log], {
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  const ended = once(strace, 'exit')
  const status = `/proc/${pid}/status`
  while (!/^TracerPid:\s*[1-9]/m.test(fs.readFileSync(status, 'utf8'))) {
    if (strace.exitCode !== null) throw new Error(`strace ended with ${strace.exitCode}`)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
  return {
    async stop() {
      strace.kill('SIGINT')
      await ended
      const calls = new Map<string, number>()
      for (const [, name, end] of fs.readFileSync(log, 'utf8').matchAll(/^(?:\d+ +)?(\w+)\((.*)$/gm)) {
        if (!failed && end!.includes(' = -1 ')) continue
        calls.set(name!, (calls.get(name!) ?? 0) + 1)
      }
      fs.rmSync(log)
      return calls
    },
  }
}
