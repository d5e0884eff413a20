// TLS of an NBD server: certificates, or keys that both sides have, begun on a socket by STARTTLS.

import type net from 'node:net'
import tls from 'node:tls'
import { ArgumentTypeError, AuthenticationError } from '../../../lib/errors.ts'
import type { OptionNames } from '../../../lib/sys/options.ts'
import { checkOptions } from '../../queue/validate.ts'

export interface NbdTlsOptions {
  /** The server's certificate and its key, PEM. */
  cert?: string | Uint8Array | undefined
  key?: string | Uint8Array | undefined
  /** Certificates of those who sign clients' certificates, PEM: only clients with one are let in then. */
  ca?: string | Uint8Array | undefined
  /** In place of certificates: keys of clients by their names, as `psktool` makes them. */
  psk?: Readonly<Record<string, Uint8Array>> | undefined
}

const TLS_NAMES: OptionNames<NbdTlsOptions> = { cert: true, key: true, ca: true, psk: true }

/** What begins TLS on a socket whose client has asked for it. Throws ArgumentTypeError, or OpenSSL's errors. */
export async function secureSockets(
  options: NbdTlsOptions,
  { negotiationTimeout = 10_000 }: { negotiationTimeout?: number | undefined },
): Promise<(socket: net.Socket) => Promise<net.Socket>> {
  const { cert, key, ca, psk } = checkOptions('serveNbd: tls', options, TLS_NAMES)
  if (psk === undefined && (cert === undefined || key === undefined)) {
    throw new ArgumentTypeError('serveNbd: tls needs cert and key, or psk')
  }
  const secureContext = tls.createSecureContext({
    ...{ cert: text(cert), key: text(key), ca: text(ca) },
    minVersion: 'TLSv1.2',
    // Node gives keys of both sides (PSK) to TLS 1.2 alone.
    ...(psk !== undefined && { maxVersion: 'TLSv1.2', ciphers: 'PSK' }),
  })
  const how = {
    ...{ isServer: true, secureContext, handshakeTimeout: negotiationTimeout },
    ...(ca !== undefined && { requestCert: true, rejectUnauthorized: true }),
    ...(psk !== undefined && {
      pskCallback: (_socket: tls.TLSSocket, identity: string) => psk[identity] ?? null,
    }),
  }
  return (socket) =>
    new Promise((resolve, reject) => {
      const secured = new tls.TLSSocket(socket, how as tls.TLSSocketOptions)
      secured.once('error', reject)
      secured.once('close', () =>
        reject(new AuthenticationError('the client has gone during the TLS handshake')),
      )
      secured.once('secure', () => {
        // An authority was named, and nobody has signed for this client.
        const refusal = ca === undefined ? null : verifyError(secured)
        if (refusal !== null) {
          secured.destroy()
          reject(new AuthenticationError(`the client's certificate: ${refusal}`))
          return
        }
        secured.off('error', reject)
        resolve(secured)
      })
    })
}

const text = (pem: string | Uint8Array | undefined) =>
  pem === undefined || typeof pem === 'string' ? pem : Buffer.from(pem)

function verifyError(socket: tls.TLSSocket): string | null {
  const handle = (socket as unknown as { _handle: { verifyError(): Error | null } | null })._handle
  const error = handle?.verifyError()
  return error == null ? null : error.message
}
