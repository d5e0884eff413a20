// Reads an accepted socket into memory of the caller's, as `onread` of net.connect does. Node has that option for sockets that
// connect; for those that a server accepts it makes a buffer of 64 KiB for each read, which costs as much as a write of 4 KiB.

import net from 'node:net'

interface Handle {
  readonly onread?: unknown
  reading?: boolean
  readonly writeQueueSize?: number
  readStop(): void
}

/**
 * A new socket on the connection of an accepted one, which must not be used any more. What had come before is given to
 * `onBytes` first, and what comes later once `resume` is called.
 *
 * @param memory what each read goes into, or what the next one does: then asked for after each
 * @param onBytes the first `bytes` of `buffer` have come
 * @returns the same socket where it can only be read by its 'data' events, as one of TLS: it may flow before `resume`
 */
export function readInto(
  socket: net.Socket,
  memory: Buffer | (() => Buffer),
  onBytes: (buffer: Buffer, bytes: number) => void,
): net.Socket {
  const owner = socket as unknown as { _handle: Handle | null; encrypted?: boolean }
  const handle = owner._handle
  if (owner.encrypted === true || typeof handle?.readStop !== 'function') {
    socket.on('data', (chunk: Buffer) => onBytes(chunk, chunk.length))
    return socket
  }
  // What comes at once must not be before what had come before.
  let before = socket.read() as Buffer | null
  const giveBefore = () => {
    const bytes = before
    before = null
    if (bytes !== null) onBytes(bytes, bytes.length)
  }
  if (before !== null) setImmediate(giveBefore)
  handle.readStop()
  handle.reading = false
  owner._handle = null
  socket.destroy()
  const onread = {
    buffer: memory,
    callback: (bytes: number, buffer: Buffer) => {
      if (before !== null) giveBefore()
      onBytes(buffer, bytes)
      return true
    },
  }
  // manualStart: nothing is read before `resume`.
  const options = { handle, readable: true, writable: true, allowHalfOpen: true, manualStart: true, onread }
  return new net.Socket(options as net.SocketConstructorOpts)
}

/** Bytes that have been written to a socket of any kind, and that the system has not taken yet. */
export function unsentBytes(socket: net.Socket): number {
  return (socket as unknown as { _handle: Handle | null })._handle?.writeQueueSize ?? 0
}
