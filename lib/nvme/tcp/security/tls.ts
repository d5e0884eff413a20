// TLS 1.3 with a pre-shared key (NVMe/TCP 1.0, 3.6.1), as Node can have it.
// Trade-off: Node's pskCallback binds every key to SHA-256, so that keys for SHA-384 can't be used.

import type { ConnectionOptions, TLSSocket } from 'node:tls'
import { UnsupportedError } from '../../../errors.ts'
import type { TlsHost } from './index.ts'
import { deriveTlsPsk, HASH, type TlsNames, type TlsPsk, tlsHash } from './keys.ts'

/** Of both sides. */
export const TLS_OPTIONS = {
  minVersion: 'TLSv1.3',
  maxVersion: 'TLSv1.3',
  ciphers: 'TLS_AES_128_GCM_SHA256',
} as const satisfies ConnectionOptions

/** OpenSSL's limit. */
const MOST_IDENTITY_BYTES = 256

/** What a handshake is made with. Throws UnsupportedError for a key of SHA-384, and for names that are too long. */
export function pskOf({ key, version }: TlsHost, names: TlsNames): TlsPsk {
  if (tlsHash(key) !== HASH.SHA256) {
    throw new UnsupportedError(
      'TLS keys for SHA-384 can not be used with this Node: one of 32 bytes is needed',
    )
  }
  const made = deriveTlsPsk(key, names, version)
  const bytes = Buffer.byteLength(made.identity)
  if (bytes <= MOST_IDENTITY_BYTES) return made
  throw new UnsupportedError(
    `TLS: the names of host and subsystem make an identity of ${bytes} bytes, ${MOST_IDENTITY_BYTES} are possible`,
  )
}

/** True where both sides have the key, and no certificate was taken instead. */
export function isByPsk(socket: TLSSocket): boolean {
  return socket.isSessionReused() && Object.keys(socket.getPeerCertificate() ?? {}).length === 0
}
