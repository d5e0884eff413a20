// Namespaces as exports of an NBD server: listens, lets clients in, and ends them.

import fs from 'node:fs'
import net, { isIP } from 'node:net'
import { isMainThread } from 'node:worker_threads'
import {
  ArgumentTypeError,
  ClosedError,
  InUseError,
  OutOfRangeError,
  SetupError,
} from '../../../lib/errors.ts'
import { logger } from '../../../lib/log/index.ts'
import { EXTENT, NAME_BYTES, NBD_PORT, TRANSMISSION } from '../../../lib/nbd/protocol.ts'
import { blockExtents, tellsHoles } from '../../../lib/nvme/host/lba-status.ts'
import { ONCS } from '../../../lib/nvme/spec/flags.ts'
import { throwIfAborted } from '../../../lib/sys/abort.ts'
import type { OptionNames } from '../../../lib/sys/options.ts'
import { show } from '../../../lib/sys/show.ts'
import { socketPathBytes } from '../../../lib/sys/socket-path.ts'
import { Namespace } from '../../namespace/namespace.ts'
import { checkBoolean, checkInteger, checkOptions, checkSignal } from '../../queue/validate.ts'
import { BlockServer, type BlockServerStats } from '../block-server.ts'
import { limitsOf } from '../clear-limits.ts'
import { usableQueues } from '../command-engine.ts'
import { createEnd, type ServerEnd } from '../end.ts'
import {
  Connection,
  ConnectionBuffers,
  type ConnectionLimits,
  type Extent,
  type ServedExport,
} from './connection.ts'
import { negotiate } from './negotiation.ts'
import { type NbdTlsOptions, secureSockets } from './tls.ts'

const log = logger('nbd')

export interface ServeNbdOptions {
  /** A Unix socket, made with mode 0600. A port, where there is none. */
  path?: string | undefined
  /** Address to listen at; default 127.0.0.1. Another than one of this machine's loopback needs `allowRemote`. */
  host?: string | undefined
  /** Default 10809; 0 lets the system choose. */
  port?: number | undefined
  /** Clients of other machines may connect. Default: false. */
  allowRemote?: boolean | undefined
  /** Nothing can be written. Default: false. */
  readOnly?: boolean | undefined
  /** Connections at a time, default 64; more are closed at once. */
  maxClients?: number | undefined
  /** Requests of one connection at a time, default 128; more stay in its socket. */
  maxRequests?: number | undefined
  /** Bytes of memory for the data of requests of each namespace, default 64 MiB: more requests wait in their sockets. */
  maxBytes?: number | undefined
  /** Milliseconds that a client may take to choose an export, default 10 000. */
  negotiationTimeout?: number | undefined
  /**
   * Milliseconds in which a client has to take its replies, or to send the rest of a request, or 64 KiB of them at least; else
   * it is closed, after twice that time at the latest. Default: 30 000.
   */
  stallTimeout?: number | undefined
  /** TLS, without which no client is let in then. */
  tls?: NbdTlsOptions | undefined
  /** Closes the server, as `close` does. */
  signal?: AbortSignal | undefined
}

const SERVE_NAMES: OptionNames<ServeNbdOptions> = {
  path: true,
  host: true,
  port: true,
  allowRemote: true,
  readOnly: true,
  maxClients: true,
  maxRequests: true,
  maxBytes: true,
  negotiationTimeout: true,
  stallTimeout: true,
  tls: true,
  signal: true,
}

export interface NbdServerStats extends BlockServerStats {
  /** Connections now, and since the beginning. */
  clients: number
  connections: number
  /** Those that were closed before they had an export: too many, too late, or no NBD. */
  refused: number
  /** Bytes of memory that requests have, or have had. */
  memoryBytes: number
}

/** A running server. */
export interface NbdServer {
  /** Its first export, as clients name it: `nbd://127.0.0.1:10809/`, `nbd+unix:///?socket=/run/disk.sock`. */
  readonly address: string
  /** Who may connect, as a sentence part. */
  readonly audience: string
  readonly stats: NbdServerStats
  /** Resolves when it is closed: by `close`, its signal, or with a namespace; rejects where the last flush failed. */
  readonly closed: Promise<void>
  /** Answers what is in flight, flushes, and ends; the namespaces stay open. */
  close(): Promise<void>
}

/** See index.ts. */
export async function serveNbd(
  exports: Namespace | Readonly<Record<string, Namespace>>,
  options: ServeNbdOptions = {},
): Promise<NbdServer> {
  checkServeOptions(options)
  const { path, host = '127.0.0.1', port = NBD_PORT, signal, tls } = options
  throwIfAborted(signal)
  const named = exports instanceof Namespace ? { '': exports } : exports
  const secure = tls === undefined ? undefined : await secureSockets(tls, options)
  const served = await describeExports(named, options)
  const server = new Server(served, secure, options)
  try {
    await server.listen(path === undefined ? { host, port } : { path })
    // Who has ended it before it could be heard of.
    throwIfAborted(signal)
    for (const { ns } of served.values()) {
      if (ns.closed) throw new ClosedError(`serveNbd: ${ns.device} is closed`)
    }
  } catch (error) {
    await server.close()
    throw error
  }
  return server.face()
}

function checkServeOptions(options: ServeNbdOptions): void {
  const { path, host, port, allowRemote, readOnly, signal } = checkOptions('serveNbd', options, SERVE_NAMES)
  checkSignal('serveNbd', signal)
  checkBoolean('serveNbd: allowRemote', allowRemote)
  checkBoolean('serveNbd: readOnly', readOnly)
  for (const [name, value] of Object.entries({ path, host })) {
    if (value === undefined || typeof value === 'string') continue
    throw new ArgumentTypeError(`serveNbd: ${name} must be a string, received ${show(value)}`)
  }
  if (path !== undefined && (host ?? port) !== undefined) {
    throw new ArgumentTypeError('serveNbd: path is for a Unix socket, host and port for TCP: one of both')
  }
  if (path !== undefined) socketPathBytes(path)
  if (port !== undefined) checkInteger('serveNbd: port', port, 0, 65_535)
  const { maxClients = 64, maxRequests = 128, maxBytes = 2 ** 26 } = options
  checkInteger('serveNbd: maxClients', maxClients, 1, 65_536)
  checkInteger('serveNbd: maxRequests', maxRequests, 1, 65_536)
  checkInteger('serveNbd: maxBytes', maxBytes, 2 ** 21, 2 ** 40)
  const { negotiationTimeout = 1, stallTimeout = 1 } = options
  checkInteger('serveNbd: negotiationTimeout', negotiationTimeout, 1, 2 ** 31 - 1)
  checkInteger('serveNbd: stallTimeout', stallTimeout, 1, 2 ** 31 - 1)
  if (!allowRemote && host !== undefined && !isLoopback(host)) {
    throw new SetupError(
      `serveNbd: ${host} can be reached from other machines, which allowRemote: true allows`,
    )
  }
}

const isLoopback = (host: string) =>
  host === 'localhost' || host === '::1' || (isIP(host) === 4 && host.startsWith('127.'))

type Exports = ReadonlyMap<string, ServedExport & { readonly ns: Namespace }>

async function describeExports(
  named: Readonly<Record<string, Namespace>>,
  { readOnly = false, maxBytes = 2 ** 26 }: ServeNbdOptions,
): Promise<Exports> {
  const exports = new Map<string, ServedExport & { ns: Namespace }>()
  const servers = new Map<Namespace, BlockServer>()
  for (const [name, ns] of Object.entries(named)) {
    if (!(ns instanceof Namespace)) {
      throw new ArgumentTypeError(`serveNbd: export '${name}' must be a namespace, received ${show(ns)}`)
    }
    if (Buffer.byteLength(name) > NAME_BYTES) {
      throw new OutOfRangeError(`serveNbd: a name of ${Buffer.byteLength(name)} bytes, at most ${NAME_BYTES}`)
    }
    const refusal = readOnly ? null : (ns.controller.transport.mayWrite?.(ns.id) ?? null)
    if (refusal !== null) throw refusal
    const { oncs, vwc } = ns.controller.identity
    const { dlfeat } = await ns.controller.identifyNamespace(ns.id)
    const holes = await tellsHoles(ns.controller, ns.id)
    const can = {
      writeZeroes: (oncs & ONCS.WRITE_ZEROES) !== 0,
      deallocate: (oncs & ONCS.DATASET_MANAGEMENT) !== 0,
      ...(await limitsOf(ns)),
      zeroesDeallocate: (dlfeat & 8) !== 0,
    }
    const server = servers.get(ns) ?? new BlockServer(ns, can, maxBytes, usableQueues(ns, 'serveNbd'))
    servers.set(ns, server)
    const { HAS_FLAGS, READ_ONLY, SEND_FLUSH, SEND_FUA, SEND_TRIM } = TRANSMISSION
    const { SEND_WRITE_ZEROES, SEND_FAST_ZERO, CAN_MULTI_CONN, SEND_CACHE } = TRANSMISSION
    const writing = SEND_FUA | SEND_TRIM | SEND_WRITE_ZEROES | SEND_FAST_ZERO
    exports.set(name, {
      ...{ name, ns, server },
      description: `${ns.device}, namespace ${ns.id}, ${ns.mn}`,
      bytes: server.bytes,
      flags: HAS_FLAGS | SEND_FLUSH | CAN_MULTI_CONN | SEND_CACHE | (readOnly ? READ_ONLY : writing),
      // Any bytes are served; whole blocks are quicker.
      blockSizes: [1, Math.max(4096, ns.blocksize), server.mostBytes],
      fastZeroes: can.writeZeroes,
      extents: holes ? (offset, bytes, most) => extentsOf(ns, offset, bytes, most) : undefined,
    })
    log('export %s: %s, %d bytes, cache %d', name, ns.device, server.bytes, vwc)
  }
  if (exports.size === 0) throw new OutOfRangeError('serveNbd: there is nothing to export')
  return exports
}

/** What the device knows of a range. A block that is in it in part is in it with what it is as a whole. */
async function extentsOf(
  { controller, id, blocksize }: Namespace,
  offset: number,
  bytes: number,
  most: number,
): Promise<Extent[]> {
  const extents: Extent[] = []
  const first = Math.floor(offset / blocksize)
  const end = Math.ceil((offset + bytes) / blocksize)
  let at = offset
  let lba = first
  for await (const { nlb, data } of blockExtents(controller, id, first, end - first)) {
    lba += nlb
    const to = Math.min(offset + bytes, lba * blocksize)
    extents.push({ bytes: to - at, flags: data ? 0 : EXTENT.HOLE | EXTENT.ZERO })
    at = to
    if (extents.length === most) break
  }
  return extents
}

class Server {
  private readonly exports: Exports
  private readonly first: ServedExport
  private readonly secure: ((socket: net.Socket) => Promise<net.Socket>) | undefined
  private readonly limits: ConnectionLimits
  private readonly maxClients: number
  private readonly negotiationTimeout: number
  private readonly buffers = new ConnectionBuffers()
  private readonly server: net.Server
  private readonly sockets = new Set<net.Socket>()
  private readonly connections = new Set<Connection>()
  private readonly counts = { connections: 0, refused: 0 }
  // Connections that have chosen an export.
  private chosen = 0
  private listening: Promise<void> = Promise.resolve()
  private readonly end: ServerEnd
  private isEnding = false
  private address = ''
  private audience = ''

  constructor(exports: Exports, secure: Server['secure'], options: ServeNbdOptions) {
    const { maxRequests = 128, maxClients = 64, negotiationTimeout = 10_000, stallTimeout = 30_000 } = options
    this.exports = exports
    this.first = [...exports.values()][0]!
    this.secure = secure
    this.limits = { requests: maxRequests, stallTimeout }
    this.maxClients = maxClients
    this.negotiationTimeout = negotiationTimeout
    this.server = net.createServer(
      { allowHalfOpen: true, noDelay: true, keepAlive: true, keepAliveInitialDelay: KEEP_ALIVE_MS },
      (socket) => {
        this.accept(socket).catch((error) => log('%s', error.message))
      },
    )
    const forgets: (() => void)[] = []
    this.end = createEnd(() => this.endAll(), options.signal, forgets)
    for (const { ns } of exports.values()) forgets.push(ns.onClose(this.end.close))
  }

  listen(where: { path: string } | { host: string; port: number }): Promise<void> {
    this.listening = Promise.resolve().then(() => this.begin(where))
    return this.listening
  }

  private async begin(where: { path: string } | { host: string; port: number }): Promise<void> {
    if ('path' in where) await removeStaleSocket(where.path)
    await new Promise<void>((resolve, reject) => {
      // The mode of a socket is that of the moment in which it is made.
      const mask = isMainThread ? process.umask(0o177) : 0
      this.server.on('error', (cause: NodeJS.ErrnoException) => {
        log('%s', cause.message)
        const at = 'path' in where ? where.path : `${where.host}:${where.port}`
        const Kind = cause.code === 'EADDRINUSE' ? InUseError : SetupError
        reject(new Kind(`serveNbd: can't listen at ${at}: ${cause.message}`, { cause }))
      })
      this.server.listen(where, resolve)
      if (isMainThread) process.umask(mask)
      else if ('path' in where) fs.chmodSync(where.path, 0o600)
    })
    const scheme = this.secure === undefined ? 'nbd' : 'nbds'
    const name = encodeURIComponent(this.first.name)
    if ('path' in where) {
      const path = encodeURIComponent(where.path).replaceAll('%2F', '/')
      this.address = `${scheme}+unix:///${name}?socket=${path}`
      this.audience = `processes of user ${process.getuid?.()} (and root) on this machine`
      return
    }
    const { port, address } = this.server.address() as net.AddressInfo
    const host = net.isIPv6(address) ? `[${address}]` : address
    this.address = `${scheme}://${host}:${port}/${name}`
    this.audience = isLoopback(where.host)
      ? 'every user of this machine'
      : `everyone who reaches ${host}${this.secure === undefined ? '' : ' and has a key'}`
  }

  face(): NbdServer {
    const { address, audience, end } = this
    const stats = () => this.stats()
    return {
      ...{ address, audience, ...end },
      get stats() {
        return stats()
      },
    }
  }

  private stats(): NbdServerStats {
    const total: NbdServerStats = {
      ...{
        reads: 0,
        writes: 0,
        flushes: 0,
        clears: 0,
        readBytes: 0,
        writtenBytes: 0,
        failed: 0,
        unaligned: 0,
      },
      ...{ clients: this.clients, memoryBytes: 0 },
      ...this.counts,
    }
    for (const server of this.servers()) {
      for (const [name, value] of Object.entries(server.stats)) total[name as keyof BlockServerStats] += value
      total.memoryBytes += server.memory.held
    }
    return total
  }

  private get clients(): number {
    return this.sockets.size + this.connections.size
  }

  private servers(): Set<BlockServer> {
    return new Set([...this.exports.values()].map(({ server }) => server))
  }

  private async accept(plain: net.Socket): Promise<void> {
    const { counts, sockets } = this
    counts.connections++
    if (this.clients >= this.maxClients || this.isEnding) {
      counts.refused++
      plain.destroy()
      return
    }
    sockets.add(plain)
    plain.once('close', () => sockets.delete(plain))
    plain.on('error', (error) => log('%s', error.message))
    const timer = setTimeout(() => {
      log('a client has chosen no export within %d ms', this.negotiationTimeout)
      plain.destroy()
    }, this.negotiationTimeout)
    try {
      const { exports, first, secure } = this
      const agreed = await negotiate<ServedExport>(plain, { exports, first, secure })
      if (agreed === null || this.isEnding) {
        counts.refused++
        if (!plain.writableEnded) plain.destroy()
        else plain.destroySoon()
        return
      }
      const connection = new Connection(agreed, this.limits, this.buffers, this.chosen++)
      this.connections.add(connection)
      sockets.delete(plain)
      void connection.closed.then(() => this.connections.delete(connection))
    } catch (error) {
      counts.refused++
      plain.destroy()
      throw error
    } finally {
      clearTimeout(timer)
    }
  }

  close(): Promise<void> {
    return this.end.close()
  }

  private async endAll(): Promise<void> {
    this.isEnding = true
    // What does not listen yet can't be closed.
    await this.listening.catch(() => {})
    this.server.close()
    const ends = [...this.connections].map((connection) => {
      connection.end()
      return connection.closed
    })
    // Those that are still choosing; and, after a while, those that take no replies.
    const timer = setTimeout(() => {
      for (const connection of this.connections) connection.destroy()
    }, ENDING_MS)
    for (const socket of this.sockets) socket.destroy()
    await Promise.all(ends)
    clearTimeout(timer)
    const failures: unknown[] = []
    for (const server of this.servers()) await server.close().catch((error) => failures.push(error))
    if (failures.length > 0) throw failures[0]
  }
}

/** Of silence, until the system asks whether the client is still there. */
const KEEP_ALIVE_MS = 60_000
/** For clients to take the last replies. */
const ENDING_MS = 2000

// A socket that a killed server has left; one behind which somebody listens is in use.
async function removeStaleSocket(path: string): Promise<void> {
  const stats = fs.lstatSync(path, { throwIfNoEntry: false })
  if (stats === undefined) return
  if (!stats.isSocket()) throw new InUseError(`serveNbd: ${path} is there, and no socket`)
  const listens = await new Promise<boolean>((resolve) => {
    const probe = net.connect(path)
    probe.once('connect', () => {
      probe.destroy()
      resolve(true)
    })
    probe.once('error', () => resolve(false))
  })
  if (listens) throw new InUseError(`serveNbd: ${path} is in use: another server listens there`)
  fs.unlinkSync(path)
}
