// One open PCI function behind a vfio-user socket: ties channel, BAR 0, DMA memory and interrupts together.
// Nothing here waits for the server and keeps the event loop from running meanwhile, but for the two calls that can't
// return without an answer: `readRegister` and `mapDma`, which block for up to `patience`.
// Whatever goes wrong with the server after the opening counts as removal of the device, since nothing
// it says can be relied on then; its cause is kept. Where servers may come back, what the device had of this process
// (BAR addresses, memory, eventfds) is kept, and given to the next one.

import {
  ClosedError,
  CommandTimeoutError,
  DeviceRemovedError,
  OutOfMemoryError,
  OutOfRangeError,
  SystemCallError,
  UnsupportedError,
} from '../errors.ts'
import { logger } from '../log/index.ts'
import { IovaSpace } from '../memory/iova.ts'
import {
  createSharedMemory,
  type DmaArena,
  destroySharedMemory,
  MAX_VIEW_BYTES,
  type SharedMemory,
} from '../memory/mapping.ts'
import type { FunctionShare, PciFunction, RemoteRegisters } from '../pci/function.ts'
import { onAbort } from '../sys/abort.ts'
import { enableVectors, type Vectors } from '../sys/signal.ts'
import { HUGE_PAGE_BYTES } from '../sys/units.ts'
import { DEVICE_FLAGS, IRQ, REGION } from '../vfio-abi/device.ts'
import type { Region } from '../vfio-abi/region.ts'
import type { Channel } from './channel.ts'
import { type ConfigSpace, openConfigSpace } from './config.ts'
import { MAX_FDS, MAX_MAPPINGS } from './constants.ts'
import {
  deviceInfo,
  deviceReset,
  dmaMap,
  dmaUnmap,
  irqCount,
  irqSets,
  regionInfo,
  regionRead,
  regionWrite,
} from './device.ts'
import { type DoorbellBar, openBar, type RegisterMessages } from './doorbells.ts'
import { closeDescriptors } from './socket.ts'
import type { Capabilities } from './version.ts'

const log = logger('vfio-user')
const ALL_ONES = 0xffff_ffff
const IOVA_LAST = 2 ** 39 - 1
/** Milliseconds between two tries to reach a server that has gone. */
const RETRY_MS = 20
/** The longest that setTimeout can wait. */
const MAX_TIMER_MS = 2 ** 31 - 1

/** `away`: the server has gone, and another may come in its place. */
type State = 'open' | 'away' | 'removed' | 'closed'

/** A connection, and what the server at its other end says of its device. */
interface Peer {
  readonly channel: Channel
  readonly maxFds: number
  readonly canReset: boolean
  readonly vectors: number
  readonly config: ConfigSpace
}

export interface FunctionOptions {
  /** Milliseconds that a call which can't but block waits for the server. */
  readonly patience: number
  /** Connects to the next server, where there may be one. Throws SystemCallError where no one listens yet. */
  readonly again: (() => Channel) | null
}

/** A try to go on with another server. */
interface Attempt {
  readonly channel: Channel
  /** Memory that it has, or is about to have. */
  readonly mapped: Set<DmaArena>
  /** What of that was unmapped meanwhile: its descriptors have to stay until there is an answer. */
  readonly unmapped: [arena: DmaArena, memory: SharedMemory][]
}

/** A range of IOVAs, and the memory that is to be there. */
interface Planned {
  readonly iova: number
  readonly memory: SharedMemory
}

/** A PCI function of a vfio-user server; see `openVfioUser`. */
export class VfioUserFunction implements PciFunction {
  readonly address: string
  readonly transport = 'vfio-user'
  readonly emulated = false
  readonly step = null
  readonly notify: (() => void) | null
  readonly doorbells: Uint32Array
  readonly vectors: number
  readonly maxArenaBytes = MAX_VIEW_BYTES
  readonly remote: RemoteRegisters
  onRemoved: ((cause: Error) => void) | null = null
  share?: () => FunctionShare
  reconnect?: (limit: number, signal: AbortSignal) => Promise<void>

  #peer: Peer
  readonly #options: FunctionOptions
  readonly #bar: DoorbellBar
  readonly #iovas = new IovaSpace([{ first: 0, last: IOVA_LAST }])
  readonly #arenas = new Map<DmaArena, SharedMemory>()
  // Mappings that were asked for, and not yet answered.
  #planned = 0
  #interrupts: Vectors | null = null
  #eventfds: readonly number[] = []
  #connecting: Promise<void> = Promise.resolve()
  #state: State = 'open'
  #removal: Error | null = null
  #goneAt = 0
  #attempt: Attempt | null = null
  #closed: Promise<void> | null = null
  // What each register was when last looked at, and whether it is being asked for. Made new with each write.
  #looks = new Map<number, Look>()

  /**
   * Takes over a channel whose version has been negotiated. Where this rejects, the channel is still the caller's.
   */
  static async open(
    channel: Channel,
    capabilities: Capabilities,
    options: FunctionOptions,
  ): Promise<VfioUserFunction> {
    const peer = await meet(channel, capabilities)
    const { region, fds } = await channel.request(regionInfo(REGION.BAR0))
    return new VfioUserFunction(peer, options, (messages) => openBar(channel.name, region, fds, messages))
  }

  private constructor(
    peer: Peer,
    options: FunctionOptions,
    makeBar: (messages: RegisterMessages) => DoorbellBar,
  ) {
    const { channel, vectors } = peer
    this.address = channel.name
    this.vectors = vectors
    this.#peer = peer
    this.#options = options
    this.#bar = makeBar(this.#messages())
    this.doorbells = this.#bar.doorbells
    const { notify, share } = this.#bar
    this.notify = notify
    const { address, transport, emulated, maxArenaBytes } = this
    if (share !== null)
      this.share = () => ({ address, transport, emulated, maxArenaBytes, ...share(), sleeper: null })
    this.remote = {
      read: (offset) => this.#readRemote(offset),
      write: (offset, value) => this.#writeRemote(offset, value),
      peek: (offset) => this.#peek(offset),
    }
    if (options.again !== null) this.reconnect = (limit, signal) => this.#reconnect(limit, signal)
    channel.onEnd = (failure) => this.#remove(failure)
    log('%s: open, %d vectors, doorbells by %s', this.address, this.vectors, notify ? 'message' : 'memory')
  }

  get #channel(): Channel {
    return this.#peer.channel
  }

  #messages(): RegisterMessages {
    const { patience } = this.#options
    return {
      read: (offset) => this.#channel.requestNow(registerRead(offset), patience).readUInt32LE(),
      write: (offset, value, done) => {
        const channel = this.#channel
        channel.post(registerWrite(offset, value), (error) => {
          if (error !== null) this.#remove(error, channel)
          else done?.()
        })
      },
      attend: () => this.#channel.attend(),
    }
  }

  /** What ended the function, once something has. */
  get removal(): Error | null {
    return this.#removal
  }

  /** Where the register is no memory, blocks for up to `patience`; throws CommandTimeoutError after that. */
  readRegister(offset: number): number {
    if (this.#state !== 'open') return ALL_ONES
    try {
      return this.#bar.read(offset)
    } catch (error) {
      if (error instanceof OutOfRangeError || error instanceof CommandTimeoutError) throw error
      this.#remove(this.#channel.failure ?? error)
      return ALL_ONES
    }
  }

  /** Sends the write, and does not wait until the server has done it: later requests are done after it. */
  writeRegister(offset: number, value: number): void {
    if (this.#state !== 'open') return
    this.#looks = new Map()
    this.#bar.write(offset, value)
  }

  async #readRemote(offset: number): Promise<number> {
    if (this.#state !== 'open') return ALL_ONES
    if (this.#bar.isMapped(offset)) return this.#bar.read(offset)
    const channel = this.#channel
    try {
      return (await channel.request(registerRead(offset))).readUInt32LE()
    } catch (error) {
      this.#remove(error, channel)
      return ALL_ONES
    }
  }

  async #writeRemote(offset: number, value: number): Promise<void> {
    if (this.#state !== 'open') return
    this.#looks = new Map()
    if (this.#bar.isMapped(offset)) {
      this.#bar.write(offset, value)
      return
    }
    const channel = this.#channel
    await channel.request(registerWrite(offset, value)).catch((error) => this.#remove(error, channel))
  }

  #peek(offset: number): number | undefined {
    if (this.#state === 'open' && this.#bar.isMapped(offset)) return this.#bar.read(offset)
    this.#channel.attend()
    if (this.#state !== 'open') return ALL_ONES
    let look = this.#looks.get(offset)
    if (look === undefined) {
      look = { value: undefined, asked: false }
      this.#looks.set(offset, look)
    }
    if (!look.asked) this.#look(offset, look)
    return look.value
  }

  #look(offset: number, look: Look): void {
    look.asked = true
    const channel = this.#channel
    channel.post(registerRead(offset), (error, reply) => {
      look.asked = false
      if (error !== null) this.#remove(error, channel)
      else look.value = reply!.readUInt32LE()
    })
  }

  /**
   * Blocks for up to `patience`, and throws CommandTimeoutError after that: the answer is undone when it comes. Memory
   * that is made while the server is away goes to the next one.
   */
  mapDma(bytes: number): DmaArena {
    const planned = this.#plan(bytes)
    const { iova, memory } = planned
    const { channel } = this.#peer
    let late = false
    try {
      if (this.away) return this.#mapped(planned, bytes)
      channel.requestNow(dmaMap(memory.fd, iova, bytes), this.#options.patience, (error) => {
        if (error === null) channel.post(dmaUnmap(iova, bytes), this.#unmapped(iova))
        this.#undo(planned)
      })
    } catch (error) {
      late = error instanceof CommandTimeoutError
      if (late) throw error
      if (this.away) return this.#mapped(planned, bytes)
      throw this.#notMapped(planned, bytes, error)
    } finally {
      if (!late) this.#planned--
    }
    return this.#mapped(planned, bytes)
  }

  async mapDmaAsync(bytes: number): Promise<DmaArena> {
    const planned = this.#plan(bytes)
    try {
      if (this.away) return this.#mapped(planned, bytes)
      await this.#channel.request(dmaMap(planned.memory.fd, planned.iova, bytes))
    } catch (error) {
      if (this.away) return this.#mapped(planned, bytes)
      throw this.#notMapped(planned, bytes, error)
    } finally {
      this.#planned--
    }
    if (this.#state === 'open' || this.away) return this.#mapped(planned, bytes)
    destroySharedMemory(planned.memory)
    throw this.#removal ?? new ClosedError(`mapDma on ${this.address}: it is closed`)
  }

  #plan(bytes: number): Planned {
    if (!this.away) this.#checkOpen('mapDma')
    if (!Number.isSafeInteger(bytes) || bytes <= 0 || bytes % 4096 !== 0 || bytes > MAX_VIEW_BYTES) {
      throw new OutOfRangeError(
        `mapDma of ${bytes} bytes: a multiple of 4096 up to ${MAX_VIEW_BYTES} is needed`,
      )
    }
    if (this.#arenas.size + this.#planned >= MAX_MAPPINGS) {
      throw new OutOfMemoryError(
        `mapDma of ${bytes} bytes: ${MAX_MAPPINGS} mappings are the most that a vfio-user server takes; larger ones help`,
      )
    }
    const iova = this.#iovas.take(bytes, HUGE_PAGE_BYTES)
    if (iova < 0) throw new OutOfMemoryError(`mapDma of ${bytes} bytes: no IOVA range of this size is left`)
    try {
      const memory = createSharedMemory(bytes, { hugePages: true })
      this.#planned++
      return { iova, memory }
    } catch (cause) {
      this.#iovas.give(iova)
      if (!(cause instanceof SystemCallError)) throw cause
      throw new OutOfMemoryError(`mapDma of ${bytes} bytes on ${this.address}: ${cause.message}`, { cause })
    }
  }

  #mapped({ iova, memory }: Planned, bytes: number): DmaArena {
    const { fd, address, hugePages } = memory
    const arena: DmaArena = { iova, bytes, fd, address, hugePages }
    this.#arenas.set(arena, memory)
    return arena
  }

  /** The error for a mapping that the server did not make; its memory is given back. */
  #notMapped({ iova, memory }: Planned, bytes: number, cause: unknown): unknown {
    this.#iovas.give(iova)
    destroySharedMemory(memory)
    if (this.#removal !== null) return this.#removal
    if (!(cause instanceof SystemCallError)) return cause
    return new OutOfMemoryError(`mapDma of ${bytes} bytes on ${this.address}: ${cause.message}`, { cause })
  }

  /** For a mapping that was given up before its answer came. */
  #undo({ memory }: Planned): void {
    this.#planned--
    destroySharedMemory(memory)
  }

  // A server that refuses keeps what it has mapped there: the range is not used again. The one after it has nothing.
  #unmapped(iova: number) {
    return (error: Error | null) => {
      const gone = this.#options.again !== null && !(error instanceof SystemCallError)
      if (error === null || gone) this.#iovas.give(iova)
      else log('%s: memory at %s is not given back: %s', this.address, iova.toString(16), error)
    }
  }

  /** Does not wait for the server: what it still has mapped is memory of its own by then. */
  unmapDma(arena: DmaArena): void {
    const memory = this.#arenas.get(arena)
    if (memory === undefined) return
    this.#arenas.delete(arena)
    if (this.#attempt?.mapped.has(arena)) {
      this.#attempt.unmapped.push([arena, memory])
      return
    }
    this.#unmap(arena)
    destroySharedMemory(memory)
  }

  #unmap({ iova, bytes }: DmaArena): void {
    if (this.#state === 'open') this.#channel.post(dmaUnmap(iova, bytes), this.#unmapped(iova))
    else if (this.away) this.#iovas.give(iova)
  }

  async enableInterrupts(count: number, handler: (vector: number) => void): Promise<void> {
    this.#checkOpen('enableInterrupts')
    if (!Number.isInteger(count) || count < 1 || count > this.vectors) {
      throw new OutOfRangeError(`${count} interrupt vectors: ${this.address} has ${this.vectors}`)
    }
    await this.#endInterrupts(true)
    const vectors = enableVectors(count, handler, (eventfds) => {
      this.#connecting = this.#connectVectors(eventfds)
    })
    try {
      await this.#connecting
    } catch (error) {
      vectors.close(false)
      throw this.#removal ?? error
    }
    this.#interrupts = vectors
  }

  // MSI-X is on only while there are eventfds.
  async #connectVectors(eventfds: readonly number[]): Promise<void> {
    this.#eventfds = eventfds
    await connectVectors(this.#peer, eventfds)
  }

  async #endInterrupts(device: boolean): Promise<void> {
    const interrupts = this.#interrupts
    if (interrupts === null) return
    this.#interrupts = null
    this.#eventfds = []
    interrupts.close(device)
    await this.#connecting
  }

  arm(vector: number): void {
    this.#interrupts?.arm(vector)
  }

  disarm(vector: number): void {
    this.#interrupts?.disarm(vector)
  }

  checkRemoved(): boolean {
    if (this.#state === 'open') this.#channel.checkEnd()
    return this.#state !== 'open'
  }

  async reset(): Promise<void> {
    this.#checkOpen('reset')
    const { config, canReset } = this.#peer
    if (!canReset) throw new UnsupportedError(`${this.address} can't be reset by itself`)
    this.#looks = new Map()
    try {
      await this.#channel.request(deviceReset())
      await config.enable()
      await config.enableMsix(this.#interrupts !== null)
    } catch (error) {
      throw this.#removal ?? error
    }
  }

  quiesce(): void {
    if (this.#state !== 'open') return
    this.#channel.post(this.#peer.config.disable, (error) => {
      if (error !== null) log('%s: bus master stays on: %s', this.address, error)
    })
  }

  close(): Promise<void> {
    this.#closed ??= this.#close()
    return this.#closed
  }

  async #close(): Promise<void> {
    this.quiesce()
    // A server that has answered every request leaves nothing to be done when the connection ends.
    await this.#endInterrupts(this.#state === 'open').catch((error) => {
      log('%s: while closing: %s', this.address, error)
    })
    for (const arena of [...this.#arenas.keys()]) this.unmapDma(arena)
    await this.#channel.settled()
    // What was being mapped is there by now.
    for (const arena of [...this.#arenas.keys()]) this.unmapDma(arena)
    this.#state = 'closed'
    this.#bar.retire()
    this.#channel.close()
  }

  /** True while the server is gone, and another may come in its place. */
  get away(): boolean {
    return this.#state === 'away'
  }

  async #reconnect(limit: number, signal: AbortSignal): Promise<void> {
    const until = this.#goneAt + limit
    const ended = () => new ClosedError(`${this.address} was closed while its server was away`)
    // Whoever serves one client after the other has to see the end of this one first.
    this.#channel.close()
    for (let cause = this.#removal; ; ) {
      if (signal.aborted || this.#state === 'closed') throw ended()
      if (this.#state !== 'away') throw this.#removal
      const left = until - performance.now()
      if (left <= 0) {
        const message = `device removed: the server of ${this.address} did not come back within ${limit} ms`
        throw this.#giveUp(new DeviceRemovedError(message, { cause }))
      }
      const channel = this.#connect()
      if (!(channel instanceof Error)) {
        const late = setTimeout(
          () => channel.fail(new CommandTimeoutError('the time is over')),
          Math.min(left, MAX_TIMER_MS),
        )
        const forget = onAbort(signal, () => channel.fail(ended()))
        try {
          await this.#goOn(channel)
          return
        } catch (error) {
          const refused = channel.failure === null && this.away
          channel.close()
          if (refused) throw this.#giveUp(this.#removalBy(error))
          cause = error as Error
        } finally {
          clearTimeout(late)
          forget()
        }
      } else cause = channel
      await pause(Math.min(RETRY_MS, left), signal)
    }
  }

  #connect(): Channel | Error {
    try {
      return this.#options.again!()
    } catch (error) {
      return error as Error
    }
  }

  /** Gives the server at the other end what the one before it had. Where this rejects, nothing has changed. */
  async #goOn(channel: Channel): Promise<void> {
    const attempt: Attempt = { channel, mapped: new Set(), unmapped: [] }
    this.#attempt = attempt
    try {
      const peer = await meet(channel, await channel.negotiate())
      if (peer.vectors !== this.vectors) {
        throw new DeviceRemovedError(
          `device removed: ${this.address} has ${peer.vectors} vectors, before ${this.vectors}`,
        )
      }
      if (this.#eventfds.length > 0) await connectVectors(peer, this.#eventfds)
      const { region, fds } = await this.#mapAgain(attempt)
      if (!this.away) {
        closeDescriptors(fds)
        throw new ClosedError(`${this.address} is closed`)
      }
      this.#bar.restore(region, fds)
      this.#peer = peer
      this.#looks = new Map()
      this.#state = 'open'
      this.#removal = null
      channel.onEnd = (failure) => this.#remove(failure)
      log('%s: its server is back', this.address)
    } finally {
      this.#attempt = null
      for (const [arena, memory] of attempt.unmapped) {
        this.#unmap(arena)
        destroySharedMemory(memory)
      }
    }
  }

  /** Maps what there is, and what is added meanwhile: when it resolves, the server has all of it. */
  async #mapAgain({ channel, mapped }: Attempt): Promise<{ region: Region; fds: number[] }> {
    for (;;) {
      const missing = () => [...this.#arenas.keys()].filter((arena) => !mapped.has(arena))
      for (let arenas = missing(); arenas.length > 0; arenas = missing()) {
        for (const arena of arenas) mapped.add(arena)
        await Promise.all(arenas.map(({ fd, iova, bytes }) => channel.request(dmaMap(fd, iova, bytes))))
      }
      const bar = await channel.request(regionInfo(REGION.BAR0))
      if (missing().length === 0) return bar
      closeDescriptors(bar.fds)
    }
  }

  #giveUp(error: Error): Error {
    this.#state = 'removed'
    this.#removal = error
    log('%s', error.message)
    return error
  }

  #removalBy(cause: unknown): DeviceRemovedError {
    if (cause instanceof DeviceRemovedError) return cause
    return new DeviceRemovedError(`device removed: ${this.address}: ${(cause as Error).message}`, { cause })
  }

  #remove(cause: unknown, channel = this.#channel): void {
    if (this.#state !== 'open' || channel !== this.#channel) return
    this.#state = this.#options.again === null ? 'removed' : 'away'
    this.#goneAt = performance.now()
    this.#bar.cover()
    const error = this.#removalBy(cause)
    this.#removal = error
    log('%s', error.message)
    channel.fail(error)
    setImmediate(() => {
      // It may be back by now.
      if (this.#removal === error) this.onRemoved?.(error)
    })
  }

  #checkOpen(call: string): void {
    if (this.#state === 'removed' || this.away) throw this.#removal
    if (this.#state === 'closed') throw new ClosedError(`${call} on ${this.address}: it is closed`)
  }
}

/** Asks who is at the other end, and turns its device on. */
async function meet(channel: Channel, { maxMsgFds }: Capabilities): Promise<Peer> {
  const { flags } = await channel.request(deviceInfo())
  if ((flags & DEVICE_FLAGS.PCI) === 0) throw new UnsupportedError(`${channel.name} is no PCI device`)
  const vectors = await channel.request(irqCount(IRQ.MSIX))
  const config = await openConfigSpace(channel)
  await config.enable()
  // Eventfds are given later, if at all: until then an interrupt would reach no handler.
  await config.enableMsix(false)
  const maxFds = Math.min(maxMsgFds, MAX_FDS)
  return { channel, maxFds, canReset: (flags & DEVICE_FLAGS.RESET) !== 0, vectors, config }
}

async function connectVectors(peer: Peer, eventfds: readonly number[]): Promise<void> {
  const { channel, config, maxFds } = peer
  if (eventfds.length === 0) await config.enableMsix(false)
  const sets = irqSets(IRQ.MSIX, eventfds, maxFds)
  await Promise.all(sets.map((set) => channel.request(set)))
  if (eventfds.length > 0) await config.enableMsix(true)
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer)
      forget()
      resolve()
    }
    const timer = setTimeout(end, ms)
    const forget = onAbort(signal, end)
  })
}

interface Look {
  value: number | undefined
  asked: boolean
}

const registerRead = (offset: number) => regionRead(REGION.BAR0, offset, 4)

function registerWrite(offset: number, value: number) {
  const data = Buffer.alloc(4)
  data.writeUInt32LE(value >>> 0)
  return regionWrite(REGION.BAR0, offset, data)
}
