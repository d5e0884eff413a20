// Addresses of NBD exports: the URIs that libnbd knows.

import { AddressError } from '../errors.ts'
import { socketPathBytes } from '../sys/socket-path.ts'
import { NBD_PORT } from './protocol.ts'

/** What an address of an export says. */
export interface NbdAddress {
  readonly uri: string
  readonly where: { readonly path: string } | { readonly host: string; readonly port: number }
  readonly exportName: string
  /** TLS alone. */
  readonly secure: boolean
  readonly user: string
  /** Files of libnbd's parameters. */
  readonly certificates: string | undefined
  readonly pskFile: string | undefined
}

/** `nbd://host:port/export`, `nbd+unix:///export?socket=PATH`, and both with `nbds` for TLS. Throws AddressError. */
export function parseNbdAddress(uri: string): NbdAddress {
  const bad = (why: string, cause?: unknown) => new AddressError(`'${uri}': ${why}`, { cause })
  const [, s, unix, rest] = /^nbd(s?)(\+unix)?:(\/\/.*)$/.exec(uri) ?? []
  if (rest === undefined) throw bad('nbd://HOST[:PORT]/EXPORT or nbd+unix:///EXPORT?socket=PATH is needed')
  let url: URL
  let exportName: string
  try {
    url = new URL(`http:${unix ? rest.replace(/^\/\/([^/@]*@)?\//, '//$1localhost/') : rest}`)
    exportName = decodeURIComponent(url.pathname.slice(1))
  } catch (cause) {
    throw bad('it is no URI', cause)
  }
  // It is a URI's query, and no form: + is no space.
  const query = new URLSearchParams(url.search.replaceAll('+', '%2B'))
  const socket = query.get('socket')
  for (const name of query.keys()) {
    if (!['socket', 'tls-certificates', 'tls-psk-file'].includes(name)) throw bad(`'${name}' is not known`)
  }
  if (unix ? !socket : socket !== null) throw bad(unix ? 'socket=PATH is needed' : 'socket= is for nbd+unix')
  if (socket) socketPathBytes(socket)
  // The port that a URL of http leaves out.
  const port = /:80(\/|$|\?)/.test(rest) ? 80 : Number(url.port || NBD_PORT)
  const host = url.hostname.replace(/^\[(.*)\]$/, '$1')
  return {
    uri,
    where: unix ? { path: socket! } : { host, port },
    exportName,
    secure: s === 's',
    user: decodeURIComponent(url.username),
    certificates: query.get('tls-certificates') ?? undefined,
    pskFile: query.get('tls-psk-file') ?? undefined,
  }
}
