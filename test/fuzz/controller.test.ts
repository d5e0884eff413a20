// The driver on controllers that misbehave: it ends every call in time, with an error of its own or with the right
// data, and keeps nothing. UNVME_FUZZ_COMMANDS asks for more commands, as 500000; UNVME_FUZZ_SEED for others.

import test from 'ava'
import { OutOfRangeError } from '../../lib/errors.ts'
import { openPcieTransport } from '../../lib/nvme/pcie/transport.ts'
import { createDevice } from '../../src/controller/device.ts'
import { Namespace } from '../../src/namespace/namespace.ts'
import { fill, Medium, valuesOf } from '../soak/medium.ts'
import { BLOCK_BYTES, BLOCKS, createHostile, generator, type Hostile, type Plan } from './hostile.ts'

const COMMANDS = Number(process.env.UNVME_FUZZ_COMMANDS ?? 20_000)
const SEED = Number(process.env.UNVME_FUZZ_SEED ?? 1)
/** Commands of one life of a controller, and how many controllers there are at once. */
const LIFE = 250
const AT_ONCE = 8
const IN_FLIGHT = 16
const MOST_BLOCKS = 24
const TIMEOUT_MS = 60
// Five retries, each after the 10 s that a made-up status and Identify may ask for, and resets of half a second.
const BOUND_MS = 90_000

async function within<T>(what: string, promise: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} did not end within ${BOUND_MS} ms`)), BOUND_MS)
  })
  return Promise.race([promise, late]).finally(() => clearTimeout(timer))
}

/** Rejects with what is no error of the driver's, as a TypeError is none. */
function checkError(seed: number, error: unknown): string {
  const { code } = error as { code?: string }
  if (typeof code === 'string' && /^ERR_(UNVME|NVME)_/.test(code)) return code
  // Of a qsize or qcount that it does not have.
  if (error instanceof OutOfRangeError) return code!
  throw new Error(`seed ${seed}: not an error of the driver: ${(error as Error)?.stack}`)
}

async function openHostile(hostile: Hostile): Promise<Namespace> {
  const options = { timeout: TIMEOUT_MS, maxTransferBytes: 8192, qcount: 2, qsize: 16 }
  const transport = await openPcieTransport(hostile, { adminTimeout: TIMEOUT_MS })
  const device = await createDevice(transport, options)
  try {
    const geometry = await device.findGeometry()
    await device.provideQueues(options, geometry)
    return new Namespace(device, geometry, hostile.address)
  } finally {
    await device.release()
  }
}

const LIKELY = [0, 0, 0, 0.002, 0.01, 0.05]

function planOf(seed: number): Plan {
  const { pick, chance } = generator(seed)
  return {
    ...{ twice: pick(LIKELY), stray: pick(LIKELY), wrongQueue: pick(LIKELY), result: pick(LIKELY) },
    ...{ phase: pick([0, 0, 0, 0.002]), silent: pick([0, 0, 0, 0.002]), status: pick([0, 0, 0.01, 0.3]) },
    ...{ other: pick([0, 0, 0, 0.005]), admin: pick([0, 0, 0.5]), identify: pick([0, 0, 0, 0.02, 0.2]) },
    ...{ onesOnce: pick([0, 0, 0.01]), gone: pick([0, 0, 0, 0.001]), fatal: pick([0, 0, 0.002]) },
    ...(chance(0.1) && { cap: { dstrd: pick([4, 8, 16]), mqes: pick([2, 3, 8, 65536]) } }),
  }
}

interface Life {
  readonly commands: number
  readonly misdeeds: number
  readonly stray: number
  readonly resets: number
  readonly codes: Readonly<Record<string, number>>
}

async function live(seed: number): Promise<Life> {
  const { below, chance, pick } = generator(seed + 7_000_000)
  const hostile = createHostile(seed, planOf(seed))
  const codes: Record<string, number> = {}
  const count = (error: unknown) => {
    const code = checkError(seed, error)
    codes[code] = (codes[code] ?? 0) + 1
  }
  let commands = 0
  let stray = 0
  let resets = 0
  let ns: Namespace | undefined
  try {
    ns = await within(`seed ${seed}: open`, openHostile(hostile))
  } catch (error) {
    count(error)
  }
  if (ns !== undefined) {
    const { pool } = ns.controller
    // What Identify makes up may be another geometry, on which nothing can be said of the data.
    const known = ns.blocksize === BLOCK_BYTES && ns.blockcount >= BLOCKS && ns.geometry.metadataBytes === 0
    const medium = new Medium(BLOCKS)
    const running = new Set<Promise<void>>()
    let value = 1
    const one = async (open: Namespace) => {
      const nlb = 1 + below(MOST_BLOCKS)
      const range = { slba: below(BLOCKS - nlb + 1), nlb }
      const writes = chance(0.5)
      const ended = medium.use(range, writes)
      if (ended === undefined) return
      commands++
      const written = value++
      const raw = chance(0.2)
      const buf = raw ? open.alloc(nlb * open.blocksize) : Buffer.alloc(nlb * open.blocksize)
      const qid = below(open.qcount)
      const lies = hostile.lies
      try {
        if (writes && known) fill(buf, range.slba, written)
        if (raw) {
          const iod = writes ? open.awrite(qid, buf, range.slba, nlb) : open.aread(qid, buf, range.slba, nlb)
          while (!open.apoll(iod)) await new Promise(setImmediate)
        } else if (writes) await open.promises.write(buf, range.slba, nlb, { qid })
        else await open.promises.read(buf, range.slba, nlb, { qid })
        if (hostile.lies > lies) {
          // It said of commands that they were done which were not.
          if (writes) medium.written(range, written, false)
        } else if (writes) medium.written(range, written, true)
        else if (known) medium.read(range.slba, valuesOf(buf, range.slba))
      } catch (error) {
        if (writes) medium.written(range, written, false)
        count(error)
      } finally {
        if (raw) pool.discard(buf)
        ended()
      }
    }
    while (commands < LIFE && ns.controller.failure === null) {
      const work: Promise<void> = one(ns).finally(() => running.delete(work))
      running.add(work)
      if (chance(0.002)) await within('reset', ns.reset().catch(count))
      if (running.size >= IN_FLIGHT) await within(`seed ${seed}: a command`, Promise.race(running))
      else if (pick([true, false])) await null
      if (commands > 0 && running.size === 0) await new Promise(setImmediate)
    }
    await within(`seed ${seed}: the last commands`, Promise.all(running))
    ;({ stray, resets } = ns.stats)
    if (ns.stats.inFlight > 0) throw new Error(`seed ${seed}: ${ns.stats.inFlight} commands are in flight`)
    await within(`seed ${seed}: close`, ns.close())
    if (pool.bytes > 0) throw new Error(`seed ${seed}: ${pool.bytes} bytes are left`)
  }
  if (hostile.closes !== 1) throw new Error(`seed ${seed}: closed ${hostile.closes} times`)
  if (hostile.arenas.size > 0) throw new Error(`seed ${seed}: memory stays mapped`)
  return { commands, misdeeds: hostile.misdeeds, stray, resets, codes }
}

test.serial(`${COMMANDS} commands on controllers that misbehave (from seed ${SEED})`, async (t) => {
  t.timeout(60 * 60_000)
  const sums = { lives: 0, commands: 0, misdeeds: 0, stray: 0, resets: 0 }
  const codes: Record<string, number> = {}
  let seed = SEED
  const worker = async () => {
    while (sums.commands < COMMANDS) {
      const life = await live(seed++)
      sums.lives++
      for (const name of ['commands', 'misdeeds', 'stray', 'resets'] as const) sums[name] += life[name]
      for (const [code, n] of Object.entries(life.codes)) codes[code] = (codes[code] ?? 0) + n
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE }, worker))
  t.log(JSON.stringify({ ...sums, codes }))
  t.true(sums.misdeeds > 100 && sums.stray > 0 && sums.resets > 0)
})

const REFUSED: readonly [title: string, plan: Plan][] = [
  ['MQES 0', { cap: { mqes: 1 } }],
  ['pages of 8192 at least', { cap: { mpsmin: 8192 } }],
  ['a huge doorbell stride', { cap: { dstrd: 2 ** 17 } }],
  ['no command set', { cap: { css: 0 } }],
  ['never ready', { neverReady: true }],
  ['gone at once', { gone: 1 }],
  ['no admin command is answered', { admin: 1, silent: 1 }],
  ['every admin command fails', { admin: 1, status: 1 }],
]

for (const [title, plan] of REFUSED) {
  test.serial(`a controller that can't be opened: ${title}`, async (t) => {
    const hostile = createHostile(3, plan)
    const error = await t.throwsAsync(within('open', openHostile(hostile)))
    t.regex((error as unknown as { code: string }).code, /^ERR_(UNVME|NVME)_/)
    t.is(hostile.arenas.size, 0)
    t.is(hostile.closes, 1)
  })
}

test.serial('a controller that never shuts down is closed all the same', async (t) => {
  const hostile = createHostile(4, { neverShutDown: true })
  const ns = await openHostile(hostile)
  await ns.promises.write(Buffer.alloc(512, 7), 0)
  t.is((await ns.promises.read(Buffer.alloc(512), 0))[511], 7)
  await within('close', ns.close())
  t.is(hostile.arenas.size, 0)
})
