// `unvme serve ADDR --nbd PLACE`: namespaces for NBD clients.

import fs from 'node:fs'
import path from 'node:path'
import { UsageError } from '../../../lib/errors.ts'
import type { Namespace } from '../../namespace/namespace.ts'
import type { NbdTlsOptions } from '../../servers/index.ts'
import { value, valueOr } from '../define.ts'
import { note, print } from '../output.ts'
import { integer, text } from '../parse.ts'

/** The options of `serve` that are about NBD. */
export const nbdOptions = {
  nbd: value('PLACE', text, 'serve NBD at unix:PATH, PORT or HOST:PORT'),
  export: valueOr('NAME', text, '', 'the name of the export', { fallbackText: 'the empty one' }),
  maxClients: valueOr('N', integer({ min: 1, max: 65_536 }), 64, 'connections at a time'),
  tlsCertificates: value(
    'DIR',
    text,
    "let clients in by TLS alone: server-cert.pem, server-key.pem, and ca-cert.pem for who signs clients' certificates",
  ),
  tlsPsk: value(
    'FILE',
    text,
    'let clients in by TLS alone, with keys as psktool makes them: lines of NAME:HEX',
  ),
}

interface NbdWords {
  readonly export: string
  readonly also: readonly string[]
  readonly namespaceId: number | undefined
  readonly readOnly: boolean
  readonly allowRemote: boolean
  readonly force: boolean
  readonly maxClients: number
  readonly tlsCertificates: string | undefined
  readonly tlsPsk: string | undefined
}

/** Opens what is to be served, serves it until the signal, and closes it. */
export async function serveByNbd(
  address: string,
  place: string,
  words: NbdWords,
  signal: AbortSignal,
): Promise<void> {
  const { open } = await import('../../open.ts')
  const { serveNbd } = await import('../../servers/index.ts')
  const { namespaceId: nsid, readOnly, allowRemote, maxClients, force } = words
  const where = parsePlace(place)
  const tls = readTls(words)
  const exports = parseExports(address, words)
  const namespaces: Record<string, Namespace> = {}
  try {
    for (const [name, addr] of exports) {
      const own = name === words.export && nsid !== undefined ? { nsid } : {}
      namespaces[name] = await open(addr, { qcount: QUEUES, force, signal, ...own })
    }
    const server = await serveNbd(namespaces, { ...where, readOnly, allowRemote, maxClients, tls, signal })
    print(`serving ${[...exports.values()].join(', ')} at ${server.address}`)
    note(`${server.audience} can ${readOnly ? 'read it' : 'read and write it'}`)
    await server.closed
  } finally {
    for (const ns of Object.values(namespaces)) await ns.close()
  }
}

/** Of each device, which connections are spread over. */
const QUEUES = 4

/** Addresses by the names of their exports. An address has a colon or a slash before its first '=', a name has none. */
function parseExports(address: string, { export: first, also }: NbdWords): ReadonlyMap<string, string> {
  const exports = new Map([[first, address]])
  for (const word of also) {
    const [, name, addr] = /^([^=:/?]+)=(.+)$/.exec(word) ?? []
    if (name === undefined || addr === undefined) {
      throw new UsageError(`--also ${word}: NAME=ADDR is needed with --nbd`)
    }
    if (exports.has(name)) throw new UsageError(`--also ${word}: there is an export '${name}' already`)
    exports.set(name, addr)
  }
  return exports
}

function parsePlace(place: string): { path: string } | { host?: string; port: number } {
  if (place.startsWith('unix:') && place.length > 'unix:'.length) return { path: place.slice('unix:'.length) }
  const [, host, port] = /^(?:(.+):)?(\d{1,5})$/.exec(place) ?? []
  if (port === undefined || Number(port) > 65_535) {
    throw new UsageError(`--nbd ${place}: unix:PATH, PORT or HOST:PORT is needed`)
  }
  return { ...(host !== undefined && { host: host.replace(/^\[(.*)\]$/, '$1') }), port: Number(port) }
}

function readTls({ tlsCertificates: folder, tlsPsk }: NbdWords): NbdTlsOptions | undefined {
  if (folder !== undefined && tlsPsk !== undefined)
    throw new UsageError('--tls-certificates or --tls-psk: one of both')
  if (folder !== undefined) {
    const read = (name: string) => fs.readFileSync(path.join(folder, name))
    const ca = fs.existsSync(path.join(folder, 'ca-cert.pem')) ? read('ca-cert.pem') : undefined
    return { cert: read('server-cert.pem'), key: read('server-key.pem'), ca }
  }
  if (tlsPsk === undefined) return undefined
  const lines = fs
    .readFileSync(tlsPsk, 'utf8')
    .split('\n')
    .filter((line) => line.trim() !== '')
  return {
    psk: Object.fromEntries(
      lines.map((line) => {
        const at = line.lastIndexOf(':')
        return [line.slice(0, at), Buffer.from(line.slice(at + 1).trim(), 'hex')]
      }),
    ),
  }
}
