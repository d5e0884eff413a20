// An NVMe/TCP target: listens, and gives each host an association with the subsystem that it asks for, or with the
// discovery service. A subsystem makes a controller for each association, or has one alone, and so one host at a time:
// another one gets Controller Busy.

import net from 'node:net'
import tls from 'node:tls'
import { ArgumentValueError, SystemCallError } from '../../../errors.ts'
import { logger } from '../../../log/index.ts'
import { keepFreedMemory } from '../../../memory/heap.ts'
import { isNqn } from '../address.ts'
import {
  ADRFAM,
  CNTLID_DYNAMIC,
  CONNECT_DATA_FIELD,
  DISCOVERY_NQN,
  type DiscoveryRecord,
  FABRICS_STATUS,
  SUBTYPE,
  TRTYPE,
} from '../fabrics.ts'
import { LEAST_H2C } from '../pdu.ts'
import type { SecurityKey } from '../security/keys.ts'
import { deriveTlsPsk, type TlsNames } from '../security/keys.ts'
import { TLS_OPTIONS } from '../security/tls.ts'
import { Association } from './association.ts'
import type { TargetDhchap } from './authentication.ts'
import {
  type ConnectCommand,
  Connection,
  type ConnectionLimits,
  type ConnectionTarget,
} from './connection.ts'
import type { ServedController } from './controller.ts'
import { createDiscovery, type DiscoveryController } from './discovery.ts'

const log = logger('tcp-target')

const DNR = 0x4000
const CNTLID_STATIC_ANY = 0xfffe
const ASQSZ = 32
const MOST_H2C = 2 ** 22
/** In the discovery log: a secure channel is required, and is TLS 1.3. */
const TREQ_REQUIRED = 1
const SECTYPE_TLS13 = 2

/** A host that connects, and by which way. */
export interface ConnectingHost {
  readonly hostnqn: string
  /** 16 bytes, as hexadecimal digits. */
  readonly hostid: string
  /** What the target calls its controller. */
  readonly cntlid: number
  /** Index of the listener. */
  readonly listener: number
}

/** What a target offers: one controller for one host at a time, or one for each association, which is closed with it. */
export type TargetSubsystem = { readonly nqn: string } & (
  | { readonly controller: ServedController }
  | { connect(host: ConnectingHost): ServedController }
)

/** Where a target listens. */
export interface ListenerAddress {
  /** Default: the loopback. */
  readonly host?: string | undefined
  /** 0, the default, takes a free one. */
  readonly port?: number | undefined
}

/** A discovery service elsewhere, which the discovery log names. */
export interface Referral {
  readonly host: string
  readonly port: number
}

export interface TargetOptions extends Partial<ConnectionLimits>, ListenerAddress {
  /** Several, in place of `host` and `port`. */
  readonly listeners?: readonly ListenerAddress[] | undefined
  readonly subsystems: readonly TargetSubsystem[]
  /** Hosts that may connect, by name. Default: every one. */
  readonly hosts?: ReadonlySet<string> | undefined
  readonly referrals?: readonly Referral[] | undefined
  /** Most connections at a time: further ones are closed at once. Default: 256. */
  readonly maxConnections?: number | undefined
  /** Milliseconds that a connection may take to Connect. Default: 10 000. */
  readonly helloMs?: number | undefined
  /**
   * Milliseconds for which a host may neither send data that was asked for nor take what it has asked for: its connection
   * ends after at most twice as long. Default: 30 000.
   */
  readonly stallMs?: number | undefined
  /** Hosts have to prove who they are. */
  readonly dhchap?: TargetDhchap | undefined
  /** Connections are TLS, each with the key of its host. */
  readonly tls?: TargetTls | undefined
}

/** Keys of hosts, by name: only those that are known can connect. */
export interface TargetTls {
  readonly keys: ReadonlyMap<string, SecurityKey>
}

/** One address of a target. */
export interface TargetListener {
  readonly host: string
  readonly port: number
  /** True once it listens no more. */
  readonly closed: boolean
  /** Ends it with the associations that came by it; hosts of the discovery service get an event. */
  close(): Promise<void>
}

/** A target that listens. */
export interface TcpTargetServer {
  /** Of the first listener. */
  readonly host: string
  readonly port: number
  readonly listeners: readonly TargetListener[]
  /** Connections that are open, and those that were refused since there were too many. */
  readonly connections: number
  readonly refused: number
  /** Hosts that have a controller, one for each association; those of the discovery service are left out. */
  readonly hosts: readonly ConnectingHost[]
  /** Bytes that wait to be taken by hosts. */
  readonly unsent: number
  /** What the discovery log refers to from now on; its readers get an event. */
  refer(referrals: readonly Referral[]): void
  /** Does not keep the process alive, while no host is connected. */
  unref(): void
  /** Listens no more, and takes nothing more of hosts; what is in flight is answered. */
  quiesce(): void
  /** Ends every association, and waits for what they have in flight. Controllers are their maker's to close. */
  close(): Promise<void>
}

const MOST_CONNECTIONS = 256
const HELLO_MS = 10_000
const STALL_MS = 30_000

const DEFAULTS: ConnectionLimits = {
  inCapsule: 8192,
  maxH2cData: 131_072,
  maxR2t: 2 ** 20,
  maxC2hData: 2 ** 20,
  success: false,
  hdgst: true,
  ddgst: true,
}

function checkLimits(limits: ConnectionLimits): ConnectionLimits {
  const { inCapsule, maxH2cData, maxR2t, maxC2hData } = limits
  const check = (name: string, value: number, min: number, max: number, unit: number) => {
    if (Number.isInteger(value) && value >= min && value <= max && value % unit === 0) return
    throw new ArgumentValueError(`${name} ${value}: a multiple of ${unit} from ${min} to ${max} is needed`)
  }
  check('inCapsule', inCapsule, 0, 2 ** 20, 16)
  check('maxH2cData', maxH2cData, LEAST_H2C, MOST_H2C, 4)
  check('maxR2t', maxR2t, 4, MOST_H2C, 4)
  check('maxC2hData', maxC2hData, 4, MOST_H2C, 4)
  return limits
}

interface Listener extends TargetListener {
  readonly server: net.Server
  readonly index: number
  /** Those whose handshake goes on. */
  readonly shaking: ReadonlySet<net.Socket>
  /** The ends of those that it has taken: the server knows nothing of their sockets. */
  readonly open: ReadonlySet<Promise<void>>
  closed: boolean
  /** Resolves when its last connection has ended. */
  stopped: Promise<void> | null
  readonly ipv6: boolean
}

/**
 * Listens for hosts. Rejects with SystemCallError where it can't, ArgumentValueError for limits that can't be.
 */
export async function serveTcp({
  host,
  port,
  listeners: addresses = [{ host, port }],
  subsystems,
  hosts,
  referrals: referred = [],
  maxConnections = MOST_CONNECTIONS,
  helloMs = HELLO_MS,
  stallMs = STALL_MS,
  dhchap,
  tls: secured,
  ...given
}: TargetOptions): Promise<TcpTargetServer> {
  const limits = checkLimits({ ...DEFAULTS, ...given })
  const byNqn = new Map<string, TargetSubsystem>()
  for (const subsystem of subsystems) {
    const { nqn } = subsystem
    if (!isNqn(nqn) || byNqn.has(nqn)) {
      throw new ArgumentValueError(`subsystem '${nqn}': an NQN of its own is needed`)
    }
    byNqn.set(nqn, subsystem)
  }
  const associations = new Map<number, { readonly association: Association; readonly host: ConnectingHost }>()
  const discoveries = new Set<DiscoveryController>()
  // With the index of the listener that each came by.
  const connections = new Map<Connection, number>()
  const listeners: Listener[] = []
  const held = { bytes: 0 }
  let referrals = referred
  let lastCntlid = 0
  let genctr = 1
  let refused = 0

  const busy = (controller: ServedController) =>
    [...associations.values()].some(({ association }) => association.options.controller === controller)

  /** @param names that a connection's handshake is by: it can call itself nothing else */
  function targetOf(listener: number, names: TlsNames | undefined): ConnectionTarget {
    return {
      ...{ limits, dhchap, helloMs, held },
      admits: ({ hostnqn, subnqn }) =>
        names === undefined || (names.hostnqn === hostnqn && names.subnqn === subnqn),
      associate: (connect, connection) => associate(listener, connect, connection),
      find: (cntlid) => associations.get(cntlid)?.association,
      closed: (connection) => void connections.delete(connection),
    }
  }

  function associate(
    listener: number,
    { cntlid, subnqn, hostnqn, hostid: id, kato }: ConnectCommand,
    connection: Connection,
  ): ReturnType<ConnectionTarget['associate']> {
    const invalid = (at: number) => ({
      status: FABRICS_STATUS.CONNECT_INVALID_PARAMETERS | DNR,
      result: at | 0x1_0000,
    })
    const invalidHost = { status: FABRICS_STATUS.CONNECT_INVALID_HOST | DNR, result: 0 }
    if (cntlid !== CNTLID_DYNAMIC && cntlid !== CNTLID_STATIC_ANY) return invalid(CONNECT_DATA_FIELD.CNTLID)
    if (!isHostName(hostnqn)) return invalid(CONNECT_DATA_FIELD.HOSTNQN)
    const subsystem = byNqn.get(subnqn)
    if (subsystem === undefined && subnqn !== DISCOVERY_NQN) return invalid(CONNECT_DATA_FIELD.SUBNQN)
    if (hosts?.has(hostnqn) === false) {
      log('%s may not connect', hostnqn)
      return invalidHost
    }
    if (dhchap !== undefined && dhchap.keyOf(hostnqn) === undefined) return invalidHost
    if (subsystem !== undefined && 'controller' in subsystem && busy(subsystem.controller)) {
      return { status: FABRICS_STATUS.CONTROLLER_BUSY, result: 0 }
    }
    const hostid = Buffer.from(id).toString('hex')
    const connecting = { hostnqn, hostid, cntlid: freeCntlid(), listener }
    const [controller, ended] = controllerFor(subsystem, connecting)
    const association = new Association(
      {
        ...{ controller, cntlid: connecting.cntlid, subnqn, hostnqn, kato, hostid },
        inCapsule: limits.inCapsule,
        onEnd: () => {
          controller.onGone = null
          associations.delete(connecting.cntlid)
          ended()
        },
      },
      connection,
    )
    controller.onGone = () => association.end()
    associations.set(connecting.cntlid, { association, host: connecting })
    log('%s has %s, controller %d', hostnqn, subnqn, connecting.cntlid)
    return { association }
  }

  /** A controller for a host, and what is to be done when its association has ended. */
  function controllerFor(
    subsystem: TargetSubsystem | undefined,
    connecting: ConnectingHost,
  ): [ServedController, () => void] {
    if (subsystem === undefined) {
      const discovery = createDiscovery(() => ({ genctr, records: records(connecting.listener) }))
      discoveries.add(discovery)
      return [discovery, () => void discoveries.delete(discovery)]
    }
    if ('controller' in subsystem) return [subsystem.controller, () => {}]
    const controller = subsystem.connect(connecting)
    return [controller, () => controller.close()]
  }

  function freeCntlid(): number {
    do lastCntlid = lastCntlid >= 0xffef ? 1 : lastCntlid + 1
    while (associations.has(lastCntlid))
    return lastCntlid
  }

  function changed(): void {
    genctr++
    for (const discovery of discoveries) discovery.changed()
  }

  async function listen(index: number, address: ListenerAddress): Promise<Listener> {
    const { host = '127.0.0.1', port = 0 } = address
    const shaking = new Set<net.Socket>()
    const open = new Set<Promise<void>>()
    const take = (socket: net.Socket, names?: TlsNames) => {
      if (listener.closed) socket.destroy()
      else if (connections.size < maxConnections) {
        const connection = new Connection(targetOf(index, names), socket)
        connections.set(connection, index)
        open.add(connection.closed)
        void connection.closed.then(() => open.delete(connection.closed))
      } else {
        refused++
        log('%s: %d connections are open, and no more are taken', socket.remoteAddress, connections.size)
        socket.destroy()
      }
    }
    const nqns = [...byNqn.keys(), DISCOVERY_NQN]
    const server = net.createServer(
      secured === undefined ? take : handshakes(secured, nqns, helloMs, shaking, take),
    )
    // Before their handshake, too.
    server.maxConnections = maxConnections
    server.on('drop', () => refused++)
    await new Promise<void>((resolve, reject) => {
      server.on('error', (error: NodeJS.ErrnoException) => {
        log('%s', error.message)
        reject(
          new SystemCallError(`${host}:${port} can't be listened at`, {
            ...{ code: error.code ?? 'EIO', errno: -(error.errno ?? 0), syscall: error.syscall ?? 'listen' },
          }),
        )
      })
      server.listen({ host, port }, resolve)
    })
    const at = server.address() as net.AddressInfo
    const listener: Listener = {
      ...{ server, index, host: at.address, port: at.port, ipv6: at.family === 'IPv6' },
      ...{ shaking, open, closed: false, stopped: null },
      async close() {
        if (listener.closed) return
        const closed = stop(listener)
        changed()
        end(index)
        await closed
      },
    }
    return listener
  }

  function stop(listener: Listener): Promise<void> {
    listener.closed = true
    listener.stopped ??= new Promise((resolve) => {
      listener.server.close(() => resolve(Promise.all(listener.open).then(() => {})))
    })
    for (const socket of listener.shaking) socket.destroy()
    return listener.stopped
  }

  /** Ends what came by a listener, or by any: admin connections wait for what their association has in flight. */
  function end(listener?: number): void {
    for (const { association, host } of [...associations.values()]) {
      if (listener === undefined || host.listener === listener) association.end()
    }
    const ending = new Set([...associations.values()].map(({ association }) => association.admin))
    for (const [connection, by] of [...connections]) {
      if ((listener === undefined || by === listener) && !ending.has(connection)) connection.end()
    }
  }

  function records(listener: number): DiscoveryRecord[] {
    const all: DiscoveryRecord[] = []
    const security =
      secured === undefined ? { treq: 0, sectype: 0 } : { treq: TREQ_REQUIRED, sectype: SECTYPE_TLS13 }
    for (const { host: traddr, port, ipv6, index, closed } of listeners) {
      if (closed) continue
      const common = {
        ...{ trtype: TRTYPE.TCP, adrfam: ipv6 ? ADRFAM.IPV6 : ADRFAM.IPV4, portid: index + 1, ...security },
        ...{ cntlid: CNTLID_DYNAMIC, asqsz: ASQSZ, trsvcid: String(port), traddr },
      }
      if (index === listener) {
        all.push({ ...common, subtype: SUBTYPE.CURRENT_DISCOVERY, subnqn: DISCOVERY_NQN, eflags: 1 })
      }
      all.push(...subsystems.map(({ nqn }) => ({ ...common, subtype: SUBTYPE.NVM, eflags: 0, subnqn: nqn })))
    }
    referrals.forEach(({ host: traddr, port }, i) => {
      all.push({
        ...{ trtype: TRTYPE.TCP, adrfam: net.isIPv6(traddr) ? ADRFAM.IPV6 : ADRFAM.IPV4, ...security },
        ...{ subtype: SUBTYPE.REFERRAL, portid: listeners.length + i + 1, cntlid: CNTLID_DYNAMIC },
        ...{ asqsz: ASQSZ, eflags: 0, trsvcid: String(port), subnqn: DISCOVERY_NQN, traddr },
      })
    })
    return all
  }

  // What sockets bring comes in memory that is new each time.
  keepFreedMemory()
  try {
    for (const address of addresses) listeners.push(await listen(listeners.length, address))
  } catch (error) {
    for (const listener of listeners) listener.server.close()
    throw error
  }
  const look = setInterval(() => {
    for (const connection of connections.keys()) connection.look()
  }, stallMs)
  look.unref()

  return {
    host: listeners[0]!.host,
    port: listeners[0]!.port,
    listeners,
    get connections() {
      return connections.size
    },
    get refused() {
      return refused
    },
    get hosts() {
      const all = [...associations.values()]
      return all
        .filter(({ association }) => association.options.subnqn !== DISCOVERY_NQN)
        .map(({ host }) => host)
    },
    get unsent() {
      return [...connections.keys()].reduce((sum, { unsent }) => sum + unsent, 0)
    },
    refer(next) {
      referrals = next
      changed()
    },
    unref() {
      for (const { server } of listeners) server.unref()
    },
    quiesce() {
      for (const listener of listeners) void stop(listener)
      for (const connection of connections.keys()) connection.quiesce()
    },
    async close() {
      clearInterval(look)
      const closed = Promise.all(listeners.map((listener) => stop(listener)))
      end()
      await closed
    },
  }
}

/**
 * What has the handshake of each connection: its identity names host and subsystem, which are some that there are, or there is
 * no connection.
 * @param shaking those whose handshake goes on, for `helloMs` at most
 */
function handshakes(
  { keys }: TargetTls,
  nqns: readonly string[],
  helloMs: number,
  shaking: Set<net.Socket>,
  take: (socket: net.Socket, names: TlsNames) => void,
): (socket: net.Socket) => void {
  const known = new Map<string, { readonly psk: Buffer; readonly names: TlsNames }>()
  for (const [hostnqn, key] of keys) {
    for (const subnqn of nqns) {
      for (const version of [0, 1] as const) {
        const names = { hostnqn, subnqn }
        const { identity, psk } = deriveTlsPsk(key, names, version)
        known.set(identity, { psk, names })
      }
    }
  }
  return (socket) => {
    let names: TlsNames | undefined
    const secured = new tls.TLSSocket(socket, {
      ...{ ...TLS_OPTIONS, isServer: true },
      pskCallback: (_socket: tls.TLSSocket, identity: string) => {
        const one = known.get(identity)
        names = one?.names
        return one?.psk ?? null
      },
    } as tls.TLSSocketOptions)
    const timer = setTimeout(() => secured.destroy(), helloMs)
    const refused = (error: Error) => log('%s', error.message)
    const over = () => {
      clearTimeout(timer)
      shaking.delete(secured)
    }
    shaking.add(secured)
    secured.on('error', refused).once('close', over)
    secured.once('secure', () => {
      over()
      secured.off('error', refused)
      // Without an identity, a former session is gone on with.
      if (names === undefined) secured.destroy()
      else take(secured, names)
    })
  }
}

// What a host may call itself: one word, harmless in a log. Not each is a qualified name: SPDK 20.07's default has no "nqn.".
function isHostName(name: string): boolean {
  return /^[^\s\p{Cc}\p{Cf}]+$/u.test(name)
}
