// Discovery: reads a log whole, its header, its records, and again where it has changed meanwhile (NVMe 2.0 base,
// 5.16.1.23); follows what it refers to; and makes addresses of what it offers.
// Trade-off: services are asked one after the other, so that a bound on how many is one.

import net from 'node:net'
import { ProtocolError } from '../../errors.ts'
import { type AdminSender, getLogPage } from '../host/admin-commands.ts'
import { isNqn } from './address.ts'
import {
  DISCOVERY_LOG,
  DISCOVERY_RECORD_BYTES,
  type DiscoveryLog,
  type DiscoveryRecord,
  decodeDiscoveryHeader,
  decodeDiscoveryLog,
  SUBTYPE,
  TRTYPE,
} from './fabrics.ts'

const ATTEMPTS = 10
/** More than any service has; what says so may say anything. */
const MOST_RECORDS = 65_536

/** @param controller of the discovery service */
export async function readDiscoveryLog(controller: AdminSender): Promise<DiscoveryLog> {
  for (let attempt = 1; ; attempt++) {
    const { genctr, numrec } = decodeDiscoveryHeader(await read(controller, DISCOVERY_RECORD_BYTES))
    if (numrec > MOST_RECORDS) throw new ProtocolError(`discovery log: NUMREC is ${numrec}`)
    const bytes = await read(controller, (numrec + 1) * DISCOVERY_RECORD_BYTES)
    // Records came in several commands, perhaps: the counter after them says whether they belong together.
    const after = decodeDiscoveryHeader(await read(controller, DISCOVERY_RECORD_BYTES))
    if (after.genctr === genctr && after.numrec === numrec) return decodeDiscoveryLog(bytes)
    if (attempt === ATTEMPTS)
      throw new ProtocolError(`discovery log: it changed ${ATTEMPTS} times while it was read`)
  }
}

function read(controller: AdminSender, bytes: number): Promise<Buffer> {
  return getLogPage(controller, DISCOVERY_LOG, bytes, { nsid: 0 })
}

/** How far referrals are followed: services refer to each other as they like. */
const MOST_DEPTH = 8
const MOST_SERVICES = 64

/** Where a service, or a subsystem, is. */
export interface Portal {
  readonly host: string
  readonly port: number
}

/** A service that was asked, or that could not be. */
export interface AskedService extends Portal {
  /** Referrals between it and the first one. */
  readonly depth: number
  readonly log: DiscoveryLog | null
  readonly error: Error | null
}

export interface Referrals {
  readonly services: readonly AskedService[]
  /** Services that were referred to, and not asked: they are too deep, or too many. */
  readonly left: number
}

/**
 * Asks a service, and those that it refers to, each once: up to 8 referrals deep, and 64 in all. Rejects where the first one
 * can't be asked.
 * @param ask reads the log of a service
 */
export async function followReferrals(
  first: Portal,
  ask: (service: Portal) => Promise<DiscoveryLog>,
): Promise<Referrals> {
  const services: AskedService[] = []
  const waiting: (Portal & { readonly depth: number })[] = [{ ...first, depth: 0 }]
  const known = new Set([keyOf(first)])
  let left = 0
  for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
    const { depth } = next
    let [log, error]: [DiscoveryLog | null, Error | null] = [null, null]
    try {
      log = await ask({ host: next.host, port: next.port })
    } catch (cause) {
      if (services.length === 0) throw cause
      error = cause as Error
    }
    services.push({ ...next, log, error })
    for (const record of log?.records ?? []) {
      const portal = record.subtype === SUBTYPE.REFERRAL ? portalOf(record) : null
      if (portal === null || known.has(keyOf(portal))) continue
      known.add(keyOf(portal))
      if (depth === MOST_DEPTH || services.length + waiting.length >= MOST_SERVICES) left++
      else waiting.push({ ...portal, depth: depth + 1 })
    }
  }
  return { services, left }
}

function keyOf({ host, port }: Portal): string {
  return `${host.toLowerCase()} ${port}`
}

/** Where a record leads to; null where that is not by TCP, or is no address and no name of a host. */
export function portalOf({ trtype, traddr, trsvcid }: DiscoveryRecord): Portal | null {
  const port = /^\d{1,5}$/.test(trsvcid) ? Number(trsvcid) : 0
  const host = net.isIP(traddr) !== 0 || /^[a-z\d]([a-z\d.-]*[a-z\d])?$/i.test(traddr)
  return trtype === TRTYPE.TCP && host && port > 0 && port <= 65_535 ? { host: traddr, port } : null
}

/** `nvme+tcp://HOST:PORT`, an IPv6 address in brackets. */
export function portalAddress({ host, port }: Portal): string {
  return `nvme+tcp://${host.includes(':') ? `[${host}]` : host}:${port}`
}

/** TREQ: a secure channel is required. SECTYPE: it is TLS 1.3. */
const TREQ_REQUIRED = 1
const SECTYPE_TLS13 = 2

/** The address that opens what a record offers; null where it is none of a subsystem that is reached by TCP. */
export function subsystemAddress(record: DiscoveryRecord): string | null {
  const { subtype, subnqn, treq, sectype } = record
  const portal = portalOf(record)
  if (subtype !== SUBTYPE.NVM || portal === null || !isNqn(subnqn)) return null
  const tls = (treq & 3) === TREQ_REQUIRED && sectype === SECTYPE_TLS13
  return `${portalAddress(portal)}/${encodeURIComponent(subnqn).replaceAll('%3A', ':')}${tls ? '?tls=1' : ''}`
}
