// Random operations on a faulty device, up to 32 in flight, held against a model of the medium; and at the end nothing
// is left of them.

import { getEventListeners, once } from 'node:events'
import fs from 'node:fs'
import { pipeline } from 'node:stream/promises'
import { inspect } from 'node:util'
import v8 from 'node:v8'
import vm from 'node:vm'
import { Worker } from 'node:worker_threads'
import type { Controller } from '../../lib/nvme/host/controller.ts'
import type { PcieTransport } from '../../lib/nvme/pcie/transport.ts'
import type { SimFunction } from '../../lib/sim/function.ts'
import type { FaultAction } from '../../lib/sim/index.ts'
import { type Namespace, open, type Stats } from '../../src/index.ts'
import { BLOCK_BYTES, fill, Medium, type Range, valuesOf } from './medium.ts'
import type { Job, Step, StepResult } from './worker.ts'

export interface SoakOptions {
  readonly address: string
  readonly seed: number
  /** Ends when so many operations have been started, or so many milliseconds have passed. */
  readonly operations: number
  readonly ms?: number
  /** Queues are given to worker threads. */
  readonly shares: boolean
}

export interface SoakResult {
  readonly stats: Stats
  readonly operations: number
  readonly shares: number
  /** Resets by recovery, and those that were asked for. */
  readonly resets: number
  readonly asked: number
  /** Calls that failed, by code. */
  readonly failed: Readonly<Record<string, number>>
  /** What is left: of memory, abort listeners, mappings; and of these, those of shared memory. */
  readonly left: Readonly<Record<'bytes' | 'listeners' | 'maps' | 'shared', number>> & {
    /** What each descriptor that is left leads to. */
    readonly fds: readonly string[]
  }
}

const BLOCKS = 4096
const MOST_IN_FLIGHT = 32
const MOST_BLOCKS = 40
const WORKERS = 2
const TIMEOUT_MS = 80
const STUCK_MS = 20_000
const CLOSE_MS = 10_000
const WORKER_FILE = new URL('./worker.js', import.meta.url)

/** What a call may end with, on a device like this one. */
const EXPECTED: readonly string[] = [
  'ABORT_ERR',
  'ERR_NVME_STATUS',
  'ERR_UNVME_TIMEOUT',
  'ERR_UNVME_OUTCOME_UNKNOWN',
  'ERR_UNVME_CONTROLLER_RESET',
  'ERR_UNVME_CONTROLLER_FATAL',
  'ERR_UNVME_QUEUE_OWNER',
  'ERR_UNVME_QUEUE_FULL',
  'ERR_UNVME_CLOSED',
]

function generator(seed: number) {
  let state = (seed * 2654435761) >>> 0 || 1
  const next = () => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return (state >>> 0) / 2 ** 32
  }
  return {
    below: (n: number) => Math.floor(next() * n),
    chance: (p: number) => next() < p,
    pick: <T>(all: readonly T[]): T => all[Math.floor(next() * all.length)]!,
  }
}

const turn = () => new Promise((resolve) => setImmediate(resolve))
const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))
v8.setFlagsFromString('--expose-gc')
const collectGarbage = vm.runInNewContext('gc') as () => void

/** Views of freed memory are unmapped when they are collected. */
async function countMaps(): Promise<{ all: number; shared: number }> {
  for (let i = 0; i < 3; i++) {
    collectGarbage()
    await pause(20)
  }
  const lines = fs.readFileSync('/proc/self/maps', 'utf8').split('\n')
  return { all: lines.length, shared: lines.filter((line) => line.includes('memfd:unvme')).length }
}

/** What each open descriptor leads to. */
function listFds(): Map<string, string> {
  const found = new Map<string, string>()
  for (const fd of fs.readdirSync('/proc/self/fd')) {
    try {
      found.set(fd, fs.readlinkSync(`/proc/self/fd/${fd}`))
    } catch {
      // The one of the folder that was just read.
    }
  }
  return found
}

class Soak {
  readonly #ns: Namespace
  readonly #options: SoakOptions
  readonly #random: ReturnType<typeof generator>
  readonly #medium = new Medium(BLOCKS)
  readonly #running = new Map<Promise<void>, string>()
  // With what resolves when it has begun.
  readonly #workers = new Map<Worker, Promise<unknown>>()
  readonly #idle: Worker[] = []
  readonly #abort = new AbortController()
  readonly #failed: Record<string, number> = {}
  /** Queues that are not given away. */
  readonly #queues: number[]
  #value = 1
  #shares = 0
  #lent = 0
  #asked = 0
  #resetting = false
  #started = 0
  #error: Error | undefined

  constructor(ns: Namespace, options: SoakOptions) {
    this.#ns = ns
    this.#options = options
    this.#random = generator(options.seed)
    this.#queues = Array.from({ length: ns.qcount }, (_, qid) => qid)
  }

  async run(): Promise<Omit<SoakResult, 'left'> & { listeners: number; bytes: number }> {
    const { operations, ms = Number.POSITIVE_INFINITY, shares } = this.#options
    const bytes = this.#ns.controller.pool.bytes
    const end = performance.now() + ms
    ;(this.#ns.controller as Controller).onRecovery(({ kind, cause }) => {
      if (kind === 'failed') this.#error ??= new Error(`seed ${this.#options.seed}: given up`, { cause })
    })
    if (shares) for (let i = 0; i < WORKERS; i++) this.#startWorker()
    while (this.#started < operations && performance.now() < end && this.#error === undefined) {
      while (this.#running.size >= MOST_IN_FLIGHT) await this.#someEnd()
      this.#begin()
      if (this.#random.chance(0.3)) await turn()
    }
    while (this.#running.size > 0) await this.#someEnd()
    await this.#commandsEnd()
    this.controls.clearFaults()
    if (this.#error === undefined) await this.#readAll()
    await Promise.all(
      Array.from(this.#workers, async ([worker, begun]) => {
        await begun
        await worker.terminate()
      }),
    )
    if (this.#error !== undefined) throw this.#error
    const listeners = getEventListeners(this.#abort.signal, 'abort').length
    const { stats, promises } = this.#ns
    // Buffers that it keeps for later calls are no leak.
    promises.close()
    return {
      ...{ stats, operations: this.#started, shares: this.#shares, asked: this.#asked, failed: this.#failed },
      ...{ resets: stats.resets, listeners, bytes: this.#ns.controller.pool.bytes - bytes },
    }
  }

  // Commands whose calls were aborted go on.
  async #commandsEnd(): Promise<void> {
    const { recovery } = this.#ns.controller as Controller
    for (const until = performance.now() + STUCK_MS; ; await pause(5)) {
      await recovery.running
      if (this.#ns.stats.inFlight === 0 || performance.now() > until) return
    }
  }

  get controls() {
    return ((this.#ns.controller.transport as PcieTransport).pci as SimFunction).controls
  }

  async #someEnd(): Promise<void> {
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<never>((_, reject) => {
      const fail = () =>
        reject(
          new Error(
            `seed ${this.#options.seed}: stuck: ${[...this.#running.values()].join('; ')}\n${this.#state()}`,
          ),
        )
      timer = setTimeout(fail, STUCK_MS)
    })
    await Promise.race([...this.#running.keys(), late]).finally(() => clearTimeout(timer))
  }

  #state(): string {
    const queues = Array.from({ length: this.#ns.qcount }, (_, qid): unknown => {
      try {
        return this.#ns.queue(qid, 'soak')
      } catch {
        return 'lent'
      }
    })
    return inspect([queues, this.#ns.stats], { depth: 4, breakLength: 120, maxArrayLength: 8 })
  }

  #track(what: string, work: Promise<void>): void {
    const tracked = work
      .catch((error: NodeJS.ErrnoException) => {
        const { code = '' } = error
        if (!EXPECTED.includes(code))
          this.#error ??= new Error(`seed ${this.#options.seed}: ${what}`, { cause: error })
        this.#failed[code] = (this.#failed[code] ?? 0) + 1
      })
      .finally(() => this.#running.delete(tracked))
    this.#running.set(tracked, what)
  }

  #begin(): void {
    const { chance, pick } = this.#random
    this.#started++
    if (chance(0.03)) this.#addFault()
    if (chance(0.001)) this.controls.goFatal()
    if (chance(0.002)) this.#reset()
    if (this.#options.shares && this.#idle.length > 0 && chance(0.4)) this.#share()
    const kind = pick([
      'read',
      'read',
      'write',
      'write',
      'raw-read',
      'raw-write',
      'zeroes',
      'compare',
      'flush',
      'stream',
    ] as const)
    const qid = pick(this.#queues)
    if (qid === undefined) return
    const range = this.#range()
    switch (kind) {
      case 'read':
        this.#reads(kind, range, () => this.#read(range, qid))
        break
      case 'raw-read':
        this.#reads(kind, range, () => this.#rawRead(range, qid))
        break
      case 'compare':
        this.#reads(kind, range, () =>
          this.#ns.promises
            .compare(Buffer.alloc(range.nlb * BLOCK_BYTES, 0xff), range.slba, range.nlb, { qid })
            .then(() => {}),
        )
        break
      case 'flush':
        this.#track(
          kind,
          this.#ns.promises.flush({ qid }).then(() => {}),
        )
        break
      case 'stream':
        if (chance(0.5)) this.#reads(kind, range, () => this.#readStream(range, qid))
        else this.#writes(kind, range, this.#value++, (value) => this.#writeStream(range, qid, value))
        break
      case 'zeroes':
        this.#writes(kind, range, 0, () =>
          this.#ns.promises.writeZeroes(range.slba, range.nlb, { qid }).then(() => {}),
        )
        break
      case 'write':
        this.#writes(kind, range, this.#value++, (value) => this.#write(range, qid, value))
        break
      case 'raw-write':
        this.#writes(kind, range, this.#value++, (value) => this.#rawWrite(range, qid, value))
    }
  }

  #range(): Range {
    const nlb = 1 + this.#random.below(MOST_BLOCKS)
    return { slba: this.#random.below(BLOCKS - nlb + 1), nlb }
  }

  #reads(kind: string, range: Range, read: () => Promise<void>): void {
    const ended = this.#medium.use(range, false)
    if (ended === undefined) return
    this.#track(`${kind} of ${range.slba}+${range.nlb}`, read().finally(ended))
  }

  #writes(kind: string, range: Range, value: number, write: (value: number) => Promise<void>): void {
    const ended = this.#medium.use(range, true)
    if (ended === undefined) return
    const work = write(value).then(
      () => this.#medium.written(range, value, true),
      (error) => {
        this.#medium.written(range, value, false)
        throw error
      },
    )
    this.#track(`${kind} of ${value} to ${range.slba}+${range.nlb}`, work.finally(ended))
  }

  async #read({ slba, nlb }: Range, qid: number): Promise<void> {
    const own = this.#random.chance(0.5)
    const buf = own ? this.#ns.alloc(nlb * BLOCK_BYTES) : Buffer.alloc(nlb * BLOCK_BYTES)
    // A signal of its own where it is aborted; otherwise one that all share, and that must be rid of its listeners.
    const single = this.#random.chance(0.1) ? new AbortController() : undefined
    if (single !== undefined) setTimeout(() => single.abort(), this.#random.below(20))
    try {
      await this.#ns.promises.read(buf, slba, nlb, { qid, signal: (single ?? this.#abort).signal })
      this.#medium.read(slba, valuesOf(buf, slba))
    } finally {
      if (own) this.#ns.controller.pool.discard(buf)
    }
  }

  async #write({ slba, nlb }: Range, qid: number, value: number): Promise<void> {
    const own = this.#random.chance(0.5)
    const buf = own ? this.#ns.alloc(nlb * BLOCK_BYTES) : Buffer.alloc(nlb * BLOCK_BYTES)
    fill(buf, slba, value)
    try {
      await this.#ns.promises.write(buf, slba, nlb, { qid, signal: this.#abort.signal })
    } finally {
      if (own) this.#ns.controller.pool.discard(buf)
    }
  }

  async #rawRead({ slba, nlb }: Range, qid: number): Promise<void> {
    const buf = this.#ns.alloc(nlb * BLOCK_BYTES)
    try {
      const iod = this.#ns.aread(qid, buf, slba, nlb)
      while (!this.#ns.apoll(iod)) await turn()
      this.#medium.read(slba, valuesOf(buf, slba))
    } finally {
      this.#ns.controller.pool.discard(buf)
    }
  }

  async #rawWrite({ slba, nlb }: Range, qid: number, value: number): Promise<void> {
    const buf = this.#ns.alloc(nlb * BLOCK_BYTES)
    fill(buf, slba, value)
    try {
      const iod = this.#ns.awrite(qid, buf, slba, nlb)
      while (!this.#ns.apoll(iod)) await turn()
    } finally {
      this.#ns.controller.pool.discard(buf)
    }
  }

  async #readStream({ slba, nlb }: Range, qid: number): Promise<void> {
    const { signal } = this.#abort
    const options = { slba, nlb, qid, signal, chunk: 1 + this.#random.below(8), depth: 4 }
    if (this.#random.chance(0.5)) {
      for await (const block of this.#ns.blocks(options))
        this.#medium.read(block.slba, valuesOf(block.data, block.slba))
      return
    }
    const chunks: Buffer[] = []
    for await (const chunk of this.#ns.createReadStream({ slba, nlb, qid, signal, depth: 4 }))
      chunks.push(chunk)
    this.#medium.read(slba, valuesOf(Buffer.concat(chunks), slba))
  }

  async #writeStream({ slba, nlb }: Range, qid: number, value: number): Promise<void> {
    const data = Buffer.alloc(nlb * BLOCK_BYTES)
    fill(data, slba, value)
    const options = { slba, nlb, qid, depth: 4 }
    if (this.#random.chance(0.5)) await this.#ns.writeBlocks([data], { ...options, chunk: 4 })
    else await pipeline([data], this.#ns.createWriteStream(options))
  }

  #addFault(): void {
    const { below, pick } = this.#random
    const action = pick<FaultAction>([
      { kind: 'lose' },
      { kind: 'lose' },
      { kind: 'delay', ms: 5000 },
      { kind: 'delay', ms: 5 },
      { kind: 'status', status: 0x281, dnr: false },
      { kind: 'behind', commands: 3 },
      { kind: 'fatal' },
    ])
    this.controls.addFault({ skip: below(20), times: 1, action })
  }

  #reset(): void {
    if (this.#resetting || this.#lent > 0) return
    this.#resetting = true
    this.#asked++
    const done = this.#ns.reset().finally(() => {
      this.#resetting = false
    })
    this.#track('reset', done)
  }

  #startWorker(): void {
    const worker = new Worker(WORKER_FILE)
    worker.on('error', (error) => {
      this.#error ??= error
    })
    const begun = once(worker, 'message')
    this.#workers.set(worker, begun)
    void begun.then(() => this.#idle.push(worker))
  }

  #share(): void {
    const { below, chance, pick } = this.#random
    if (this.#queues.length < 2 || this.#resetting) return
    const qid = pick(this.#queues)
    let share: ReturnType<Namespace['share']>
    try {
      share = this.#ns.share(qid, { memory: 2 ** 18 })
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ERR_UNVME_QUEUE_OWNER') throw error
      return
    }
    this.#shares++
    this.#lent++
    this.#queues.splice(this.#queues.indexOf(qid), 1)
    const back = () => {
      this.#lent--
      this.#queues.push(qid)
    }
    if (chance(0.2)) {
      this.#track('share that is recalled', share.recall().finally(back))
      return
    }
    const worker = this.#idle.shift()!
    const steps: Step[] = []
    const ends: (() => void)[] = []
    for (let n = 1 + below(4); n > 0; n--) {
      const kind = pick(['read', 'write', 'spin-read', 'spin-write', 'blocks'] as const)
      const range = this.#range()
      const ended = this.#medium.use(range, kind.endsWith('write'))
      if (ended === undefined) continue
      ends.push(ended)
      steps.push({ kind, ...range, value: this.#value++ })
    }
    const job: Job = { ticket: share.ticket, steps }
    const dies = chance(0.02)
    const hasResults = new Promise<StepResult[]>((resolve) => {
      worker.once('message', resolve)
      worker.once('exit', () => resolve(steps.map(() => ({ code: 'ERR_UNVME_CLOSED' }))))
    })
    worker.postMessage(job, [share.ticket.port])
    const work = async () => {
      if (dies) {
        await pause(below(30))
        this.#workers.delete(worker)
        await worker.terminate()
      } else if (chance(0.1)) {
        await pause(below(10))
        await share.recall()
      }
      const results = await hasResults
      worker.removeAllListeners('exit')
      worker.removeAllListeners('message')
      await share.returned.finally(back)
      if (dies) this.#startWorker()
      else this.#idle.push(worker)
      for (const [i, result] of results.entries()) this.#check(steps[i]!, result)
    }
    this.#track(
      `share of queue ${qid}: ${steps.map(({ kind, slba, nlb }) => `${kind} ${slba}+${nlb}`).join(', ')}`,
      work().finally(() => {
        for (const ended of ends) ended()
      }),
    )
  }

  #check(step: Step, { values, code, message }: StepResult): void {
    if (code !== undefined && !EXPECTED.includes(code)) throw new Error(`${step.kind}: ${code}: ${message}`)
    if (code === undefined && message !== undefined) throw new Error(`${step.kind}: ${message}`)
    if (code !== undefined) this.#failed[code] = (this.#failed[code] ?? 0) + 1
    if (step.kind.endsWith('write')) this.#medium.written(step, step.value, code === undefined)
    else if (values !== undefined) this.#medium.read(step.slba, values)
  }

  async #readAll(): Promise<void> {
    for (let slba = 0; slba < BLOCKS; slba += 256) {
      const read = () => this.#ns.promises.read(Buffer.alloc(256 * BLOCK_BYTES), slba)
      // A controller on a thread of its own hears a little later that there are no faults any more.
      const buf = await read().catch(read).catch(read)
      this.#medium.read(slba, valuesOf(buf, slba))
    }
  }
}

/** Throws where a read finds what was never written, a call never ends, or ends with what it should not. */
export async function soak(options: SoakOptions): Promise<SoakResult> {
  // What a process has once, it has before.
  if (options.shares) await new Worker('', { eval: true }).terminate()
  await (await open(options.address)).close()
  const fds = listFds()
  const maps = await countMaps()
  const ns = await open(options.address, {
    qcount: 4,
    qsize: 32,
    timeout: TIMEOUT_MS,
    maxTransferBytes: 8192,
  })
  try {
    const { listeners, bytes, ...result } = await new Soak(ns, options).run()
    await ns.close()
    const after = await countMaps()
    const left = {
      ...{ bytes, listeners, fds: [...listFds()].filter(([fd]) => !fds.has(fd)).map(([, path]) => path) },
      ...{ maps: after.all - maps.all, shared: after.shared - maps.shared },
    }
    return { ...result, left }
  } finally {
    // Where something is stuck, this may be, too.
    await Promise.race([ns.close(), pause(CLOSE_MS)])
  }
}
