// TLS of server and client: certificates and keys of both sides, with libnbd as a peer.

import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import fs from 'node:fs'
import path from 'node:path'
import test from 'ava'
import { connectNbd } from '../../lib/nbd/client.ts'
import { OPTION, REPLY } from '../../lib/nbd/protocol.ts'
import { open, serveNbd } from '../../src/index.ts'
import { testFolder } from '../support/folder.ts'
import { testWith } from '../support/left-out.ts'
import { goData, RawNbd } from '../support/nbd.ts'
import { pattern } from '../support/pattern.ts'
import { runTool, withoutTool } from '../support/tools.ts'

const file = testFolder()
const key = randomBytes(32)

/** A folder as QEMU and libnbd want it: an authority, and certificates of it for both sides. */
function makeCertificates(name: string): string {
  const folder = file(name)
  fs.mkdirSync(folder)
  const openssl = (...words: string[]) => execFileSync('openssl', words, { cwd: folder, stdio: 'pipe' })
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes']
  openssl(
    'req',
    '-x509',
    ...key,
    '-keyout',
    'ca-key.pem',
    '-out',
    'ca-cert.pem',
    '-days',
    '2',
    '-subj',
    '/CN=ca',
  )
  for (const side of ['server', 'client']) {
    openssl('req', ...key, '-keyout', `${side}-key.pem`, '-out', `${side}.csr`, '-subj', `/CN=${side}`)
    fs.writeFileSync(path.join(folder, 'names'), 'subjectAltName=IP:127.0.0.1,DNS:localhost\n')
    openssl(
      ...[
        'x509',
        '-req',
        '-in',
        `${side}.csr`,
        '-CA',
        'ca-cert.pem',
        '-CAkey',
        'ca-key.pem',
        '-CAcreateserial',
      ],
      ...['-out', `${side}-cert.pem`, '-days', '2', '-extfile', 'names'],
    )
  }
  return folder
}

const pem = (folder: string, name: string) => fs.readFileSync(path.join(folder, `${name}.pem`))

testWith(
  'with certificates: a client that knows the authority, and one that the authority knows',
  { openssl: 'openssl' },
  async (t) => {
    const folder = makeCertificates('certificates')
    const stranger = makeCertificates('stranger')
    const ns = await open('sim:?size=4M')
    const tls = { cert: pem(folder, 'server-cert'), key: pem(folder, 'server-key') }
    for (const ca of [undefined, pem(folder, 'ca-cert')]) {
      const server = await serveNbd(ns, { port: 0, tls: { ...tls, ca } })
      t.regex(server.address, /^nbds:/)
      const client = await connectNbd(`${server.address}?tls-certificates=${folder}`)
      const data = pattern(2 ** 20 + 5, 6)
      await client.write(data, 3)
      const back = Buffer.alloc(data.length)
      await client.read(back, 3)
      t.true(back.equals(data))
      await client.close()
      const refused = { code: 'ERR_UNVME_AUTHENTICATION' }
      await t.throwsAsync(connectNbd(`${server.address}?tls-certificates=${stranger}`), refused)
      await t.throwsAsync(connectNbd(server.address.replace('nbds', 'nbd')), {
        ...refused,
        message: /wants TLS/,
      })
      if (!withoutTool('nbdinfo', 'libnbd-bin')) {
        const uri = `${server.address}?tls-certificates=${folder}`
        t.is((await runTool('nbdinfo', ['--size', uri])).trim(), String(4 * 2 ** 20))
        const map = JSON.parse(await runTool('nbdinfo', ['--map', '--json', uri]))
        // What was written, and what never was.
        t.is(map.length, 2)
      }
      await server.close()
    }
    // One whom the authority does not know, to a server that asks.
    const server = await serveNbd(ns, { port: 0, tls: { ...tls, ca: pem(folder, 'ca-cert') } })
    fs.copyFileSync(path.join(folder, 'ca-cert.pem'), path.join(stranger, 'ca-cert.pem'))
    await t.throwsAsync(connectNbd(`${server.address}?tls-certificates=${stranger}`))
    t.is(server.stats.refused, 1)
    await server.close()
    await ns.close()
  },
)

test('with keys of both sides: who has one, and who has another', async (t) => {
  const ns = await open('sim:?size=4M')
  const socket = file('psk')
  const server = await serveNbd(ns, { path: socket, tls: { psk: { alice: key } } })
  fs.writeFileSync(file('keys'), `bob:${randomBytes(32).toString('hex')}\nalice:${key.toString('hex')}\n`)
  const uri = (user: string) => `nbds+unix://${user}@/?socket=${socket}&tls-psk-file=${file('keys')}`
  const client = await connectNbd(uri('alice'))
  await client.write(pattern(70_000, 2), 999)
  const back = Buffer.alloc(70_000)
  await client.read(back, 999)
  t.true(back.equals(pattern(70_000, 2)))
  await client.close()
  await t.throwsAsync(connectNbd(uri('bob')), { code: 'ERR_UNVME_AUTHENTICATION' })
  if (!withoutTool('nbdinfo', 'libnbd-bin')) {
    t.is((await runTool('nbdinfo', ['--size', uri('alice')])).trim(), String(4 * 2 ** 20))
    await t.throwsAsync(runTool('nbdinfo', ['--size', uri('bob')]))
  }
  await server.close()
  await ns.close()
})

test('a server of TLS answers nothing but STARTTLS before it, and forgets what was agreed on', async (t) => {
  const ns = await open('sim:?size=1M')
  const server = await serveNbd(ns, { path: file('only'), tls: { psk: { alice: key } } })
  const raw = await RawNbd.greeted(file('only'))
  for (const option of [OPTION.LIST, OPTION.STRUCTURED_REPLY, OPTION.INFO]) {
    const [reply] = await raw.option(option, option === OPTION.INFO ? goData('') : undefined)
    t.is(reply!.type, REPLY.ERR_TLS_REQD)
  }
  const [ack] = await raw.option(OPTION.STARTTLS)
  t.is(ack!.type, REPLY.ACK)
  // Plain text where TLS should begin.
  raw.send(Buffer.alloc(64, 'x'))
  raw.socket.resume()
  await raw.closed
  t.is(server.stats.refused, 1)
  await server.close()
  await ns.close()
})
