// Starts vfio-user servers in processes of their own, and stops them when the test's file ends.

import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import type { ServeOptions } from '../../src/index.ts'

const PROGRAM = fileURLToPath(new URL('./server-process.js', import.meta.url))

/** What a server in a process of its own serves: a software controller, or `namespaces`, by their addresses. */
export interface ServedOptions extends Omit<ServeOptions, 'device' | 'signal'> {
  readonly device?: string
  readonly namespaces?: readonly string[]
}

export interface ServerProcess {
  readonly address: string
  readonly socket: string
  readonly child: ChildProcess
  /** Ends it: by SIGKILL where that is asked for. Resolves when it has gone. */
  stop(signal?: NodeJS.Signals): Promise<void>
}

let folder: string | undefined
let count = 0

/** A path for a socket in a folder of this process, which is removed when the process ends. */
export function newSocketPath(): string {
  if (folder === undefined) {
    const made = mkdtempSync(path.join(tmpdir(), 'unvme-socket-'))
    process.on('exit', () => rmSync(made, { recursive: true, force: true }))
    folder = made
  }
  return path.join(folder, `cntrl-${count++}`)
}

/** Starts a server; resolves when clients can come. */
export async function startServer(
  options: ServedOptions = {},
  socket = newSocketPath(),
): Promise<ServerProcess> {
  const address = `vfio-user:${socket}`
  // No debugger or loader flags of the test runner's.
  const child = fork(PROGRAM, [address, JSON.stringify(options)], { execArgv: ['--enable-source-maps'] })
  const ended = once(child, 'exit')
  await Promise.race([
    once(child, 'message'),
    ended.then(([code]) => {
      throw new Error(`the server at ${address} ended with ${code}`)
    }),
  ])
  // It does not keep the test's process alive, and ends with it.
  child.unref()
  child.channel?.unref()
  return {
    address,
    socket,
    child,
    async stop(signal) {
      child.ref()
      if (signal === undefined) child.disconnect()
      else child.kill(signal)
      await ended
    },
  }
}
