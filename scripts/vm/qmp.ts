// A client of QEMU's machine protocol (QMP): JSON lines over a socket, one answer for each command, in order.
// Commands are sent one at a time, which is all that ending a machine and unplugging a device need.

import type { Socket } from 'node:net'
import readline from 'node:readline'

interface Message {
  QMP?: unknown
  event?: string
  return?: unknown
  error?: { desc: string }
}

export interface Qmp {
  /** Sends a command and waits for its answer. Rejects with QEMU's own description of the error. */
  execute(command: string, options?: Record<string, unknown>): Promise<unknown>
}

/** Speaks QMP over a socket that QEMU has opened. */
export function qmp(socket: Socket): Qmp {
  const waiting: { resolve: (value: unknown) => void; reject: (error: Error) => void }[] = []
  const send = (command: string, options?: Record<string, unknown>) =>
    new Promise<unknown>((resolve, reject) => {
      waiting.push({ resolve, reject })
      socket.write(`${JSON.stringify({ execute: command, arguments: options })}\n`)
    })

  onLine(socket, (line) => {
    const message = JSON.parse(line) as Message
    if (message.QMP !== undefined || message.event !== undefined) return
    const next = waiting.shift()
    if (message.error) next?.reject(new Error(message.error.desc))
    else next?.resolve(message.return)
  })
  socket.on('close', () => {
    for (const { reject } of waiting.splice(0)) reject(new Error('the machine has ended'))
  })

  // QEMU takes commands only after this one, and answers in order: no one needs to wait for it.
  const ready = send('qmp_capabilities')
  ready.catch(() => {})
  return { execute: (command, options) => send(command, options) }
}

/** Calls `use` for each line. A connection that QEMU's end resets is an end like any other. */
export function onLine(socket: Socket, use: (line: string) => void): void {
  const lines = readline.createInterface({ input: socket })
  lines.on('error', () => {})
  lines.on('line', use)
}
