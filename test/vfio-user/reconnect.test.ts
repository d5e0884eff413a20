// Servers that go and come back, with `reconnect`: what was in flight goes on, and another device is refused.

import fs from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import test from 'ava'
import { type Namespace, open } from '../../src/index.ts'
import { testFolder } from '../support/folder.ts'
import { pattern } from '../support/pattern.ts'
import { type ServerProcess, startServer } from '../support/server.ts'
import { hear, start } from '../support/workers.ts'
import { createRandom } from './mutations.ts'
import { descriptorsOf } from './wire.ts'

/** Servers killed, and stopped, in each of the tests. */
const ROUNDS = Number(process.env.UNVME_RECONNECT_ROUNDS ?? 10)
const REMOVED = { code: 'ERR_UNVME_DEVICE_REMOVED' } as const
const BLOCKS = 32768
const LANE_BLOCKS = 1024
const LANES = 12

const file = testFolder()
let images = 0
const newImage = () => `sim:${file(`disk-${images++}`)}?size=16M&lba=512`

/** Works on its blocks until it is ended, and checks all that it reads against what it has written. */
async function work(ns: Namespace, lane: number, model: Buffer, ended: () => boolean): Promise<number> {
  const random = createRandom(lane + 1)
  const from = lane * LANE_BLOCKS
  let operations = 0
  for (let seed = lane; !ended() || operations < 20; seed += LANES, operations++) {
    const nlb = 1 + random(LANE_BLOCKS - 1)
    const slba = from + random(LANE_BLOCKS - nlb)
    const expected = model.subarray(slba * 512, (slba + nlb) * 512)
    if (operations % 3 === 2) {
      const found = Buffer.concat(
        lane % 2 === 0
          ? [await ns.promises.read(Buffer.alloc(nlb * 512), slba)]
          : await ns.createReadStream({ slba, nlb, highWaterMark: 65536 }).toArray(),
      )
      if (!found.equals(expected)) throw new Error(`lane ${lane}: other data at ${slba}, ${nlb} blocks`)
      continue
    }
    const data = pattern(nlb * 512, seed)
    if (lane % 2 === 0) await ns.promises.write(data, slba)
    else await writeStream(ns, slba, data)
    data.copy(expected)
    if (operations % 7 === 0) await ns.promises.flush()
  }
  return operations
}

function writeStream(ns: Namespace, slba: number, data: Buffer): Promise<void> {
  return new Promise((resolve, reject) => {
    ns.createWriteStream({ slba }).on('error', reject).on('finish', resolve).end(data)
  })
}

/** Lets all lanes work while `disturb` does what it does; true where the medium is what it has to be at the end. */
async function survives(ns: Namespace, disturb: () => Promise<void>): Promise<number> {
  const model = Buffer.alloc(BLOCKS * 512)
  let over = false
  const lanes = Promise.all(Array.from({ length: LANES }, (_, lane) => work(ns, lane, model, () => over)))
  lanes.catch(() => {})
  try {
    await Promise.race([disturb(), lanes.then(() => new Promise<never>(() => {}))])
  } finally {
    over = true
  }
  const operations = (await lanes).reduce((a, b) => a + b, 0)
  const all = await ns.promises.read(Buffer.alloc(model.length), 0)
  if (!all.equals(model)) throw new Error('the medium differs from the model')
  return operations
}

for (const doorbells of ['mapped', 'shadow'] as const) {
  test.serial(`${ROUNDS} servers that are killed, one after the other (${doorbells})`, async (t) => {
    const random = createRandom(5)
    const device = newImage()
    let server = await startServer({ device, doorbells })
    const ns = await open(server.address, { qcount: 2, reconnect: 30_000, retries: 1000 })
    const { socket } = server
    let descriptors = 0
    const operations = await survives(ns, async () => {
      for (let round = 0; round < ROUNDS; round++) {
        await sleep(random(200))
        await server.stop('SIGKILL')
        await sleep(random(3) === 0 ? 0 : random(200))
        server = await startServer({ device, doorbells }, socket)
        await sleep(random(2) === 0 ? 0 : 300)
        if (round === 1) descriptors = descriptorsOf().length
      }
    })
    t.true(operations > ROUNDS)
    // Each one that was there for a moment has been found.
    t.true(ns.stats.resets > 0)
    t.true(descriptorsOf().length <= descriptors + 20, 'descriptors were leaked')
    await ns.close()
    await server.stop()
    t.log(`${operations} operations, ${ns.stats.resets} resets`)
  })
}

test.serial(`a server that is stopped and goes on, ${ROUNDS} times`, async (t) => {
  const random = createRandom(6)
  const server = await startServer({ device: newImage() })
  const ns = await open(server.address, { qcount: 2, reconnect: 30_000, timeout: 2000, retries: 1000 })
  const operations = await survives(ns, async () => {
    for (let round = 0; round < ROUNDS; round++) {
      await sleep(random(100))
      server.child.kill('SIGSTOP')
      // Some of them for longer than it may be silent.
      await sleep(round === 3 ? 6000 : random(400))
      server.child.kill('SIGCONT')
    }
  })
  t.true(operations > ROUNDS)
  await ns.close()
  await server.stop()
})

test.serial('calls that are made while the server is away wait for it, and memory can be had', async (t) => {
  const device = newImage()
  const first = await startServer({ device })
  const ns = await open(first.address, { reconnect: 30_000 })
  const kept = ns.alloc(2 ** 20)
  kept.fill(7)
  await first.stop('SIGKILL')
  // More than there is: this is made while nobody is there to map it.
  const made = ns.alloc(48 * 2 ** 20)
  const given = ns.alloc(2 ** 20)
  made.fill(9)
  const pending = Promise.all([
    ns.promises.write(kept, 0),
    ns.promises.write(made.subarray(0, 2 ** 20), 4096),
    ns.promises.flush(),
    ns.admin({ opcode: 6, cdw10: 1, data: Buffer.alloc(4096) }).catch((error) => error),
  ])
  await sleep(300)
  ns.free(given)
  const shared = await Promise.all([
    open(first.address, { reconnect: 30_000 }),
    startServer({ device }, first.socket),
  ])
  t.is(shared[0].controller, ns.controller, 'who opens it meanwhile gets the same one')
  await pending
  t.true((await ns.promises.read(Buffer.alloc(2 ** 20), 0)).equals(Buffer.alloc(2 ** 20, 7)))
  t.true((await ns.promises.read(Buffer.alloc(2 ** 20), 4096)).equals(Buffer.alloc(2 ** 20, 9)))
  await shared[0].close()
  await ns.close()
  await shared[1].stop()
})

test.serial('a command that may not be sent again rejects', async (t) => {
  const device = `${newImage()}&latency=3600s`
  const first = await startServer({ device })
  const ns = await open(first.address, { reconnect: 30_000 })
  const data = ns.alloc(512)
  const append = ns.promises.compare(data, 0, 1)
  const refused = t.throwsAsync(append, { code: 'ERR_UNVME_OUTCOME_UNKNOWN' })
  await sleep(50)
  await first.stop('SIGKILL')
  const next = await startServer({ device }, first.socket)
  await refused
  await ns.close()
  await next.stop()
})

const OTHERS = [
  ['image', () => newImage()],
  ['size', (device: string) => device.replace('16M', '8M')],
  ['block size', (device: string) => device.replace('lba=512', 'lba=4096')],
  ['vectors', (device: string) => `${device}&qcount=3`],
] as const

for (const [what, other] of OTHERS) {
  test.serial(`another ${what} behind the same socket is refused`, async (t) => {
    const device = newImage().replace('/disk', `/${what.replace(' ', '-')}`)
    const first = await startServer({ device })
    const ns = await open(first.address, { reconnect: 30_000 })
    await ns.promises.write(Buffer.alloc(512, 1), 0)
    await first.stop('SIGKILL')
    const pending = t.throwsAsync(ns.promises.write(Buffer.alloc(512, 2), 0), REMOVED)
    fs.rmSync(device.slice(4).replace(/\?.*/, ''), { force: true })
    const next = await startServer({ device: other(device) }, first.socket)
    await pending
    await t.throwsAsync(ns.promises.flush(), REMOVED)
    await t.throwsAsync(ns.reset(), REMOVED)
    await ns.close()
    const again = await open(first.address)
    const found = await again.promises.read(Buffer.alloc(again.blocksize), 0)
    t.true(found.equals(Buffer.alloc(again.blocksize)), 'nothing was written to it')
    await again.close()
    await next.stop()
  })
}

test.serial('nobody comes in time', async (t) => {
  const before = descriptorsOf().length
  const server = await startServer({ device: newImage() })
  const ns = await open(server.address, { reconnect: 400 })
  const buf = ns.alloc(512)
  await server.stop('SIGKILL')
  const from = performance.now()
  await t.throwsAsync(ns.promises.read(Buffer.alloc(512), 0), { ...REMOVED, message: /within 400 ms/ })
  const took = performance.now() - from
  t.true(took > 200 && took < 3000, `${took} ms`)
  t.throws(() => ns.read(0, buf, 0, 1), REMOVED)
  await t.throwsAsync(ns.reset(), REMOVED)
  await ns.close()
  t.true(descriptorsOf().length <= before + 4)
})

test.serial('close while the server is away ends the wait', async (t) => {
  const server = await startServer({ device: newImage() })
  const ns = await open(server.address, { reconnect: 600_000 })
  await server.stop('SIGKILL')
  const pending = Promise.allSettled([ns.promises.read(Buffer.alloc(512), 0), ns.promises.flush()])
  await sleep(200)
  const from = performance.now()
  await ns.close()
  t.true(performance.now() - from < 1000)
  for (const result of await pending) t.is((result as PromiseRejectedResult).reason.code, 'ERR_UNVME_CLOSED')
})

test.serial('without recovery by reset there is no wait', async (t) => {
  const server = await startServer({ device: newImage() })
  const ns = await open(server.address, { reconnect: 600_000, recovery: 'none' })
  const pending = t.throwsAsync(
    ns.promises.read(Buffer.alloc(512), 0).then(() => ns.promises.flush()),
    REMOVED,
  )
  await server.stop('SIGKILL')
  await pending.catch(() => {})
  await t.throwsAsync(ns.promises.flush(), REMOVED)
  await ns.close()
})

test.serial('a worker thread that has a queue goes on', async (t) => {
  const device = newImage()
  let server: ServerProcess = await startServer({ device })
  const ns = await open(server.address, { qcount: 2, reconnect: 30_000 })
  const share = ns.share(0)
  const worker = start(share, { task: 'spin' })
  t.is(await hear(worker), 'spinning')
  const end = hear(worker)
  await server.stop('SIGKILL')
  server = await startServer({ device }, server.socket)
  await ns.promises.flush({ qid: 1 })
  t.is(ns.stats.resets, 1)
  await share.recall()
  t.is(await end, 'ERR_UNVME_CLOSED', 'not that the device was removed')
  await ns.close()
  await server.stop()
})
