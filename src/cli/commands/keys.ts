// `unvme gen-dhchap-key`, `check-dhchap-key`, `gen-tls-key` and `check-tls-key`: keys for targets in the network, with
// nvme-cli's words. A key is best given by a file or the environment: others see what stands on a command line.

import { randomBytes } from 'node:crypto'
import fs from 'node:fs'
import { crc32 } from 'node:zlib'
import { UsageError } from '../../../lib/errors.ts'
import { defineCommand, value, valueOr } from '../define.ts'
import { print } from '../output.ts'
import { integer, text } from '../parse.ts'

const MOST_FILE_BYTES = 64 * 1024

const secretOptions = {
  secret: value('HEX', text, 'secret to make the key of (default: a random one); others see it', 's'),
  secretFile: value('FILE', text, 'a file with such a secret, - for standard input'),
}

interface SecretGiven {
  readonly secret?: string | undefined
  readonly secretFile?: string | undefined
}

/** The bytes that were given; null where a random secret is wanted. */
function givenSecret({ secret, secretFile }: SecretGiven): Buffer | null {
  if (secret !== undefined && secretFile !== undefined) {
    throw new UsageError('--secret and --secret-file: one of them')
  }
  const hex = secretFile === undefined ? secret : readText(secretFile)
  if (hex === undefined) return null
  if (!/^([0-9a-f]{2})+$/i.test(hex))
    throw new UsageError('the secret has to be hexadecimal digits, two for a byte')
  return Buffer.from(hex, 'hex')
}

function readText(file: string): string {
  const bytes = fs.readFileSync(file === '-' ? 0 : file)
  if (bytes.length > MOST_FILE_BYTES)
    throw new UsageError(`${file}: a key is shorter than ${bytes.length} bytes`)
  return bytes.toString('utf8').trim()
}

const keyOptions = (also: readonly string[]) => ({
  key: value('KEY', text, 'the key; others see it', { short: 'k', also }),
  keyFile: value('FILE', text, 'a file with the key, - for standard input', { also: ['--keyfile', '-f'] }),
})

interface KeyGiven {
  readonly key?: string | undefined
  readonly keyFile?: string | undefined
}

function givenKey({ key, keyFile }: KeyGiven, variable: string): string {
  if (key !== undefined && keyFile !== undefined) throw new UsageError('--key and --key-file: one of them')
  const found = keyFile === undefined ? (key ?? process.env[variable]) : readText(keyFile)
  if (!found) throw new UsageError(`a key is needed: --key-file, --key or ${variable}`)
  return found
}

function describe(hash: number, secret: Buffer): string {
  const crc = crc32(secret).toString(16).padStart(8, '0')
  return `Key is valid (HMAC ${hash}, length ${secret.length}, CRC ${crc})`
}

/** A secret that was given, or a random one, of the length that the hash asks for. */
function secretFor(given: Buffer | null, hashLength: number | undefined, asked: number | undefined): Buffer {
  const length = asked ?? hashLength ?? given?.length ?? 32
  if (hashLength !== undefined && length !== hashLength) {
    throw new UsageError(`--key-length ${length}: with this HMAC function a key has ${hashLength} bytes`)
  }
  if (given !== null && given.length !== length) {
    throw new UsageError(`the secret has ${given.length} bytes, ${length} are needed`)
  }
  return given ?? randomBytes(length)
}

const genDhchapKey = defineCommand({
  name: 'gen-dhchap-key',
  group: 'System',
  summary: 'Make a key for DH-HMAC-CHAP, by which hosts and targets prove who they are',
  details: `Printed as DHHC-1:HH:BASE64:, for the host and the target alike. With --hmac it is a key that is bound to the \
host NQN, as nvme-cli makes one.`,
  arguments: {},
  options: {
    ...secretOptions,
    keyLength: value(
      'BYTES',
      integer({ max: 64 }),
      '32, 48 or 64 (default: as the HMAC function has it, or 32)',
      'l',
    ),
    nqn: value('NQN', text, "host that the key is for (default: this one's)", 'n'),
    hmac: valueOr('N', integer({ max: 3 }), 0, '0 none, 1 SHA-256, 2 SHA-384, 3 SHA-512', 'm'),
  },
  examples: [
    ['gen-dhchap-key', 'a random key of 32 bytes'],
    [
      'gen-dhchap-key -m 1 -n nqn.2024-01.org.example:host --secret-file secret.hex',
      'one of a secret, for a host',
    ],
  ],
  async run({ options }) {
    const { createSecretKey } = await import('node:crypto')
    const { DHCHAP_KEY, formatKey, hashBytes, transformKey } = await import(
      '../../../lib/nvme/tcp/security/keys.ts'
    )
    const { hmac, keyLength, nqn } = options
    const secret = secretFor(givenSecret(options), hashBytes(hmac), keyLength)
    if (hmac === 0) {
      print(formatKey(DHCHAP_KEY, hmac, secret))
      return
    }
    const { findHostIdentity } = await import('../../../lib/nvme/tcp/host-identity.ts')
    const host = nqn ?? findHostIdentity().hostnqn
    const bound = transformKey({ hash: hmac, secret: createSecretKey(secret) }, host)
    print(formatKey(DHCHAP_KEY, hmac, bound.export()))
  },
})

const checkDhchapKey = defineCommand({
  name: 'check-dhchap-key',
  group: 'System',
  summary: 'Check the form, the length and the CRC of a key for DH-HMAC-CHAP',
  details:
    'The key is that of --key-file, of --key, or of UNVME_DHCHAP_SECRET in the environment. It is not shown.',
  arguments: {},
  options: keyOptions([]),
  examples: [['check-dhchap-key --key-file /etc/nvme/host.key', 'a key of a file']],
  async run({ options }) {
    const { DHCHAP_KEY, parseKey } = await import('../../../lib/nvme/tcp/security/keys.ts')
    const { SECRET_VARIABLES } = await import('../../../lib/nvme/tcp/security/load.ts')
    const { hash, secret } = parseKey(DHCHAP_KEY, givenKey(options, SECRET_VARIABLES.dhchapSecret))
    print(describe(hash, secret.export()))
  },
})

const KEYRING = 'keys are kept in files: the keyring of the kernel is not used'
const keyringOptions = {
  '-k, --keyring <NAME>': KEYRING,
  '-t, --keytype <TYPE>': KEYRING,
  '-i, --insert': KEYRING,
} as const

const genTlsKey = defineCommand({
  name: 'gen-tls-key',
  group: 'System',
  summary: 'Make a pre-shared key for TLS, in the PSK interchange format',
  details: `Printed as NVMeTLSkey-1:HH:BASE64:, for the host and the target alike. Node has TLS with keys for SHA-256 \
alone: one of --hmac 2 is for other hosts.`,
  arguments: {},
  options: {
    ...secretOptions,
    hmac: valueOr('N', integer({ min: 1, max: 2 }), 1, '1 SHA-256 (32 bytes), 2 SHA-384 (48 bytes)', 'm'),
  },
  refused: keyringOptions,
  examples: [['gen-tls-key', 'a random key of 32 bytes']],
  async run({ options }) {
    const { formatKey, hashBytes, TLS_KEY } = await import('../../../lib/nvme/tcp/security/keys.ts')
    const { hmac } = options
    print(formatKey(TLS_KEY, hmac, secretFor(givenSecret(options), hashBytes(hmac), undefined)))
  },
})

const checkTlsKey = defineCommand({
  name: 'check-tls-key',
  group: 'System',
  summary: 'Check the form, the length and the CRC of a TLS key',
  details: `The key is that of --key-file, of --key, or of UNVME_TLS_KEY in the environment. It is not shown. With \
--subsysnqn the identities are printed that a handshake has with it, of version 1 and 0.`,
  arguments: {},
  options: {
    ...keyOptions(['--keydata', '-d']),
    hostnqn: value('NQN', text, "host (default: this one's)", 'n'),
    subsysnqn: value('NQN', text, 'subsystem', 'c'),
  },
  refused: { '-t, --keytype <TYPE>': KEYRING, '-i, --insert': KEYRING },
  examples: [
    ['check-tls-key --key-file /etc/nvme/tls.key', 'a key of a file'],
    ['check-tls-key --key-file tls.key -c nqn.2024-01.org.example:disk', 'and how a target knows it'],
  ],
  async run({ options }) {
    const { deriveTlsPsk, parseKey, TLS_KEY } = await import('../../../lib/nvme/tcp/security/keys.ts')
    const { SECRET_VARIABLES } = await import('../../../lib/nvme/tcp/security/load.ts')
    const key = parseKey(TLS_KEY, givenKey(options, SECRET_VARIABLES.tlsKey))
    print(describe(key.hash, key.secret.export()))
    const { hostnqn, subsysnqn } = options
    if (subsysnqn === undefined) return
    const { findHostIdentity } = await import('../../../lib/nvme/tcp/host-identity.ts')
    const names = { hostnqn: hostnqn ?? findHostIdentity().hostnqn, subnqn: subsysnqn }
    for (const version of [1, 0] as const) print(deriveTlsPsk(key, names, version).identity)
  },
})

export const keyCommands = [genDhchapKey, checkDhchapKey, genTlsKey, checkTlsKey]
