// Listens at a socket and serves one client after the other.
// While one is served the next one waits in the socket's queue, and learns of it by getting no answer.

import fs from 'node:fs'
import path from 'node:path'
import { AddressError, InUseError, SetupError, SystemCallError } from '../../errors.ts'
import { logger } from '../../log/index.ts'
import { close } from '../../sys/libc.ts'
import { acceptFrom, connectTo, listenAt, type Watch, watch } from '../socket.ts'
import { createConfigSpace } from './config-space.ts'
import type { ServedDevice } from './device.ts'
import { createRegions } from './regions.ts'
import { Session, type SessionParts } from './session.ts'

const log = logger('vfio-user')
const BACKLOG = 8
/** Milliseconds until the next try, where a client could not be taken on: descriptors or memory are short. */
const RETRY_MS = 100

export interface VfioUserServer {
  /** Of the socket. */
  readonly path: string
  /** Signals a vector of the device to the client, where it asked for that. */
  interrupt(vector: number): void
  /** Ends the client's session, and removes the socket. */
  close(): void
}

/**
 * Offers a device at a socket, which is made; one that a dead server left behind is replaced.
 * Throws AddressError (no such folder, a file of this name), InUseError (somebody listens) and SetupError.
 */
export function serveDevice(socket: string, device: ServedDevice): VfioUserServer {
  const fd = claim(socket)
  const { ino } = fs.statSync(socket)
  const config = createConfigSpace(device)
  const parts: SessionParts = { device, config, regions: createRegions(device, config) }
  let session: Session | null = null
  let listening: Watch | undefined
  let closed = false

  const listen = () => {
    if (!closed) listening = watch(fd, accept)
  }
  const accept = () => {
    if (session !== null || closed) return
    try {
      const connection = acceptFrom(fd)
      if (connection >= 0) session = startSession(connection)
      else return
    } catch (error) {
      log('a client could not be taken on: %s', error)
      setTimeout(listen, RETRY_MS)
    }
    // Whoever comes now waits in the socket's queue.
    listening?.close()
  }
  const startSession = (connection: number): Session => {
    try {
      return new Session(connection, parts, () => {
        session = null
        listen()
      })
    } catch (error) {
      close(connection)
      throw error
    }
  }
  listen()
  return {
    path: socket,
    interrupt: (vector) => session?.interrupt(vector),
    close() {
      if (closed) return
      closed = true
      listening?.close()
      session?.end('the server is closed')
      close(fd)
      // Somebody may have put another server's in its place.
      if (fs.statSync(socket, { throwIfNoEntry: false })?.ino === ino) fs.rmSync(socket, { force: true })
    },
  }
}

function claim(socket: string): number {
  try {
    return listenAt(socket, BACKLOG)
  } catch (cause) {
    if (!(cause instanceof SystemCallError)) throw cause
    if (cause.code !== 'EADDRINUSE') throw explain(socket, cause)
    removeIfDead(socket)
    return listenAt(socket, BACKLOG)
  }
}

// A server that was killed leaves its socket behind.
function removeIfDead(socket: string): void {
  if (!fs.lstatSync(socket).isSocket()) throw new AddressError(`${socket} exists, and is no socket`)
  try {
    close(connectTo(socket))
  } catch (cause) {
    if (cause instanceof SystemCallError && cause.code === 'ECONNREFUSED') {
      fs.rmSync(socket)
      return
    }
    if (!(cause instanceof SystemCallError) || cause.code !== 'EAGAIN') throw cause
  }
  throw new InUseError(`${socket} is in use: another server listens there`)
}

function explain(socket: string, cause: SystemCallError): Error {
  if (cause.code === 'ENOENT' || cause.code === 'ENOTDIR') {
    return new AddressError(`${socket}: there is no folder ${path.dirname(socket)}`, { cause })
  }
  if (cause.code === 'EACCES' || cause.code === 'EROFS' || cause.code === 'EPERM') {
    return new SetupError(`${socket}: no right to make a socket in ${path.dirname(socket)}`, { cause })
  }
  return cause
}
