// Keys of hosts and targets: their texts, and what is derived from them.

import { createHash, createHmac, hkdfSync, randomBytes } from 'node:crypto'
import { inspect } from 'node:util'
import { crc32 } from 'node:zlib'
import test from 'ava'
import fc from 'fast-check'
import { beginExchange, DH_GROUP, groupBytes, groupPrime } from '../../lib/nvme/tcp/security/dh-groups.ts'
import {
  DHCHAP_KEY,
  deriveTlsPsk,
  formatKey,
  HASH,
  type KeyForm,
  parseKey,
  retainedPsk,
  TLS_KEY,
  transformKey,
} from '../../lib/nvme/tcp/security/keys.ts'

const FORMS: readonly KeyForm[] = [DHCHAP_KEY, TLS_KEY]
const HOSTNQN = 'nqn.2024-01.org.example:host'
const SUBNQN = 'nqn.2024-01.org.example:disk'
const SECRET = Buffer.from(Array.from({ length: 32 }, (_, i) => i))

const anyKey = fc
  .constantFrom(...FORMS)
  .chain((form) =>
    fc
      .constantFrom(...form.lengths)
      .chain((length) =>
        fc.tuple(
          ...[fc.constant(form), fc.integer({ min: 0, max: form.mostHash })],
          fc.uint8Array({ minLength: length, maxLength: length }),
        ),
      ),
  ) as fc.Arbitrary<[KeyForm, number, Uint8Array]>

test('a key that was written is read as it was', (t) => {
  fc.assert(
    fc.property(anyKey, ([form, hash, bytes]) => {
      const key = parseKey(form, `${formatKey(form, hash, bytes)}\n`)
      t.is(key.hash, hash)
      t.deepEqual(new Uint8Array(key.secret.export()), bytes)
    }),
  )
  t.pass()
})

test('a text in which one character is another is refused, and not shown', (t) => {
  fc.assert(
    fc.property(anyKey, fc.nat(), fc.integer({ min: 33, max: 126 }), ([form, hash, bytes], at, code) => {
      const text = formatKey(form, hash, bytes)
      const i = at % text.length
      const changed = text.slice(0, i) + String.fromCharCode(code) + text.slice(i + 1)
      // The number of another hash is as good a text.
      if (changed === text || i === text.indexOf(':') + 2) return
      const error = t.throws(() => parseKey(form, changed), { code: 'ERR_UNVME_DECODE' })
      t.false(error!.message.includes(text.slice(form.prefix.length + 4, -1)))
    }),
  )
})

test('what is no key says why', (t) => {
  const crc = (bytes: Buffer) => {
    const out = Buffer.alloc(4)
    out.writeUInt32LE(crc32(bytes))
    return Buffer.concat([bytes, out]).toString('base64')
  }
  const good = crc(SECRET)
  for (const [text, message] of [
    ['', /the form is DHHC-1:HH:BASE64:/],
    [`NVMeTLSkey-1:01:${good}:`, /the form is DHHC-1/],
    [`DHHC-1:04:${good}:`, /none of 00 to 03/],
    [`DHHC-1:1:${good}:`, /none of 00 to 03/],
    [`DHHC-1:01:${good.slice(0, -1)}:`, /no base64/],
    [`DHHC-1:01:${crc(SECRET.subarray(1))}:`, /31 bytes, 32 or 48 or 64 are possible/],
    ['DHHC-1:01:AA==:', /0 bytes/],
    [`DHHC-1:01:${Buffer.concat([SECRET, Buffer.alloc(4)]).toString('base64')}:`, /CRC is wrong/],
  ] as const) {
    t.throws(() => parseKey(DHCHAP_KEY, text), { code: 'ERR_UNVME_DECODE', message })
  }
  t.throws(() => parseKey(TLS_KEY, `NVMeTLSkey-1:03:${good}:`), { message: /none of 00 to 02/ })
  t.throws(() => formatKey(TLS_KEY, 1, randomBytes(64)), { message: /64 bytes, 32 or 48/ })
  t.throws(() => formatKey(DHCHAP_KEY, 4, SECRET), { message: /no hash 4/ })
})

test('a key shows nothing of itself', (t) => {
  const key = parseKey(DHCHAP_KEY, formatKey(DHCHAP_KEY, 1, SECRET))
  const shown = `${inspect(key, { depth: 9, showHidden: true })} ${JSON.stringify(key)} ${key.secret}`
  t.false(shown.includes(SECRET.toString('hex').slice(0, 8)))
  t.false(shown.includes(SECRET.toString('base64').slice(0, 8)))
  t.notRegex(shown, /1, 2, 3/)
})

test('a DH-HMAC-CHAP key is transformed for the one that it is of', (t) => {
  const text = formatKey(DHCHAP_KEY, HASH.NONE, SECRET)
  // As nvme-cli 2.3 prints it.
  t.is(text, 'DHHC-1:00:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh+KfiaR:')
  const plain = parseKey(DHCHAP_KEY, text)
  t.is(transformKey(plain, HOSTNQN), plain.secret)
  const transformed = transformKey({ ...plain, hash: HASH.SHA256 }, HOSTNQN).export()
  // nvme-cli's gen-dhchap-key -m 1 -n HOSTNQN transforms in the same way.
  t.is(
    formatKey(DHCHAP_KEY, HASH.SHA256, transformed),
    'DHHC-1:01:jIWb0Q9/k5UyXxx1XOgBES+GyVIz2WE+Ho5hDlT/nnxK3nQN:',
  )
})

test('TLS keys are derived as RFC 8446 and the transport say', (t) => {
  const label = (length: number, name: string, context: string) =>
    Buffer.concat([
      Buffer.from([length >> 8, length & 0xff, name.length]),
      Buffer.from(name),
      Buffer.from([context.length]),
      Buffer.from(context),
    ])
  for (const [hash, length] of [
    [HASH.SHA256, 32],
    [HASH.SHA384, 48],
  ] as const) {
    const name = hash === HASH.SHA256 ? 'sha256' : 'sha384'
    const secret = randomBytes(length)
    const key = parseKey(TLS_KEY, formatKey(TLS_KEY, hash, secret))
    const info = label(length, 'tls13 HostNQN', HOSTNQN)
    const retained = Buffer.from(hkdfSync(name, secret, '', info, length))
    t.deepEqual(retainedPsk(key, HOSTNQN), retained)
    t.deepEqual(retainedPsk({ ...key, hash: HASH.NONE }, HOSTNQN), secret)
    const names = { hostnqn: HOSTNQN, subnqn: SUBNQN }
    const old = `NVMe0R0${hash} ${HOSTNQN} ${SUBNQN}`
    t.deepEqual(deriveTlsPsk(key, names, 0), {
      identity: old,
      psk: Buffer.from(hkdfSync(name, retained, '', label(length, 'tls13 nvme-tls-psk', old), length)),
    })
    const digest = createHmac(name, retained)
      .update(`${HOSTNQN} ${SUBNQN} NVMe-over-Fabrics`)
      .digest('base64')
    t.deepEqual(deriveTlsPsk(key, names, 1), {
      identity: `NVMe1R0${hash} ${HOSTNQN} ${SUBNQN} ${digest}`,
      psk: Buffer.from(
        hkdfSync(name, retained, '', label(length, 'tls13 nvme-tls-psk', `0${hash} ${digest}`), length),
      ),
    })
  }
})

// SHA-256 of the primes, as OpenSSL has them.
const PRIMES = [
  '9cd3b7f336872f46c09428d1bbc19877a4d440512cda8d1c1cf0cd6e33698966',
  '0eaf67db3a839156d5013494a5318a772b5697d270d721f37f092efc69ea5a17',
  '4648414224ac881b3d0dc59b466f96d06a558278776807797ecf1f66ff397b3e',
  '227ac9066b3ddd9e193670cda2388fa884f65ba0cf98b742d1fe77a6687c79c7',
  '770b14efaf6f049929c523113b3fa99a8d11dab1b18af3609590122075d19833',
]

test('the DH groups are those of RFC 7919', (t) => {
  for (const [i, digest] of PRIMES.entries()) {
    t.is(groupPrime(i + 1).length, groupBytes(i + 1)!)
    t.is(
      createHash('sha256')
        .update(groupPrime(i + 1))
        .digest('hex'),
      digest,
    )
  }
})

test('two halves of an exchange agree, and a value of no group is refused', (t) => {
  for (const group of Object.values(DH_GROUP)) {
    const [a, b] = [beginExchange(group), beginExchange(group)]
    t.is(a.value.length, groupBytes(group)!)
    t.deepEqual(a.agree(b.value), b.agree(a.value))
    t.is(a.agree(b.value).length, groupBytes(group)!)
    if (group === DH_GROUP.NULL) continue
    const prime = groupPrime(group)
    const less = Buffer.from(prime)
    less[less.length - 1]! -= 1
    for (const bad of [Buffer.alloc(prime.length), Buffer.from([1]), less, prime])
      t.throws(() => a.agree(bad))
  }
  t.is(groupBytes(6), undefined)
})
