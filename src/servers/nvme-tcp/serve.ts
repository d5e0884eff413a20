// The server: what is served, to whom, where, and its end. Protocol and associations are lib/nvme/tcp/target's, commands
// those of HostController.

import net from 'node:net'
import {
  AbortError,
  ArgumentTypeError,
  ArgumentValueError,
  ClosedError,
  UnsupportedError,
} from '../../../lib/errors.ts'
import { logger } from '../../../lib/log/index.ts'
import { isNqn } from '../../../lib/nvme/tcp/address.ts'
import { DHCHAP_KEY, type KeyForm, TLS_KEY } from '../../../lib/nvme/tcp/security/keys.ts'
import { keyFromFile } from '../../../lib/nvme/tcp/security/load.ts'
import {
  type ListenerAddress,
  serveTcp,
  type TargetOptions,
  type TargetSubsystem,
  type TcpTargetServer,
} from '../../../lib/nvme/tcp/target/index.ts'
import { hostCapsules, parseSimAddress } from '../../../lib/sim/index.ts'
import { throwIfAborted } from '../../../lib/sys/abort.ts'
import { realPath } from '../../../lib/sys/file.ts'
import type { OptionNames } from '../../../lib/sys/options.ts'
import { PAGE_BYTES } from '../../../lib/sys/units.ts'
import { checkInteger, checkOptions, checkSignal } from '../../queue/validate.ts'
import { createEnd } from '../end.ts'
import { noCounters, nqnOf, nqnOfName, openDevices } from './devices.ts'
import { HostController } from './host-controller.ts'
import type { DeviceNamespace, IoCounters } from './namespace.ts'
import { fileBeside, ReservationFile } from './reservation-file.ts'
import { ANA_STATES, type AnaState, Subsystem } from './subsystem.ts'

const log = logger('serve')

const PORT = 4420
const QUEUES = 16
const ENTRIES = 128
const MEMORY_BYTES = 8 * 2 ** 20

export interface NvmeTcpServerOptions {
  /** Where hosts connect: `host:port`, or several of them. Default: `127.0.0.1:4420`; port 0 takes a free one. */
  listen?: string | readonly string[] | undefined
  /** Listen at addresses that other machines can reach. Without it anything but the loopback is refused. Default: false. */
  allowRemote?: boolean | undefined
  /** The subsystem's name. Default: one made of model, serial number and namespaces, the same after a restart. */
  nqn?: string | undefined
  /** Hosts can't write. Default: false. */
  readOnly?: boolean | undefined
  /** Host NQNs that may connect. Default: every one. */
  hosts?: readonly string[] | undefined
  /** Files with the keys of hosts for DH-HMAC-CHAP, by host NQN: only these can connect. */
  dhchapKeyFiles?: Readonly<Record<string, string>> | undefined
  /** A file with the server's own key, for hosts that ask it to prove itself. */
  dhchapCtrlKeyFile?: string | undefined
  /** Files with TLS keys, by host NQN: every connection has to be TLS then. */
  tlsKeyFiles?: Readonly<Record<string, string>> | undefined
  /** Discovery services elsewhere (`host:port`) that this one names. */
  referrals?: readonly string[] | undefined
  /** How good a way each listener is at first: one state for all, or one for each. Default: `optimized`. */
  ana?: AnaState | readonly AnaState[] | undefined
  /**
   * Hosts may format, sanitize, load firmware and send security commands, where one namespace is served. Default: false.
   */
  allowAdmin?: boolean | undefined
  /** Most I/O queues of a host, from 1 to 128. Default: 16. */
  queues?: number | undefined
  /** Entries of each queue, from 2 to 1024: one more than commands in flight. Default: 128. */
  queueSize?: number | undefined
  /**
   * Bytes of DMA memory of each device for the data of commands, from 1 MiB, in whole MiB: commands that find none wait, and
   * no host has more than a quarter. Default: 8 MiB.
   */
  memory?: number | undefined
  /**
   * A file for reservations that hosts want to outlive the server (Persist Through Power Loss). Default: one beside the disk
   * image of a software controller (`disk.img.reservations.json`); otherwise hosts can't ask for it.
   */
  reservations?: string | undefined
  /** Most connections: a host has one for each queue, and one more. Default: 256. */
  maxConnections?: number | undefined
  /** Milliseconds that a connection may take to Connect. Default: 10 000. */
  connectTimeout?: number | undefined
  /** Milliseconds for which a host may neither send what was asked for nor take what it has asked for. Default: 30 000. */
  stallTimeout?: number | undefined
  /** Closes the server. */
  signal?: AbortSignal | undefined
}

const NAMES: OptionNames<NvmeTcpServerOptions> = {
  ...{ listen: true, allowRemote: true, nqn: true, readOnly: true, hosts: true, dhchapKeyFiles: true },
  ...{
    dhchapCtrlKeyFile: true,
    tlsKeyFiles: true,
    referrals: true,
    ana: true,
    allowAdmin: true,
    queues: true,
  },
  ...{
    queueSize: true,
    reservations: true,
    memory: true,
    maxConnections: true,
    connectTimeout: true,
    stallTimeout: true,
    signal: true,
  },
}

/** One address that a server listens at. */
export interface NvmeTcpListener {
  /** `host:port`. */
  readonly address: string
  readonly host: string
  readonly port: number
  /** How good a way it is: to the first namespace, and to each in the order in which they are served. */
  readonly anaState: AnaState
  readonly anaStates: readonly AnaState[]
  readonly closed: boolean
  /** Listens no more, and ends what came by it. */
  close(): Promise<void>
}

/** What a server has done. */
export interface NvmeTcpServerStats extends Readonly<IoCounters> {
  /** Connections that are open, and those that were refused since there were too many. */
  readonly connections: number
  readonly refusedConnections: number
  /** Hosts that have a controller, by name: one that connected twice is there twice. */
  readonly hosts: readonly string[]
  /** Commands that devices have now. */
  readonly inFlight: number
  /** Bytes of DMA memory that commands have, and bytes that wait to be taken by hosts. */
  readonly memoryInUse: number
  readonly unsentBytes: number
}

/** A running server. */
export interface NvmeTcpServer extends AsyncDisposable {
  /** The subsystem's name. */
  readonly nqn: string
  /** As `open` takes it, of the first listener. */
  readonly address: string
  readonly listeners: readonly NvmeTcpListener[]
  readonly stats: NvmeTcpServerStats
  /**
   * Says how good a way a listener is from now on, by its index or itself; its hosts get an event.
   * @param nsid to which namespace, by its id here: from 1 on, in the order in which they are served. Default: to all
   */
  setAnaState(listener: number | NvmeTcpListener, state: AnaState, nsid?: number): void
  /** Which discovery services elsewhere (`host:port`) this one names from now on; its readers get an event. */
  setReferrals(referrals: readonly string[]): void
  /** Takes nothing new, finishes what is in flight, flushes, and ends every connection. The namespaces stay open. */
  close(): Promise<void>
  /** Resolves when it is closed, by whomever; rejects where the last flush failed. */
  readonly closed: Promise<void>
}

interface Served {
  readonly target: TargetSubsystem
  setAnaState(listener: number, state: AnaState, nsid?: number): void
  anaStates(listener: number): readonly AnaState[]
  readonly counters: IoCounters
  readonly inFlight: number
  readonly memoryInUse: number
  /** Waits for what is in flight, and flushes. */
  finish(): Promise<void>
  close(): void
}

/** See index.ts. */
export async function serveNvmeTcp(
  namespaces: string | readonly DeviceNamespace[],
  given: NvmeTcpServerOptions = {},
): Promise<NvmeTcpServer> {
  const options = checkOptions('serveNvmeTcp', given, NAMES)
  const { listen = `127.0.0.1:${PORT}`, allowRemote = false, signal, maxConnections = 256 } = options
  const { connectTimeout = 10_000, stallTimeout = 30_000, referrals = [] } = options
  checkSignal('serveNvmeTcp', signal)
  throwIfAborted(signal)
  checkInteger('serveNvmeTcp: maxConnections', maxConnections, 1, 65_535)
  checkInteger('serveNvmeTcp: connectTimeout', connectTimeout, 1, 2 ** 31 - 1)
  checkInteger('serveNvmeTcp: stallTimeout', stallTimeout, 1, 2 ** 31 - 1)
  const listeners = (typeof listen === 'string' ? [listen] : listen).map((text) =>
    parseListen(text, allowRemote),
  )
  if (listeners.length === 0) throw new ArgumentValueError('serveNvmeTcp: an address to listen at is needed')
  const states = statesOf(options.ana, listeners.length)
  const security = securityOf(options)
  const served =
    typeof namespaces === 'string'
      ? serveSim(namespaces, options, states)
      : await serveNamespaces(namespaces, options, states)
  let server: TcpTargetServer
  try {
    server = await serveTcp({
      ...{
        listeners,
        subsystems: [served.target],
        maxConnections,
        helloMs: connectTimeout,
        stallMs: stallTimeout,
      },
      ...{ referrals: referrals.map(parseReferral), ...security },
    })
  } catch (error) {
    served.close()
    throw error
  }
  const { nqn } = served.target
  const all = server.listeners.map((listener, i): NvmeTcpListener => {
    const { host, port } = listener
    return {
      ...{
        host,
        port,
        address: `${net.isIPv6(host) ? `[${host}]` : host}:${port}`,
        close: () => listener.close(),
      },
      get anaState() {
        return served.anaStates(i)[0]!
      },
      get anaStates() {
        return served.anaStates(i)
      },
      get closed() {
        return listener.closed
      },
    }
  })
  const end = async () => {
    server.quiesce()
    try {
      await served.finish()
    } finally {
      await server.close()
      served.close()
    }
  }
  const takeBack =
    typeof namespaces === 'string' ? [] : namespaces.map((namespace) => namespace.onClose(() => close()))
  const { close, closed } = createEnd(end, signal, takeBack)
  log('%s at %s', nqn, all.map(({ address }) => address).join(', '))
  const gone = typeof namespaces === 'string' ? undefined : namespaces.find((namespace) => namespace.closed)
  if (signal?.aborted || gone !== undefined) {
    // Who has ended it before it could be heard of.
    await close().catch((error: Error) => log('%s', error.message))
    throw signal?.aborted
      ? new AbortError(signal.reason)
      : new ClosedError(`serveNvmeTcp: ${gone!.device} is closed`)
  }
  return {
    nqn,
    address: `nvme+tcp://${all[0]!.address}/${nqn}`,
    listeners: all,
    closed,
    close,
    get stats() {
      const { counters, inFlight, memoryInUse } = served
      const { connections, refused, hosts, unsent } = server
      return {
        ...{
          connections,
          refusedConnections: refused,
          hosts: hosts.map(({ hostnqn }) => hostnqn),
          ...counters,
        },
        ...{ inFlight, memoryInUse, unsentBytes: unsent },
      }
    },
    setAnaState(listener, state, nsid) {
      const index = typeof listener === 'number' ? listener : all.indexOf(listener)
      if (all[index] === undefined) {
        throw new ArgumentValueError(`setAnaState: no listener ${String(listener)}: there are ${all.length}`)
      }
      checkState('setAnaState', state)
      const { length } = served.anaStates(index)
      if (nsid !== undefined) checkInteger('setAnaState: nsid', nsid, 1, length)
      served.setAnaState(index, state, nsid)
    },
    setReferrals: (next) => server.refer(next.map(parseReferral)),
    [Symbol.asyncDispose]: close,
  }
}

/** The software controller as it is: one host at a time, and no ANA. */
function serveSim(address: string, options: NvmeTcpServerOptions, states: readonly AnaState[]): Served {
  for (const name of [
    'readOnly',
    'allowAdmin',
    'queues',
    'queueSize',
    'memory',
    'ana',
    'reservations',
  ] as const) {
    if (options[name] === undefined) continue
    throw new UnsupportedError(`serveNvmeTcp: ${name} is for open namespaces, not for all of ${address}`)
  }
  const config = parseSimAddress(address)
  if (config.thread || config.nsid !== undefined) {
    throw new ArgumentValueError(`serveNvmeTcp: '${address}': thread and nsid have no meaning here`)
  }
  const nqn = checkNqn(options.nqn ?? nqnOfName(address))
  const sim = hostCapsules(config)
  return {
    target: { nqn, controller: sim },
    setAnaState(_listener, state) {
      if (state === 'optimized') return
      throw new UnsupportedError(`setAnaState: a software controller that is served as a whole has no ANA`)
    },
    anaStates: (listener) => [states[listener]!],
    counters: noCounters(),
    inFlight: 0,
    memoryInUse: 0,
    finish: async () => {},
    close: () => sim.close(),
  }
}

async function serveNamespaces(
  namespaces: readonly DeviceNamespace[],
  options: NvmeTcpServerOptions,
  anaStates: readonly AnaState[],
): Promise<Served> {
  if (!Array.isArray(namespaces) || namespaces.length === 0) {
    throw new ArgumentTypeError(
      'serveNvmeTcp: namespaces must be an array of open namespaces, or an address of sim:',
    )
  }
  const { readOnly = false, allowAdmin = false, queues = QUEUES, queueSize = ENTRIES } = options
  const { memory: memoryBytes = MEMORY_BYTES } = options
  checkInteger('serveNvmeTcp: queues', queues, 1, 128)
  checkInteger('serveNvmeTcp: queueSize', queueSize, 2, 1024)
  checkInteger('serveNvmeTcp: memory', memoryBytes, 2 ** 20, 2 ** 31 - PAGE_BYTES)
  const nqn = checkNqn(options.nqn ?? nqnOf(namespaces))
  const files = new Map<string, ReservationFile>()
  const fileFor = (address: string) => {
    const place =
      options.reservations === undefined
        ? fileBeside(address)
        : { path: realPath(options.reservations), mode: 0o600 }
    if (place === undefined) return null
    const file = files.get(place.path) ?? new ReservationFile(place.path, place.mode)
    files.set(place.path, file)
    return file
  }
  const devices = await openDevices(namespaces, {
    ...{ call: 'serveNvmeTcp', noMetadata: 'NVMe/TCP has no buffer of its own for metadata' },
    ...{ subnqn: nqn, readOnly, memory: memoryBytes, shared: true, fileFor },
  })
  const { namespaces: served, limits } = devices
  const subsystem = new Subsystem({
    ...{ nqn, namespaces: served, limits, allowAdmin, queues, entries: queueSize, anaStates },
  })
  devices.onChange((nsid) => subsystem.changed(nsid))
  return {
    target: { nqn, connect: (host) => new HostController(subsystem, host) },
    setAnaState: (listener, state, nsid) => subsystem.setAnaState(listener, state, nsid),
    anaStates: (listener) => subsystem.anaStates(listener),
    counters: devices.counters,
    get inFlight() {
      return devices.inFlight
    },
    get memoryInUse() {
      return devices.memoryInUse
    },
    finish: () => devices.finish(),
    close: () => devices.close(),
  }
}

function checkNqn(nqn: string): string {
  if (isNqn(nqn)) return nqn
  throw new ArgumentValueError(`serveNvmeTcp: nqn '${nqn}': nqn.YYYY-MM.DOMAIN:NAME is needed`)
}

/** `host:port`, `host` or `[v6]:port`. */
function splitAddress(text: string): { host: string; port: number } | null {
  const match = /^(?:\[([0-9a-f:.%]+)\]|([^[\]:/\s]+))(?::(\d{1,5}))?$/i.exec(text)
  const port = Number(match?.[3] ?? PORT)
  return match === null || port > 65_535 ? null : { host: match[1] ?? match[2]!, port }
}

function parseListen(text: string, allowRemote: boolean): ListenerAddress {
  const address = typeof text === 'string' ? splitAddress(text) : null
  if (address === null) {
    throw new ArgumentValueError(
      `serveNvmeTcp: listen '${String(text)}': HOST:PORT is needed, or [IPv6]:PORT`,
    )
  }
  if (!allowRemote && !isLoopback(address.host)) {
    throw new ArgumentValueError(
      `serveNvmeTcp: other machines reach ${address.host}: allowRemote: true, or --allow-remote, says that they may`,
    )
  }
  return address
}

/** Whether no other machine reaches it. */
export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || (net.isIPv4(host) && host.startsWith('127.'))
}

function parseReferral(text: string): { host: string; port: number } {
  const address = splitAddress(text)
  if (address !== null) return address
  throw new ArgumentValueError(`serveNvmeTcp: referral '${text}': HOST:PORT is needed, or [IPv6]:PORT`)
}

function statesOf(given: NvmeTcpServerOptions['ana'], count: number): AnaState[] {
  const states =
    typeof given === 'object' ? [...given] : new Array<AnaState>(count).fill(given ?? 'optimized')
  if (states.length !== count) {
    throw new ArgumentValueError(`serveNvmeTcp: ana has ${states.length} states for ${count} listeners`)
  }
  for (const state of states) checkState('serveNvmeTcp', state)
  return states
}

function checkState(call: string, state: AnaState): void {
  if (Object.hasOwn(ANA_STATES, state)) return
  const words = Object.keys(ANA_STATES).join(', ')
  throw new ArgumentValueError(`${call}: an ANA state is one of ${words}, received '${String(state)}'`)
}

function securityOf(options: NvmeTcpServerOptions): Pick<TargetOptions, 'hosts' | 'dhchap' | 'tls'> {
  const { hosts, dhchapKeyFiles, dhchapCtrlKeyFile, tlsKeyFiles } = options
  const name = (nqn: string) => {
    if (isNqn(nqn)) return nqn
    throw new ArgumentValueError(`serveNvmeTcp: '${nqn}' is no host NQN: nqn.YYYY-MM.DOMAIN:NAME is needed`)
  }
  const keys = (form: KeyForm, files: Readonly<Record<string, string>>) =>
    new Map(Object.entries(files).map(([nqn, file]) => [name(nqn), keyFromFile(form, file)]))
  if (dhchapCtrlKeyFile !== undefined && dhchapKeyFiles === undefined) {
    throw new ArgumentValueError('serveNvmeTcp: a key of the server needs keys of hosts (dhchapKeyFiles)')
  }
  const secrets = dhchapKeyFiles && keys(DHCHAP_KEY, dhchapKeyFiles)
  const controllerKey =
    dhchapCtrlKeyFile === undefined ? {} : { controllerKey: keyFromFile(DHCHAP_KEY, dhchapCtrlKeyFile) }
  return {
    ...(hosts !== undefined && { hosts: new Set(hosts.map(name)) }),
    ...(secrets !== undefined && { dhchap: { keyOf: (nqn: string) => secrets.get(nqn), ...controllerKey } }),
    ...(tlsKeyFiles !== undefined && { tls: { keys: keys(TLS_KEY, tlsKeyFiles) } }),
  }
}
