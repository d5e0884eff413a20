// Starts a target in a process of its own, which can be killed.

import { fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import type { TargetLimits } from './tcp-target.ts'

const PROGRAM = fileURLToPath(new URL('./tcp-target-process.js', import.meta.url))

export interface TargetChild {
  readonly port: number
  /** By SIGKILL. */
  kill(): Promise<void>
  /** Stops it, and lets it go on. */
  signal(signal: NodeJS.Signals): void
}

/** @param port 0 for a free one */
export async function forkTarget(device: string, port = 0, limits: TargetLimits = {}): Promise<TargetChild> {
  const child = fork(PROGRAM, [device, String(port), JSON.stringify(limits)], {
    execArgv: ['--enable-source-maps'],
  })
  const ended = once(child, 'exit')
  const [taken] = (await Promise.race([
    once(child, 'message'),
    ended.then(([code]) => {
      throw new Error(`the target ended with ${code}`)
    }),
  ])) as [number]
  child.unref()
  child.channel?.unref()
  return {
    port: taken,
    async kill() {
      child.ref()
      child.kill('SIGKILL')
      await ended
    },
    signal: (signal) => void child.kill(signal),
  }
}
