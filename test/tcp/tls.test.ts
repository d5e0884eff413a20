// TLS 1.3 by a pre-shared key: a host and our target, and what either refuses.

import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import fs from 'node:fs'
import net from 'node:net'
import tls from 'node:tls'
import { inspect } from 'node:util'
import test, { type ExecutionContext } from 'ava'
import { DHCHAP_KEY, deriveTlsPsk, formatKey, parseKey, TLS_KEY } from '../../lib/nvme/tcp/security/keys.ts'
import { TLS_OPTIONS } from '../../lib/nvme/tcp/security/tls.ts'
import { open, openController } from '../../src/index.ts'
import { unvme } from '../cli/command.ts'
import { testFolder } from '../support/folder.ts'
import { testWith } from '../support/left-out.ts'
import { NQN, startTarget, type TargetLimits } from '../support/tcp-target.ts'

const inFolder = testFolder()
const HOSTNQN = 'nqn.2024-01.org.example:host'
const CODE = 'ERR_UNVME_AUTHENTICATION'
const ONCE = { recovery: 'none' } as const
const TEXT = formatKey(TLS_KEY, 1, Buffer.alloc(32, 7))
const KEY = parseKey(TLS_KEY, TEXT)
const KEYS = { keys: new Map([[HOSTNQN, KEY]]) }

let made = 0
function file(text: string): string {
  const at = inFolder(`key${made++}`)
  fs.writeFileSync(at, `${text}\n`, { mode: 0o600 })
  return at
}

async function setUp(t: ExecutionContext, limits: TargetLimits = { tls: KEYS }) {
  const target = await startTarget('sim:?size=4M', limits)
  t.teardown(() => target.close())
  return target
}

test.serial('data goes through TLS, with either identity, digests, and authentication in it', async (t) => {
  const key = file(TEXT)
  const dhchap = formatKey(DHCHAP_KEY, 1, Buffer.alloc(32, 8))
  for (const [query, limits, options] of [
    ['tls=1', {}, {}],
    ['tls=1&tlsid=0', {}, {}],
    ['hdgst=1&ddgst=1', {}, { qcount: 2 }],
    ['', { dhchap: { keyOf: () => parseKey(DHCHAP_KEY, dhchap) } }, { dhchapSecretFile: file(dhchap) }],
  ] as const) {
    const target = await setUp(t, { tls: KEYS, ...limits })
    const ns = await open(target.address(query), { ...options, tlsKeyFile: key })
    const data = Buffer.alloc(300 * 1024, 9)
    await ns.promises.write(data, 0)
    t.deepEqual(await ns.promises.read(Buffer.alloc(data.length), 0), data)
    await ns.controller.reset()
    t.deepEqual(await ns.promises.read(Buffer.alloc(data.length), 0), data)
    t.false(inspect(ns.controller, { depth: 12, showHidden: true }).includes(TEXT.slice(16, 30)))
    await ns.close()
  }
})

test.serial('what goes over the wire shows nothing of the data', async (t) => {
  const target = await setUp(t)
  let seen = ''
  const proxy = net.createServer((host) => {
    const to = net.connect({ host: '127.0.0.1', port: target.port })
    for (const [a, b] of [
      [host, to],
      [to, host],
    ] as const) {
      a.on('data', (bytes: Buffer) => {
        seen += bytes.toString('latin1')
        b.write(bytes)
      })
      a.on('close', () => b.destroy()).on('error', () => {})
    }
  })
  await once(proxy.listen(0, '127.0.0.1'), 'listening')
  t.teardown(() => void proxy.close())
  const ns = await open(target.address('', (proxy.address() as net.AddressInfo).port), {
    tlsKeyFile: file(TEXT),
  })
  await ns.promises.write(Buffer.alloc(4096, 'plain text'), 0)
  await ns.close()
  t.true(seen.length > 4096)
  t.false(seen.includes('plain text'))
})

test.serial('a key that differs, or a name that is not known, gives no connection', async (t) => {
  const target = await setUp(t)
  const wrong = file(formatKey(TLS_KEY, 1, Buffer.alloc(32, 6)))
  for (const version of [0, 1]) {
    const error = await t.throwsAsync(
      openController(target.address(`tlsid=${version}`), { ...ONCE, tlsKeyFile: wrong }),
      {
        ...{ code: CODE, message: /no TLS connection/ },
      },
    )
    t.false(inspect(error).includes(TEXT.slice(16, 30)))
  }
  const other = target.address().replace(HOSTNQN, 'nqn.2024-01.org.example:other')
  await t.throwsAsync(openController(other, { ...ONCE, tlsKeyFile: file(TEXT) }), { code: CODE })
})

test.serial('a host without TLS, and a target without it, are refused', async (t) => {
  const target = await setUp(t)
  await t.throwsAsync(openController(target.address(), { ...ONCE, timeout: 3000 }))
  const plain = await setUp(t, {})
  const key = file(TEXT)
  const error = await t.throwsAsync<NodeJS.ErrnoException>(
    openController(plain.address(), { ...ONCE, timeout: 3000, tlsKeyFile: key }),
  )
  t.regex(error!.code!, /^ERR_UNVME_(AUTHENTICATION|SETUP)$/)
})

test.serial('a key is needed, of a form and a hash that there is', async (t) => {
  const target = await setUp(t)
  const opening = (query: string, options = {}) =>
    openController(target.address(query), { ...ONCE, ...options })
  await t.throwsAsync(opening('tls=1'), { code: 'ERR_UNVME_SETUP', message: /UNVME_TLS_KEY/ })
  process.env.UNVME_TLS_KEY = TEXT
  t.teardown(() => delete process.env.UNVME_TLS_KEY)
  await (await opening('tls=1')).close()
  await (await opening(`tls=1&tlskey=${encodeURIComponent(file(TEXT))}`)).close()
  await t.throwsAsync(opening(`tls=1&tlskey=${encodeURIComponent(file(`${TEXT}x`))}`), {
    code: 'ERR_UNVME_SETUP',
  })
  const long = file(formatKey(TLS_KEY, 2, Buffer.alloc(48, 7)))
  await t.throwsAsync(opening('', { tlsKeyFile: long }), {
    code: 'ERR_UNVME_UNSUPPORTED',
    message: /SHA-384/,
  })
  const name = `nqn.2024-01.org.example:${'x'.repeat(190)}`
  const address = target.address().replace(HOSTNQN, name)
  await t.throwsAsync(openController(address, { ...ONCE, tlsKeyFile: file(TEXT) }), {
    ...{ code: 'ERR_UNVME_UNSUPPORTED', message: /bytes, 256 are possible/ },
  })
})

function openSslTest(title: string, run: (t: ExecutionContext) => Promise<void>): void {
  testWith(title, { openssl: 'openssl' }, run, { serial: true })
}

openSslTest('a target with a certificate instead of the key is refused', async (t) => {
  const at = inFolder('cert')
  const made = [
    'req',
    '-x509',
    '-newkey',
    'ec',
    '-pkeyopt',
    'ec_paramgen_curve:prime256v1',
    '-nodes',
    '-days',
    '2',
  ]
  const files = ['-subj', '/CN=127.0.0.1', '-keyout', `${at}.key`, '-out', `${at}.pem`]
  execFileSync('openssl', [...made, ...files], { stdio: 'ignore' })
  const server = tls.createServer({ key: fs.readFileSync(`${at}.key`), cert: fs.readFileSync(`${at}.pem`) })
  server.on('tlsClientError', () => {})
  await once(server.listen(0, '127.0.0.1'), 'listening')
  t.teardown(() => void server.close())
  const { port } = server.address() as net.AddressInfo
  const address = `nvme+tcp://127.0.0.1:${port}/${NQN}?hostnqn=${HOSTNQN}&hostid=6f9619ff-8b86-d011-b42d-00cf4fc964ff`
  const key = file(TEXT)
  const opening = () => openController(address, { ...ONCE, timeout: 5000, tlsKeyFile: key })
  await t.throwsAsync(opening(), { code: CODE, message: /certificate/ })
  // Not even where certificates are not looked at.
  process.env.NODE_TLS_REJECT_UNAUTHORIZED = '0'
  t.teardown(() => delete process.env.NODE_TLS_REJECT_UNAUTHORIZED)
  await t.throwsAsync(opening(), { code: CODE, message: /something else than the key/ })
})

openSslTest('OpenSSL’s own program connects to the target with the same key', async (t) => {
  const target = await setUp(t)
  const { identity, psk } = deriveTlsPsk(KEY, { hostnqn: HOSTNQN, subnqn: NQN }, 1)
  const child = spawn('openssl', [
    ...['s_client', '-connect', `127.0.0.1:${target.port}`, '-tls1_3', '-psk', psk.toString('hex')],
    ...['-psk_identity', identity, '-ciphersuites', TLS_OPTIONS.ciphers],
  ])
  t.teardown(() => void child.kill())
  let text = ''
  child.stdout.on('data', (bytes: Buffer) => {
    text += bytes.toString('latin1')
    if (/Verif\w+( return code)?: .*/.test(text)) child.stdin.end()
  })
  await once(child, 'close')
  t.regex(text, /Reused, TLSv1\.3, Cipher is TLS_AES_128_GCM_SHA256/)
})

test.serial('unvme discover has TLS and authentication, by keys of the environment', async (t) => {
  const dhchap = formatKey(DHCHAP_KEY, 1, Buffer.alloc(32, 8))
  const asks = { keyOf: () => parseKey(DHCHAP_KEY, dhchap) }
  const target = await setUp(t, { tls: KEYS, dhchap: asks })
  const words = ['discover', '-a', '127.0.0.1', '-s', String(target.port), '-q', HOSTNQN, '--tls']
  const env = { UNVME_TLS_KEY: TEXT, UNVME_DHCHAP_SECRET: dhchap, DEBUG: 'unvme:*' }
  const { code, stdout, stderr } = await unvme(words, { env })
  t.is(code, 0, stderr)
  t.regex(stdout, /sectype: tls13/)
  t.regex(stderr, /authenticated with sha512 and null/)
  for (const key of [TEXT, dhchap]) t.false(`${stdout}${stderr}`.includes(key.slice(16, 40)))
  const without = await unvme(words, { env: { UNVME_TLS_KEY: TEXT } })
  t.is(without.code, 1)
  t.regex(without.stderr, /ERR_UNVME_AUTHENTICATION/)
  const argument = await unvme([...words, '-S', dhchap])
  t.is(argument.code, 2)
  t.regex(argument.stderr, /UNVME_DHCHAP_SECRET/)
})
