// Starts a server of namespaces in a process of its own, which can be killed.

import { fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import type { AnaState, NvmeTcpServerOptions, NvmeTcpServerStats } from '../../src/index.ts'

const PROGRAM = fileURLToPath(new URL('./nvme-tcp-server-process.js', import.meta.url))

export const SERVED_NQN = 'nqn.2024-01.org.example:served'

export interface ServerSetUp {
  readonly devices: readonly string[]
  readonly options: Omit<NvmeTcpServerOptions, 'signal'>
}

export type ServerCall =
  | { readonly do: 'ana'; readonly listener: number; readonly state: AnaState }
  | { readonly do: 'close-listener'; readonly listener: number }
  | { readonly do: 'reset' | 'stats' | 'close' }

export interface ServerChild {
  readonly ports: readonly number[]
  /** Has it done; what it says of itself afterwards. */
  tell(call: ServerCall): Promise<NvmeTcpServerStats>
  /** By SIGKILL. */
  kill(): Promise<void>
  /** It does not keep this process alive, and ends with it. */
  unref(): void
}

/** @param ports of the loopback, 0 for a free one */
export async function forkServer(
  devices: readonly string[],
  ports: readonly number[] = [0],
  options: ServerSetUp['options'] = {},
): Promise<ServerChild> {
  const listen = ports.map((port) => `127.0.0.1:${port}`)
  const setUp: ServerSetUp = { devices, options: { nqn: SERVED_NQN, listen, ...options } }
  const child = fork(PROGRAM, [JSON.stringify(setUp)], { execArgv: ['--enable-source-maps'] })
  const ended = once(child, 'exit')
  const answer = async <T>() => {
    const [said] = await Promise.race([
      once(child, 'message'),
      ended.then(([code]) => {
        throw new Error(`the server ended with ${code}`)
      }),
    ])
    return said as T
  }
  const taken = await answer<number[]>()
  return {
    ports: taken,
    tell(call) {
      const said = answer<NvmeTcpServerStats>()
      child.send(call)
      return said
    },
    async kill() {
      child.kill('SIGKILL')
      await ended
    },
    unref() {
      child.unref()
      child.channel?.unref()
    },
  }
}
