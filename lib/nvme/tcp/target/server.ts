// An NVMe/TCP target: listens, and gives each host an association with the subsystem that it asks for, or with the
// discovery service. A subsystem has one controller, and so one host at a time: another one gets Controller Busy.

import net from 'node:net'
import tls from 'node:tls'
import { ArgumentValueError, SystemCallError } from '../../../errors.ts'
import { logger } from '../../../log/index.ts'
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
import { deriveTlsPsk } from '../security/keys.ts'
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
import { createDiscovery } from './discovery.ts'

const log = logger('tcp-target')

const DNR = 0x4000
const CNTLID_STATIC_ANY = 0xfffe
const ASQSZ = 32
const MOST_H2C = 2 ** 22
/** In the discovery log: a secure channel is required, and is TLS 1.3. */
const TREQ_REQUIRED = 1
const SECTYPE_TLS13 = 2

/** What a target offers. */
export interface TargetSubsystem {
  readonly nqn: string
  readonly controller: ServedController
}

export interface TargetOptions extends Partial<ConnectionLimits> {
  /** Default: the loopback. */
  readonly host?: string | undefined
  /** 0 takes a free one. */
  readonly port?: number | undefined
  readonly subsystems: readonly TargetSubsystem[]
  /** Hosts have to prove who they are. */
  readonly dhchap?: TargetDhchap | undefined
  /** Connections are TLS, each with the key of its host. */
  readonly tls?: TargetTls | undefined
}

/** Keys of hosts, by name: only those that are known can connect. */
export interface TargetTls {
  readonly keys: ReadonlyMap<string, SecurityKey>
}

/** A target that listens. */
export interface TcpTargetServer {
  readonly host: string
  readonly port: number
  /** Connections that are open. */
  readonly connections: number
  /** Does not keep the process alive, while no host is connected. */
  unref(): void
  /** Ends every association. Controllers are their maker's to close. */
  close(): Promise<void>
}

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

/**
 * Listens for hosts. Rejects with SystemCallError where it can't, ArgumentValueError for limits that can't be.
 */
export async function serveTcp({
  host = '127.0.0.1',
  port = 0,
  subsystems,
  dhchap,
  tls: secured,
  ...given
}: TargetOptions): Promise<TcpTargetServer> {
  const limits = checkLimits({ ...DEFAULTS, ...given })
  const byNqn = new Map<string, ServedController>()
  for (const { nqn, controller } of subsystems) {
    if (!isNqn(nqn) || byNqn.has(nqn)) {
      throw new ArgumentValueError(`subsystem '${nqn}': an NQN of its own is needed`)
    }
    byNqn.set(nqn, controller)
  }
  const associations = new Map<number, Association>()
  const connections = new Set<Connection>()
  let lastCntlid = 0

  const controllerOf = (nqn: string): ServedController | undefined => {
    if (nqn === DISCOVERY_NQN)
      return createDiscovery(
        () => 1,
        () => records(),
      )
    return byNqn.get(nqn)
  }
  const busy = (controller: ServedController) =>
    [...associations.values()].some(({ options }) => options.controller === controller)

  const target: ConnectionTarget = {
    limits,
    dhchap,
    associate(connect: ConnectCommand, connection: Connection) {
      const invalid = (at: number) => ({
        status: FABRICS_STATUS.CONNECT_INVALID_PARAMETERS | DNR,
        result: at | 0x1_0000,
      })
      const { cntlid, subnqn, hostnqn } = connect
      if (cntlid !== CNTLID_DYNAMIC && cntlid !== CNTLID_STATIC_ANY) return invalid(CONNECT_DATA_FIELD.CNTLID)
      if (!isNqn(hostnqn)) return invalid(CONNECT_DATA_FIELD.HOSTNQN)
      const controller = controllerOf(subnqn)
      if (controller === undefined) return invalid(CONNECT_DATA_FIELD.SUBNQN)
      if (dhchap !== undefined && dhchap.keyOf(hostnqn) === undefined) {
        return { status: FABRICS_STATUS.CONNECT_INVALID_HOST | DNR, result: 0 }
      }
      if (busy(controller)) return { status: FABRICS_STATUS.CONTROLLER_BUSY, result: 0 }
      const id = freeCntlid()
      const association = new Association(
        {
          ...{ controller, cntlid: id, subnqn, hostnqn, kato: connect.kato, inCapsule: limits.inCapsule },
          hostid: Buffer.from(connect.hostid).toString('hex'),
          onEnd: () => {
            controller.onGone = null
            associations.delete(id)
          },
        },
        connection,
      )
      controller.onGone = () => association.end()
      associations.set(id, association)
      log('%s has %s, controller %d', hostnqn, subnqn, id)
      return { association }
    },
    find: (cntlid) => associations.get(cntlid),
    closed: (connection) => void connections.delete(connection),
  }

  function freeCntlid(): number {
    do lastCntlid = lastCntlid >= 0xffef ? 1 : lastCntlid + 1
    while (associations.has(lastCntlid))
    return lastCntlid
  }

  const take = (socket: net.Socket) => void connections.add(new Connection(target, socket))
  const nqns = [...byNqn.keys(), DISCOVERY_NQN]
  const server = secured === undefined ? net.createServer(take) : createTlsServer(secured, nqns, take)
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      reject(
        new SystemCallError(`${host}:${port} can't be listened at`, {
          ...{ code: error.code ?? 'EIO', errno: -(error.errno ?? 0), syscall: error.syscall ?? 'listen' },
        }),
      )
    })
    server.listen({ host, port }, resolve)
  })
  const at = server.address() as net.AddressInfo

  function records(): DiscoveryRecord[] {
    const common = {
      ...{ trtype: TRTYPE.TCP, adrfam: at.family === 'IPv6' ? ADRFAM.IPV6 : ADRFAM.IPV4, portid: 1 },
      ...(secured === undefined ? { treq: 0, sectype: 0 } : { treq: TREQ_REQUIRED, sectype: SECTYPE_TLS13 }),
      ...{ cntlid: CNTLID_DYNAMIC, asqsz: ASQSZ, trsvcid: String(at.port), traddr: at.address },
    }
    const nvm = { ...common, subtype: SUBTYPE.NVM, eflags: 0 }
    const here = { ...common, subtype: SUBTYPE.CURRENT_DISCOVERY, subnqn: DISCOVERY_NQN, eflags: 1 }
    return [here, ...subsystems.map(({ nqn }) => ({ ...nvm, subnqn: nqn }))]
  }

  return {
    host: at.address,
    port: at.port,
    get connections() {
      return connections.size
    },
    unref: () => void server.unref(),
    async close() {
      const closed = new Promise((resolve) => server.close(resolve))
      for (const association of [...associations.values()]) association.end()
      for (const connection of [...connections]) connection.end()
      await closed
    },
  }
}

// The identity of a handshake names host and subsystem: it is one of those that there are, or there is no connection.
function createTlsServer(
  { keys }: TargetTls,
  nqns: readonly string[],
  take: (socket: net.Socket) => void,
): net.Server {
  const known = new Map<string, Buffer>()
  for (const [hostnqn, key] of keys) {
    for (const subnqn of nqns) {
      for (const version of [0, 1] as const) {
        const { identity, psk } = deriveTlsPsk(key, { hostnqn, subnqn }, version)
        known.set(identity, psk)
      }
    }
  }
  const server = tls.createServer(
    { ...TLS_OPTIONS, pskCallback: (_socket, identity) => known.get(identity) ?? null },
    take,
  )
  return server.on('tlsClientError', (error) => log('%s', error.message))
}
