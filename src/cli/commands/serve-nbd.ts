// `unvme serve ADDR --nbd PLACE`: a namespace for NBD clients.

import fs from 'node:fs'
import path from 'node:path'
import { UsageError } from '../../../lib/errors.ts'
import type { NbdTlsOptions } from '../../servers/index.ts'
import { withOpen } from '../data.ts'
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
  await withOpen(await open(address, { force, signal, ...(nsid !== undefined && { nsid }) }), async (ns) => {
    const options = { ...where, readOnly, allowRemote, maxClients, tls, signal }
    const server = await serveNbd({ [words.export]: ns }, options)
    print(`serving ${address} at ${server.address}`)
    note(`${server.audience} can ${readOnly ? 'read it' : 'read and write it'}`)
    await server.closed
    // Its failure, where the last flush failed.
    await server.close()
  })
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
