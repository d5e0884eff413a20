// Reads a socket message by message, where each is awaited: for what happens once for each connection.

import type net from 'node:net'

/** Exactly so many bytes, or null where the connection ends before. The socket is not read further. */
export function readExactly(socket: net.Socket, bytes: number): Promise<Buffer | null> {
  if (bytes === 0) return Promise.resolve(Buffer.alloc(0))
  return new Promise((resolve) => {
    const look = () => {
      const data = socket.read(bytes) as Buffer | null
      // At the end of the connection whatever is left comes.
      if (data !== null) settle(data.length === bytes ? data : null)
      else if (socket.readableEnded || socket.destroyed) settle(null)
    }
    const end = () => settle(null)
    const settle = (data: Buffer | null) => {
      socket.off('readable', look).off('end', end).off('close', end)
      resolve(data)
    }
    socket.on('readable', look).on('end', end).on('close', end)
    look()
  })
}
