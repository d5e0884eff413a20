// Addresses of controllers over TCP: `nvme+tcp://host:4420/NQN?nsid=1&hdgst=1`, and what each option means; and several of
// them as paths to one subsystem: `nvme+tcp://host1,host2:4421/NQN?policy=queue-depth`.

import { AddressError } from '../../errors.ts'
import type { PathPolicy } from '../paths/path-queue.ts'
import { MAX_NSID } from '../spec/opcodes.ts'
import { MAX_NQN_BYTES } from './fabrics.ts'
import { DH_GROUP_NAMES } from './security/dh-groups.ts'
import { HASH, hashName, type IdentityVersion } from './security/keys.ts'

export interface TcpAddress {
  /** The address without `nsid`, for messages. */
  readonly address: string
  readonly host: string
  readonly port: number
  /** Of the subsystem. */
  readonly subnqn: string
  readonly nsid: number | undefined
  /** Header and data digests. */
  readonly hdgst: boolean
  readonly ddgst: boolean
  /** I/O queues, where the caller does not say. */
  readonly queues: number | undefined
  /** Keep Alive Timeout in milliseconds; 0 turns it off. */
  readonly kato: number
  /** Of the host, where they are not this machine's own. */
  readonly hostnqn: string | undefined
  readonly hostid: string | undefined
  /** Files with keys of DH-HMAC-CHAP: the host's, and the controller's. */
  readonly dhchap: string | undefined
  readonly dhchapctrl: string | undefined
  /** By number, the weakest hash and DH group that are taken. */
  readonly dhhash: number
  readonly dhgroup: number
  /** TLS, with the key of a file, and the version of the identity that goes with it. */
  readonly tls: boolean
  readonly tlskey: string | undefined
  readonly tlsid: IdentityVersion
  /** What connections of I/O queues are made of. */
  readonly link: LinkKind
  /** How a command's path is chosen, where there are several. */
  readonly policy: PathPolicy
}

/** A socket of Node's, which goes by the event loop; or one of the system's, which is polled. */
export type LinkKind = 'socket' | 'raw'

export const TCP_SCHEME = 'nvme+tcp:'
export const DEFAULT_PORT = 4420
/** Long enough for a program that computes for seconds between two turns of its event loop. */
export const DEFAULT_KATO_MS = 15_000

// Promises are faster by it, it needs nothing of the system, and TLS goes by it.
const DEFAULT_LINK: LinkKind = 'socket'

const FORM = /^nvme\+tcp:\/\/([^/?#\s]+)\/([^/?#\s]*)(?:\?([^#]*))?$/i
const ENDPOINT = /^(\[[0-9a-f:.%\w]+\]|[^/:?#[\]@\s,]+)(?::(\d{1,5}))?$/i

const OPTIONS = [
  ...(['nsid', 'hdgst', 'ddgst', 'queues', 'kato', 'hostnqn', 'hostid', 'link'] as const),
  ...(['dhchap', 'dhchapctrl', 'dhhash', 'dhgroup', 'tls', 'tlskey', 'tlsid', 'policy'] as const),
]

type OptionName = (typeof OPTIONS)[number]

const HASH_NAMES = [HASH.SHA256, HASH.SHA384, HASH.SHA512].map(hashName)

/** The addresses of all paths: one for each host. Throws AddressError, which names the part. */
export function parseTcpPaths(text: string): TcpAddress[] {
  const match = FORM.exec(text)
  const endpoints = (match?.[1] ?? '').split(',').map((one) => ENDPOINT.exec(one))
  if (match === null || endpoints.includes(null)) {
    throw new AddressError(
      `'${text}': nvme+tcp://HOST[:PORT][,HOST[:PORT]…]/NQN[?OPTION=VALUE&…] is needed, an IPv6 address in brackets; more than one HOST are paths to one subsystem, as \`unvme discover\` lists them`,
    )
  }
  const [, hosts, nqn, query] = match
  const shared = parseShared(text, nqn!, query ?? '')
  const all = (endpoints as RegExpExecArray[]).map(([endpoint, host, port]) => {
    const number = port === undefined ? DEFAULT_PORT : Number(port)
    if (number < 1 || number > 65535) throw new AddressError(`'${text}': there is no port ${port}`)
    const address = withoutNsid(text.replace(hosts!, endpoint))
    return { ...shared, address, host: host!.replace(/^\[|\]$/g, ''), port: number }
  })
  checkPaths(text, all)
  return all
}

/** Throws AddressError where what is given as several paths is no such thing. */
export function checkPaths(text: string, all: readonly TcpAddress[]): void {
  if (all.length === 1) return
  const names = all.map(({ host, port, subnqn }) => `${host.toLowerCase()} port ${port} ${subnqn}`)
  const twice = names.find((name, i) => names.indexOf(name) < i)
  if (twice !== undefined) throw new AddressError(`'${text}': path ${twice} is given twice`)
  // Without it nothing says when a target that is not heard of any more has ended what was in flight.
  if (all.some(({ kato }) => kato === 0)) {
    throw new AddressError(`'${text}': kato=0 is for one path: several need Keep Alive`)
  }
}

function parseShared(
  text: string,
  nqn: string,
  query: string,
): Omit<TcpAddress, 'address' | 'host' | 'port'> {
  const given = readQuery(text, query)
  const file = (value: string) => decode(text, value) || undefined
  const option = <T>(name: OptionName, parse: (value: string) => T | undefined, byDefault: T): T => {
    const value = given.get(name)
    if (value === undefined) return byDefault
    const parsed = parse(value)
    if (parsed === undefined) throw new AddressError(`'${text}': bad value ${name}=${value}`)
    return parsed
  }
  const subnqn = decode(text, nqn)
  if (!isNqn(subnqn)) throw new AddressError(`'${text}': ${badNqn(subnqn)}`)
  return {
    subnqn,
    nsid: option<number | undefined>('nsid', integer(1, MAX_NSID), undefined),
    hdgst: option('hdgst', integer(0, 1), 0) === 1,
    ddgst: option('ddgst', integer(0, 1), 0) === 1,
    queues: option<number | undefined>('queues', integer(1, 65535), undefined),
    kato: option('kato', integer(0, 2 ** 31), DEFAULT_KATO_MS),
    hostnqn: option<string | undefined>('hostnqn', (value) => nqnOf(text, value), undefined),
    hostid: option<string | undefined>('hostid', uuid, undefined),
    dhchap: option<string | undefined>('dhchap', file, undefined),
    dhchapctrl: option<string | undefined>('dhchapctrl', file, undefined),
    dhhash: option('dhhash', oneOf(HASH_NAMES, HASH.SHA256), HASH.SHA256),
    dhgroup: option('dhgroup', oneOf(DH_GROUP_NAMES, 0), 0),
    tls: option('tls', integer(0, 1), 0) === 1,
    tlskey: option<string | undefined>('tlskey', file, undefined),
    tlsid: option('tlsid', integer(0, 1), 1) as IdentityVersion,
    link: option('link', linkKind, DEFAULT_LINK),
    policy: option('policy', policyOf, 'round-robin'),
  }
}

function readQuery(text: string, query: string): Map<OptionName, string> {
  const given = new Map<OptionName, string>()
  for (const part of query.split('&').filter(Boolean)) {
    const equals = part.indexOf('=')
    const name = (equals < 0 ? part : part.slice(0, equals)) as OptionName
    if (!OPTIONS.includes(name)) {
      throw new AddressError(`'${text}': unknown option '${name}'; there are ${OPTIONS.join(', ')}`)
    }
    if (given.has(name)) throw new AddressError(`'${text}': option '${name}' is given twice`)
    given.set(name, equals < 0 ? '' : part.slice(equals + 1))
  }
  return given
}

function linkKind(value: string): LinkKind | undefined {
  return value === 'socket' || value === 'raw' ? value : undefined
}

function policyOf(value: string): PathPolicy | undefined {
  return value === 'round-robin' || value === 'queue-depth' ? value : undefined
}

function integer(min: number, max: number) {
  return (text: string): number | undefined => {
    const value = /^\d{1,10}$/.test(text) ? Number(text) : Number.NaN
    return value >= min && value <= max ? value : undefined
  }
}

/** The number that a name stands for. */
function oneOf(names: readonly string[], first: number) {
  return (text: string): number | undefined => {
    const at = names.indexOf(text)
    return at < 0 ? undefined : first + at
  }
}

function nqnOf(text: string, value: string): string | undefined {
  const nqn = decode(text, value)
  return isNqn(nqn) ? nqn : undefined
}

function decode(text: string, part: string): string {
  try {
    return decodeURIComponent(part)
  } catch {
    throw new AddressError(`'${text}': '${part}' is not percent-encoded`)
  }
}

function uuid(value: string): string | undefined {
  const text = value.toLowerCase()
  return isUuid(text) ? text : undefined
}

/** True for a UUID in lower case. */
export function isUuid(text: string): boolean {
  return /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(text)
}

/** True for an NVMe Qualified Name. */
export function isNqn(text: string): boolean {
  const named = /^nqn\.\d{4}-\d{2}\.[^\s\0]+$/.test(text)
  return named && Buffer.byteLength(text) <= MAX_NQN_BYTES
}

function badNqn(text: string): string {
  const bytes = Buffer.byteLength(text)
  if (bytes > MAX_NQN_BYTES) return `its NQN has ${bytes} bytes, at most ${MAX_NQN_BYTES} are possible`
  return `'${text}' is no NQN, as nqn.2014-08.org.nvmexpress:uuid:… is one`
}

function withoutNsid(text: string): string {
  return text.replace(/([?&])nsid=[^&]*(&|$)/, (_, before: string, after: string) =>
    after === '&' ? before : '',
  )
}
