// `unvme gen-dhchap-key`, `check-dhchap-key`, `gen-tls-key`, `check-tls-key`, beside nvme-cli's where it is there.

import { spawnSync } from 'node:child_process'
import fs from 'node:fs'
import test from 'ava'
import { testFolder } from '../support/folder.ts'
import { unvme } from './command.ts'

const inFolder = testFolder()
const NQN = 'nqn.2024-01.org.example:host'
const bytes = (length: number) =>
  Buffer.from(Array.from({ length }, (_, i) => (7 * i + 1) & 0xff)).toString('hex')

/** What nvme-cli prints; nothing where it is not there, or refuses. */
function nvme(words: readonly string[]): string {
  const { status, stdout } = spawnSync('nvme', words, { encoding: 'utf8' })
  return status === 0 ? stdout : ''
}
const hasNvme = nvme(['version']) !== ''

async function good(words: readonly string[], options: Parameters<typeof unvme>[1] = {}) {
  const { code, stdout, stderr } = await unvme(words, options)
  if (code !== 0) throw new Error(`${words[0]}: ${stderr}`)
  return stdout
}

test('a key of a secret is the one that nvme-cli makes', async (t) => {
  for (const [hmac, length] of [
    [0, 32],
    [0, 48],
    [0, 64],
    [1, 32],
    [2, 48],
    [3, 64],
  ] as const) {
    const words = ['-s', bytes(length), '-l', String(length), '-m', String(hmac), '-n', NQN]
    const key = await good(['gen-dhchap-key', ...words])
    t.regex(key, new RegExp(`^DHHC-1:0${hmac}:[A-Za-z0-9+/=]+:\n$`))
    if (hasNvme) t.is(key, nvme(['gen-dhchap-key', ...words]), words.join(' '))
    const checked = await good(['check-dhchap-key', '-k', key.trim()])
    t.regex(checked, new RegExp(`^Key is valid \\(HMAC ${hmac}, length ${length}, CRC [0-9a-f]{8}\\)\n$`))
    if (hasNvme) t.is(checked, nvme(['check-dhchap-key', '-k', key.trim()]))
  }
  t.is(
    await good(['gen-dhchap-key', '--secret-file', '-', '-m', '1', '-n', NQN], { input: `${bytes(32)}\n` }),
    await good(['gen-dhchap-key', '--secret', bytes(32), '--hmac', '1', '--nqn', NQN]),
  )
})

test('keys without a secret are random, and good for nvme-cli', async (t) => {
  for (const kind of ['dhchap', 'tls']) {
    const [one, two] = [await good([`gen-${kind}-key`]), await good([`gen-${kind}-key`])]
    t.not(one, two)
    const words = [`check-${kind}-key`, '-k', one!.trim()]
    const checked = await good(words)
    t.regex(checked, /^Key is valid \(HMAC [01], length 32, CRC /)
    if (hasNvme) t.is(checked, nvme(words))
  }
})

test('a key comes from a file, standard input or the environment, and is not shown', async (t) => {
  const key = (await good(['gen-tls-key', '-s', bytes(48), '-m', '2'])).trim()
  const file = inFolder('tls.key')
  fs.writeFileSync(file, `${key}\n`)
  const valid = await good(['check-tls-key', '--key', key])
  t.regex(valid, /HMAC 2, length 48/)
  t.is(await good(['check-tls-key', '--keyfile', file]), valid)
  t.is(await good(['check-tls-key', '--key-file', '-'], { input: key }), valid)
  t.is(await good(['check-tls-key'], { env: { UNVME_TLS_KEY: key } }), valid)
  const [, one, zero] = (await good(['check-tls-key', '-f', file, '-n', NQN, '-c', `${NQN}2`])).split('\n')
  t.regex(one!, new RegExp(`^NVMe1R02 ${NQN} ${NQN}2 [A-Za-z0-9+/]{64}$`))
  t.is(zero, `NVMe0R02 ${NQN} ${NQN}2`)
  const wrong = await unvme([
    'check-tls-key',
    '--key',
    `${key.slice(0, 20)}${key[20] === 'A' ? 'B' : 'A'}${key.slice(21)}`,
  ])
  t.is(wrong.code, 1)
  t.is(wrong.stderr, 'unvme: TLS key: its CRC is wrong (ERR_UNVME_DECODE)\n')
})

test('what can not be says why', async (t) => {
  for (const [line, code, message] of [
    ['gen-dhchap-key -s zz', 2, /hexadecimal/],
    ['gen-dhchap-key -s 0011', 1, /2 bytes, 32 or 48 or 64/],
    ['gen-dhchap-key -l 33', 1, /33 bytes/],
    [`gen-dhchap-key -l 32 -m 2`, 2, /48 bytes/],
    [`gen-dhchap-key -m 4`, 2, /--hmac/],
    [`gen-tls-key -m 0`, 2, /--hmac/],
    [`gen-tls-key -s ${bytes(32)} -m 2`, 2, /32 bytes, 48 are needed/],
    [`gen-tls-key -s 00 --secret-file x`, 2, /one of them/],
    ['gen-tls-key --insert', 2, /keyring/],
    ['check-dhchap-key', 2, /UNVME_DHCHAP_SECRET/],
    ['check-dhchap-key -k foo', 1, /the form is DHHC-1/],
    ['check-tls-key --key-file /nonexistent', 1, /ENOENT/],
  ] as const) {
    const { code: exit, stdout, stderr } = await unvme(line.split(' '))
    t.is(exit, code, line)
    t.is(stdout, '', line)
    t.regex(stderr, message, line)
  }
})
