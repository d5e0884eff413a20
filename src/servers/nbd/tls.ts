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
  const how: tls.TlsOptions = {
    ...{ cert: text(cert), key: text(key), ca: text(ca) },
    ...{ minVersion: 'TLSv1.2', handshakeTimeout: negotiationTimeout, allowHalfOpen: true },
    ...(ca !== undefined && { requestCert: true, rejectUnauthorized: true }),
    ...(psk !== undefined && {
      // Node gives keys of both sides (PSK) to TLS 1.2 alone.
      ...{ maxVersion: 'TLSv1.2', ciphers: 'PSK' },
      pskCallback: (_socket: tls.TLSSocket, identity: string) => psk[identity] ?? null,
    }),
  }
  // What is wrong with a certificate or a key is an error of this call, and not of the first client.
  tls.createSecureContext(how)
  return (socket) =>
    new Promise((resolve, reject) => {
      // A server that listens nowhere: it is given its one connection.
      const server = tls.createServer(how, resolve)
      server.once('tlsClientError', reject)
      socket.once('close', () =>
        reject(new AuthenticationError('the client has gone during the TLS handshake')),
      )
      server.emit('connection', socket)
    })
}

const text = (pem: string | Uint8Array | undefined) =>
  pem === undefined || typeof pem === 'string' ? pem : Buffer.from(pem)
