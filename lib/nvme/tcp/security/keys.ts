// Keys as people keep them: the texts of DH-HMAC-CHAP secrets and TLS keys (NVMe 2.0 base, 8.13.5.8; NVMe/TCP 1.0, 3.6.1.5),
// and what is derived from them. A key that was parsed is a KeyObject, whose bytes no inspection and no error shows.

import { createHmac, createSecretKey, hkdfSync, type KeyObject } from 'node:crypto'
import { crc32 } from 'node:zlib'
import { DecodeError } from '../../../errors.ts'

/** Hashes by their numbers, in texts of keys and in DH-HMAC-CHAP. */
export const HASH = { NONE: 0, SHA256: 1, SHA384: 2, SHA512: 3 } as const

const HASHES = ['none', 'sha256', 'sha384', 'sha512'] as const
const HASH_BYTES = [0, 32, 48, 64] as const

/** The name that node:crypto knows it by. */
export function hashName(hash: number): string {
  return HASHES[hash]!
}

/** Bytes of a hash's value; undefined for a number that is no hash. */
export function hashBytes(hash: number): number | undefined {
  return hash === HASH.NONE ? undefined : HASH_BYTES[hash]
}

/** A key of either kind. */
export interface SecurityKey {
  /** What the key is to be transformed with; 0: it is used as it is. */
  readonly hash: number
  readonly secret: KeyObject
}

/** One kind of text. */
export interface KeyForm {
  /** In messages. */
  readonly name: string
  readonly prefix: string
  readonly mostHash: number
  /** Bytes of a secret. */
  readonly lengths: readonly number[]
}

export const DHCHAP_KEY: KeyForm = {
  ...{ name: 'DH-HMAC-CHAP key', prefix: 'DHHC-1', mostHash: HASH.SHA512, lengths: [32, 48, 64] },
}
export const TLS_KEY: KeyForm = {
  ...{ name: 'TLS key', prefix: 'NVMeTLSkey-1', mostHash: HASH.SHA384, lengths: [32, 48] },
}

const CRC_BYTES = 4

/** Takes a text apart. Throws DecodeError, which says what is wrong and shows nothing of the text. */
export function parseKey({ name, prefix, mostHash, lengths }: KeyForm, text: string): SecurityKey {
  const bad = (what: string) => new DecodeError(`${name}: ${what}`)
  const match = /^([^:]*):([^:]*):([^:]*):$/.exec(text.trim())
  if (match === null || match[1] !== prefix) throw bad(`the form is ${prefix}:HH:BASE64:`)
  const [, , digits, base64] = match
  const hash = /^\d\d$/.test(digits!) ? Number(digits) : Number.NaN
  if (!(hash <= mostHash)) throw bad(`its hash is none of 00 to 0${mostHash}`)
  const bytes = Buffer.from(base64!, 'base64')
  if (bytes.toString('base64') !== base64) throw bad('its third part is no base64')
  const length = bytes.length - CRC_BYTES
  if (!lengths.includes(length)) {
    throw bad(`${Math.max(length, 0)} bytes, ${lengths.join(' or ')} are possible`)
  }
  const secret = bytes.subarray(0, length)
  if (bytes.readUInt32LE(length) !== crc32(secret)) throw bad('its CRC is wrong')
  return { hash, secret: createSecretKey(secret) }
}

/** The text of a key. Throws DecodeError for a secret of another length, or an unknown hash. */
export function formatKey(
  { name, prefix, mostHash, lengths }: KeyForm,
  hash: number,
  secret: Uint8Array,
): string {
  if (!(Number.isInteger(hash) && hash >= 0 && hash <= mostHash)) {
    throw new DecodeError(`${name}: there is no hash ${hash}`)
  }
  if (!lengths.includes(secret.length)) {
    throw new DecodeError(`${name}: ${secret.length} bytes, ${lengths.join(' or ')} are possible`)
  }
  const crc = Buffer.alloc(CRC_BYTES)
  crc.writeUInt32LE(crc32(secret))
  return `${prefix}:0${hash}:${Buffer.concat([secret, crc]).toString('base64')}:`
}

/** What a DH-HMAC-CHAP key is used as, by the host or subsystem that it is for. */
export function transformKey({ hash, secret }: SecurityKey, nqn: string): KeyObject {
  if (hash === HASH.NONE) return secret
  return createSecretKey(
    createHmac(hashName(hash), secret).update(`${nqn}NVMe-over-Fabrics`, 'utf8').digest(),
  )
}

// TLS

/** Who talks with whom, as names go into TLS keys. */
export interface TlsNames {
  readonly hostnqn: string
  readonly subnqn: string
}

/** What a TLS handshake is made with. */
export interface TlsPsk {
  readonly identity: string
  readonly psk: Buffer
}

/** Versions of the identity: 1 has a digest of the key in it. */
export type IdentityVersion = 0 | 1

/** Of a key that is used as it is, the hash is that of its length. */
export function tlsHash({ hash, secret }: SecurityKey): number {
  if (hash !== HASH.NONE) return hash
  return secret.symmetricKeySize === 48 ? HASH.SHA384 : HASH.SHA256
}

/** HKDF-Extract, and HKDF-Expand-Label of TLS 1.3 (RFC 8446, 7.1). */
export function deriveLabelled(
  hash: number,
  key: Uint8Array | KeyObject,
  label: string,
  context: string,
  length: number,
): Buffer {
  const named = Buffer.from(`tls13 ${label}`, 'latin1')
  const bytes = Buffer.from(context, 'utf8')
  const info = Buffer.alloc(2 + 1 + named.length + 1 + bytes.length)
  info.writeUInt16BE(length, 0)
  info[2] = named.length
  info.set(named, 3)
  info[3 + named.length] = bytes.length
  info.set(bytes, 4 + named.length)
  return Buffer.from(hkdfSync(hashName(hash), key, Buffer.alloc(0), info, length))
}

/** The retained PSK: the configured key, bound to the host. */
export function retainedPsk(key: SecurityKey, hostnqn: string): Buffer {
  const { hash, secret } = key
  if (hash === HASH.NONE) return secret.export()
  return deriveLabelled(hash, secret, 'HostNQN', hostnqn, secret.symmetricKeySize!)
}

/** Identity and key of a handshake. */
export function deriveTlsPsk(key: SecurityKey, names: TlsNames, version: IdentityVersion): TlsPsk {
  const { hostnqn, subnqn } = names
  const hash = tlsHash(key)
  const retained = retainedPsk(key, hostnqn)
  const start = `NVMe${version}R0${hash} ${hostnqn} ${subnqn}`
  const derive = (context: string) => deriveLabelled(hash, retained, 'nvme-tls-psk', context, retained.length)
  if (version === 0) return { identity: start, psk: derive(start) }
  const digest = createHmac(hashName(hash), retained)
    .update(`${hostnqn} ${subnqn} NVMe-over-Fabrics`, 'utf8')
    .digest('base64')
  return { identity: `${start} ${digest}`, psk: derive(`0${hash} ${digest}`) }
}
