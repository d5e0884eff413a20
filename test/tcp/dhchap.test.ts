// DH-HMAC-CHAP: a host and our target, and what a host, or a target, refuses.

import fs from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { inspect } from 'node:util'
import test, { type ExecutionContext } from 'ava'
import { DeviceRemovedError } from '../../lib/errors.ts'
import {
  type AuthenticationChannel,
  authenticate,
  type DhchapHost,
} from '../../lib/nvme/tcp/security/authenticate.ts'
import { DH_GROUP, DH_GROUP_NAMES } from '../../lib/nvme/tcp/security/dh-groups.ts'
import { describeFailure, MESSAGE } from '../../lib/nvme/tcp/security/dhchap.ts'
import { DHCHAP_KEY, formatKey, HASH, hashName, parseKey } from '../../lib/nvme/tcp/security/keys.ts'
import { Authentication, type TargetDhchap } from '../../lib/nvme/tcp/target/authentication.ts'
import { open, openController } from '../../src/index.ts'
import { testFolder } from '../support/folder.ts'
import { NQN, startTarget, type TargetLimits } from '../support/tcp-target.ts'

const inFolder = testFolder()
const HOSTNQN = 'nqn.2024-01.org.example:host'
const CODE = 'ERR_UNVME_AUTHENTICATION'

const textOf = (fill: number, hash: number = HASH.SHA256, bytes = 32) =>
  formatKey(DHCHAP_KEY, hash, Buffer.alloc(bytes, fill))
const HOST_TEXT = textOf(1)
const CONTROLLER_TEXT = textOf(2, HASH.SHA512, 64)
const hostKey = parseKey(DHCHAP_KEY, HOST_TEXT)
const controllerKey = parseKey(DHCHAP_KEY, CONTROLLER_TEXT)
const wrongKey = parseKey(DHCHAP_KEY, textOf(3))

const ASKS: TargetDhchap = {
  keyOf: (hostnqn) => (hostnqn === HOSTNQN ? hostKey : undefined),
  controllerKey,
}
const HOST: DhchapHost = { key: hostKey, controllerKey, leastHash: HASH.SHA256, leastGroup: DH_GROUP.NULL }
const NAMES = { address: 'target', hostnqn: HOSTNQN, subnqn: NQN }

type Change = (message: Buffer) => void

/** A target's half, whose messages may be changed on the way. */
function converse(asks: TargetDhchap, { toTarget, toHost }: { toTarget?: Change; toHost?: Change } = {}) {
  const target = new Authentication(asks, HOSTNQN, NQN)
  const channel: AuthenticationChannel = {
    send: async (message) => {
      const copy = Buffer.from(message)
      toTarget?.(copy)
      target.send(copy)
    },
    receive: async () => {
      const into = Buffer.alloc(4096)
      into.set(target.receive() ?? Buffer.alloc(0))
      toHost?.(into)
      return into
    },
  }
  return { target, channel }
}

/** Changes one byte of one message. */
const tamper =
  (message: number, at: number): Change =>
  (bytes) => {
    if (((bytes[0]! << 8) | bytes[1]!) === message) bytes[at]! ^= 1
  }

for (const hash of [HASH.SHA256, HASH.SHA384, HASH.SHA512]) {
  for (const group of Object.values(DH_GROUP)) {
    test(`host and target prove themselves with ${hashName(hash)} and ${DH_GROUP_NAMES[group]}`, async (t) => {
      const asks = { ...ASKS, hashes: [hash], groups: [group] }
      for (const host of [HOST, { ...HOST, controllerKey: null }]) {
        const { target, channel } = converse(asks)
        await authenticate(channel, host, NAMES)
        t.true(target.done)
        t.false(target.failed)
      }
    })
  }
}

test('a host with a wrong key is refused', async (t) => {
  const { target, channel } = converse(ASKS)
  const error = await t.throwsAsync(authenticate(channel, { ...HOST, key: wrongKey }, NAMES), {
    ...{ code: CODE, message: 'target: the target refuses this host: authentication failed' },
  })
  t.false(inspect(error).includes(HOST_TEXT.slice(10, 30)))
  t.true(target.failed)
  t.false(target.done)
})

test('a target with a wrong key of its own is refused, and hears why', async (t) => {
  for (const asks of [{ ...ASKS, controllerKey: wrongKey }]) {
    const said: Buffer[] = []
    const { target, channel } = converse(asks, { toTarget: (bytes) => void said.push(bytes) })
    await t.throwsAsync(authenticate(channel, HOST, NAMES), { code: CODE, message: /does not prove/ })
    t.is(said.at(-1)![1], MESSAGE.FAILURE2)
    t.is(describeFailure(said.at(-1)!), 'authentication failed')
    t.true(target.failed)
    t.false(target.done)
  }
  // One without a key can't, and says so.
  const { channel } = converse({ ...ASKS, controllerKey: undefined })
  await t.throwsAsync(authenticate(channel, HOST, NAMES), { code: CODE, message: /refuses this host/ })
})

test('a controller that leaves its proof out, or gives back the host’s, is refused', async (t) => {
  let reply = Buffer.alloc(0)
  for (const answer of [
    (bytes: Buffer) => void bytes.fill(0, 8, 9),
    (bytes: Buffer) => bytes.set(reply.subarray(16, 80), 16),
  ]) {
    const { target, channel } = converse(ASKS, {
      toTarget: (bytes) => {
        if (bytes[1] === 2) reply = Buffer.from(bytes)
      },
      toHost: (bytes) => {
        if (bytes[1] === 3) answer(bytes)
      },
    })
    await t.throwsAsync(authenticate(channel, HOST, NAMES), { code: CODE, message: /does not prove/ })
    t.false(target.done)
  }
})

test('a message that was tampered with is refused by the one who gets it', async (t) => {
  const asks = { ...ASKS, hashes: [HASH.SHA256], groups: [DH_GROUP.FFDHE2048] }
  const ends = { type: 0, tid: 4, hl: 6, dhvlen: 10 }
  const places: [what: 'toTarget' | 'toHost', message: number, at: number][] = [
    // Challenge: T_ID, HL, the hash, the group, DHVLEN, SEQNUM, the challenge, the DH value.
    ...[ends.tid, ends.hl, 8, 9, ends.dhvlen, 12, 16, 47, 60, 300].map(
      (at) => ['toHost', MESSAGE.CHALLENGE, at] as const,
    ),
    // Reply: the same, with the response, and the host's challenge.
    ...[ends.type, ends.tid, ends.hl, ends.dhvlen, 12, 16, 47, 48, 90, 330].map(
      (at) => ['toTarget', MESSAGE.REPLY, at] as const,
    ),
    // Success1: HL, RVALID, the controller's response.
    ...[ends.type, ends.tid, ends.hl, 8, 16, 47].map((at) => ['toHost', MESSAGE.SUCCESS1, at] as const),
  ].map((place) => [...place] as ['toTarget' | 'toHost', number, number])
  for (const [what, message, at] of places) {
    const { target, channel } = converse(asks, { [what]: tamper(message, at) })
    await t.throwsAsync(authenticate(channel, HOST, NAMES), { code: CODE }, `${what} ${message} ${at}`)
    t.false(target.done, `${what} ${message} ${at}`)
  }
})

test('a hash or a group that was not offered is refused, whoever changes the offer', async (t) => {
  const strict = { ...HOST, leastHash: HASH.SHA384, leastGroup: DH_GROUP.FFDHE3072 }
  // The target has nothing that the host offers.
  for (const [asks, message] of [
    [{ ...ASKS, hashes: [HASH.SHA256] }, /no hash that both take/],
    [{ ...ASKS, groups: [DH_GROUP.NULL, DH_GROUP.FFDHE2048] }, /no DH group that both take/],
  ] as const) {
    await t.throwsAsync(authenticate(converse(asks).channel, strict, NAMES), { code: CODE, message })
  }
  // Someone between them takes the better ones out of the offer.
  const downgrade =
    (hash: number, group: number): Change =>
    (bytes) => {
      if (bytes[0] === 0 && bytes[1] === 0) {
        bytes[10] = bytes[11] = 1
        bytes[12] = hash
        bytes[42] = group
      }
    }
  const lower = converse(ASKS, { toTarget: downgrade(HASH.SHA256, DH_GROUP.FFDHE4096) })
  await t.throwsAsync(authenticate(lower.channel, strict, NAMES), {
    ...{ code: CODE, message: /chose sha256, which was not offered/ },
  })
  t.false(lower.target.done)
  const weaker = converse(ASKS, { toTarget: downgrade(HASH.SHA512, DH_GROUP.NULL) })
  await t.throwsAsync(authenticate(weaker.channel, strict, NAMES), {
    ...{ code: CODE, message: /chose null, which was not offered/ },
  })
})

test('a DH value that leads to a known secret is refused by both', async (t) => {
  const asks = { ...ASKS, hashes: [HASH.SHA256], groups: [DH_GROUP.FFDHE2048] }
  for (const value of [0, 1]) {
    const set =
      (message: number, at: number): Change =>
      (bytes) => {
        if (bytes[0] === 1 && bytes[1] === (message & 0xff))
          bytes.fill(0, at, at + 255).fill(value, at + 255, at + 256)
      }
    const host = converse(asks, { toHost: set(MESSAGE.CHALLENGE, 48) })
    await t.throwsAsync(authenticate(host.channel, HOST, NAMES), { code: CODE, message: /none of its group/ })
    const target = converse(asks, { toTarget: set(MESSAGE.REPLY, 80) })
    await t.throwsAsync(authenticate(target.channel, HOST, NAMES), {
      code: CODE,
      message: /incorrect payload/,
    })
  }
})

test('a connection that ends in place of an answer is a refusal, and before the proof it is a loss', async (t) => {
  const gone = new DeviceRemovedError('closed')
  for (const [after, code] of [
    [0, 'ERR_UNVME_DEVICE_REMOVED'],
    [1, CODE],
  ] as const) {
    const { channel } = converse(ASKS)
    let received = 0
    const ending = {
      send: channel.send,
      receive: () => (received++ === after ? Promise.reject(gone) : channel.receive()),
    }
    await t.throwsAsync(authenticate(ending, HOST, NAMES), { code })
  }
})

test('messages out of turn are refused', async (t) => {
  const { target } = converse(ASKS)
  for (const message of [MESSAGE.REPLY, MESSAGE.SUCCESS2, MESSAGE.CHALLENGE]) {
    const bytes = Buffer.alloc(200)
    bytes.writeUInt16BE(message, 0)
    target.send(bytes)
    t.false(target.done)
    t.is(describeFailure(target.receive()!), 'incorrect protocol message')
  }
  target.send(Buffer.alloc(3))
  t.is(describeFailure(target.receive()!), 'incorrect payload')
  // A host that was refused does not begin again on the same connection.
  const silent: AuthenticationChannel = { send: async () => {}, receive: async () => Buffer.alloc(4096) }
  await t.throwsAsync(authenticate(silent, HOST, NAMES), { code: CODE, message: /message 0h came/ })
})

// Over the wire: one after the other, since the environment is looked at

async function setUp(t: ExecutionContext, asks: TargetDhchap | null = ASKS, limits: TargetLimits = {}) {
  const target = await startTarget('sim:?size=4M', { ...limits, ...(asks && { dhchap: asks }) })
  t.teardown(() => target.close())
  return target
}

let made = 0

function file(text: string): string {
  const at = inFolder(`key${made++}`)
  fs.writeFileSync(
    at,
    `${text}
`,
    { mode: 0o600 },
  )
  return at
}

const files = () => ({ host: file(HOST_TEXT), controller: file(CONTROLLER_TEXT) })

const ONCE = { recovery: 'none' } as const

test.serial(
  'every queue is authenticated, with digests, without data in capsules, and with every group',
  async (t) => {
    const { host, controller } = files()
    const keys = { dhchapSecretFile: host, dhchapCtrlSecretFile: controller }
    for (const [group, query, limits] of [
      [DH_GROUP.NULL, '', {}],
      [DH_GROUP.FFDHE2048, 'hdgst=1&ddgst=1', {}],
      [DH_GROUP.FFDHE8192, '', { inCapsule: 0 }],
    ] as const) {
      const target = await setUp(t, { ...ASKS, groups: [group] }, limits)
      const ns = await open(target.address(query), { ...keys, qcount: 2 })
      const data = Buffer.alloc(8192, group + 1)
      await ns.promises.write(data, 0)
      t.deepEqual(await ns.promises.read(Buffer.alloc(8192), 0), data)
      const agreed = `${DH_GROUP_NAMES[group]}, host and controller`
      t.true((ns.controller.transport.negotiated!.dhchap as string).endsWith(agreed))
      t.false(inspect(ns.controller, { depth: 12, showHidden: true }).includes(HOST_TEXT.slice(10, 30)))
      await ns.close()
    }
  },
)

test.serial('keys are found by the address, and by the environment', async (t) => {
  const target = await setUp(t)
  const { host, controller } = files()
  const query = `dhchap=${encodeURIComponent(host)}&dhchapctrl=${encodeURIComponent(controller)}`
  await (await openController(target.address(`${query}&dhhash=sha512&dhgroup=null`), ONCE)).close()
  process.env.UNVME_DHCHAP_SECRET = HOST_TEXT
  t.teardown(() => delete process.env.UNVME_DHCHAP_SECRET)
  await (await openController(target.address(), ONCE)).close()
  // An option counts before the environment.
  const wrong = file(textOf(3))
  await t.throwsAsync(openController(target.address(), { ...ONCE, dhchapSecretFile: wrong }), { code: CODE })
  process.env.UNVME_DHCHAP_SECRET = `${HOST_TEXT}x`
  const bad = await t.throwsAsync(openController(target.address(), ONCE), {
    ...{ code: 'ERR_UNVME_SETUP', message: /^UNVME_DHCHAP_SECRET: DH-HMAC-CHAP key: / },
  })
  t.false(inspect(bad).includes(HOST_TEXT.slice(10, 30)))
})

test.serial('what is missing is said, and nothing stays connected', async (t) => {
  const target = await setUp(t)
  const { host, controller } = files()
  const opening = (options: object, query = '', at = target) =>
    openController(at.address(query), { ...ONCE, ...options })
  await t.throwsAsync(opening({}), { code: CODE, message: /asks for authentication: give a key/ })
  await t.throwsAsync(opening({ dhchapCtrlSecretFile: controller }), {
    ...{ code: 'ERR_UNVME_SETUP', message: /none of this host/ },
  })
  await t.throwsAsync(opening({ dhchapSecretFile: '/nonexistent' }), {
    code: 'ERR_UNVME_SETUP',
    message: /ENOENT/,
  })
  await t.throwsAsync(opening({ dhchapSecretFile: 7 }), { code: 'ERR_INVALID_ARG_TYPE' })
  await t.throwsAsync(opening({ dhchapSecretFile: file(`NVMeTLSkey-1:01:AA==:`) }), {
    ...{ code: 'ERR_UNVME_SETUP', message: /the form is DHHC-1/ },
  })
  await t.throwsAsync(
    opening({ dhchapSecretFile: host }, 'dhgroup=ffdhe8192', await setUp(t, { ...ASKS, groups: [0] })),
    {
      ...{ code: CODE, message: /no DH group/ },
    },
  )
  await t.throwsAsync(opening({}, 'dhgroup=ffdhe1024'), { code: 'ERR_UNVME_ADDRESS' })
  // A target that asks for nothing proves nothing.
  const open = await setUp(t, null)
  await (await opening({ dhchapSecretFile: host }, '', open)).close()
  await t.throwsAsync(opening({ dhchapSecretFile: host, dhchapCtrlSecretFile: controller }, '', open), {
    ...{ code: CODE, message: /does not authenticate, and its key is given/ },
  })
  // Another host has no key there.
  const other = target.address().replace(HOSTNQN, 'nqn.2024-01.org.example:other')
  await t.throwsAsync(openController(other, { ...ONCE, dhchapSecretFile: host }), { code: 'ERR_NVME_STATUS' })
  while (target.server.connections > 0) await delay(10)
  t.pass()
})

test.serial('before a host has proved itself, the target takes no other command', async (t) => {
  const target = await setUp(t)
  const { TcpQueue, ADMIN_IN_CAPSULE } = await import('../../lib/nvme/tcp/queue.ts')
  const { PlainMemory } = await import('../../lib/nvme/tcp/memory.ts')
  const { connectLink } = await import('../../lib/nvme/tcp/link.ts')
  const fabrics = await import('../../lib/nvme/tcp/fabrics.ts')
  const link = await connectLink({
    ...{ address: 'target', host: '127.0.0.1', port: target.port, hdgst: false, ddgst: false },
    connectTimeout: 5000,
  })
  const queue = new TcpQueue(new PlainMemory('target'), {
    qid: 0,
    entries: 30,
    maxBytes: 2 ** 20,
    timeout: 5000,
  })
  t.teardown(() => queue.free())
  queue.attach(link, ADMIN_IN_CAPSULE)
  const data = fabrics.encodeConnectData({
    ...{ hostid: Buffer.alloc(16, 1), cntlid: fabrics.CNTLID_DYNAMIC, subnqn: NQN, hostnqn: HOSTNQN },
  })
  const ask = async (entry: readonly number[], bytes: Buffer | null = null) => {
    const { status, result } = await queue.command('a command', entry, bytes, 5000)
    return [(status >> 1) & 0x7ff, result]
  }
  const [status, result] = await ask(fabrics.encodeConnect({ qid: 0, sqsize: 31, kato: 0 }), data)
  t.is(status, 0)
  t.is(result! & 0xffff_0000, fabrics.AUTHREQ.ATR)
  t.is((await ask(fabrics.encodePropertyGet(0, 8)))[0], fabrics.FABRICS_STATUS.AUTHENTICATION_REQUIRED)
  t.is((await ask(fabrics.encodePropertySet(0x14, 1)))[0], fabrics.FABRICS_STATUS.AUTHENTICATION_REQUIRED)
  const identify = new Array<number>(16).fill(0)
  identify[0] = 0x18
  t.is((await ask(identify))[0], fabrics.FABRICS_STATUS.AUTHENTICATION_REQUIRED)
})

test.serial('a target that gives no answer is not waited for without end', async (t) => {
  const target = await setUp(t)
  const original = Authentication.prototype.receive
  Authentication.prototype.receive = () => null
  t.teardown(() => {
    Authentication.prototype.receive = original
  })
  const opening = openController(target.address(), { ...ONCE, dhchapSecretFile: file(HOST_TEXT) })
  await t.throwsAsync(opening, { code: CODE, message: /Authentication Receive/ })
})

test.serial('a key that is not taken any more ends the recovery', async (t) => {
  let key = hostKey
  const target = await setUp(t, { ...ASKS, keyOf: () => key })
  const { host } = files()
  const ns = await open(target.address(), { dhchapSecretFile: host, reconnectDelay: 50 })
  await ns.promises.write(Buffer.alloc(4096, 5), 0)
  await ns.controller.reset()
  await ns.promises.read(Buffer.alloc(4096), 0)
  key = wrongKey
  await t.throwsAsync(ns.controller.reset())
  await t.throwsAsync(ns.promises.read(Buffer.alloc(4096), 0))
  await ns.close()
})
