// One open PCI function behind a vfio-user socket: ties channel, BAR 0, DMA memory and interrupts together.
// Trade-off: whatever goes wrong with the server after the opening counts as removal of the device, since nothing
// it says can be relied on then; its cause is kept.

import {
  ClosedError,
  DeviceRemovedError,
  OutOfMemoryError,
  OutOfRangeError,
  SystemCallError,
  UnsupportedError,
} from '../errors.ts'
import { logger } from '../log/index.ts'
import {
  createSharedMemory,
  type DmaArena,
  destroySharedMemory,
  enableVectors,
  type FunctionShare,
  IovaSpace,
  MAX_VIEW_BYTES,
  type PciFunction,
  type SharedMemory,
  type Vectors,
} from '../pci/index.ts'
import type { Channel } from './channel.ts'
import { type ConfigSpace, openConfigSpace } from './config.ts'
import { COMMAND, DEVICE_FLAGS, IRQ, MAX_FDS, MAX_MAPPINGS, REGION } from './constants.ts'
import { countIrqs, getDeviceInfo, getRegion, mapMemory, setIrqs, unmapMemory } from './device.ts'
import { accessRegisters, type DoorbellBar, openBar } from './doorbells.ts'
import { type Watch, watch } from './socket.ts'
import type { Capabilities } from './version.ts'

const log = logger('vfio-user')
const ALL_ONES = 0xffff_ffff
const IOVA_LAST = 2 ** 39 - 1
const HUGE_PAGE = 2 ** 21

type State = 'open' | 'removed' | 'closed'

/** A PCI function of a vfio-user server; see `openVfioUser`. */
export class VfioUserFunction implements PciFunction {
  readonly address: string
  readonly transport = 'vfio-user'
  readonly step = null
  readonly notify: (() => void) | null
  readonly doorbells: Uint32Array
  readonly vectors: number
  readonly maxArenaBytes = MAX_VIEW_BYTES
  onRemoved: ((cause: Error) => void) | null = null
  share?: () => FunctionShare

  readonly #channel: Channel
  readonly #maxFds: number
  readonly #bar: DoorbellBar
  readonly #config: ConfigSpace
  readonly #canReset: boolean
  readonly #watch: Watch
  readonly #iovas = new IovaSpace([{ first: 0, last: IOVA_LAST }])
  readonly #arenas = new Map<DmaArena, SharedMemory>()
  #interrupts: Vectors | null = null
  #state: State = 'open'
  #removal: Error | null = null

  /** Takes over a channel whose version has been negotiated. Where this throws, the channel is still the caller's. */
  constructor(channel: Channel, { maxMsgFds }: Capabilities) {
    this.address = channel.name
    this.#channel = channel
    this.#maxFds = Math.min(maxMsgFds, MAX_FDS)
    this.#canReset = (getDeviceInfo(channel).flags & DEVICE_FLAGS.RESET) !== 0
    this.vectors = countIrqs(channel, IRQ.MSIX)
    this.#config = openConfigSpace(channel)
    this.#config.enable()
    // Eventfds are given later, if at all: until then an interrupt would reach nobody.
    this.#config.enableMsix(false)
    const { region, fds } = getRegion(channel, REGION.BAR0)
    this.#bar = openBar(channel, region, fds, accessRegisters(channel))
    this.doorbells = this.#bar.doorbells
    const { notify, share } = this.#bar
    this.notify = notify && (() => this.#guard(notify))
    const { address, transport, maxArenaBytes } = this
    if (share !== null) this.share = () => ({ address, transport, maxArenaBytes, ...share(), sleeper: null })
    this.#watch = watch(channel.fd, () => this.#attend())
    // A server that is idle does not keep the process alive.
    this.#watch.unref()
    log('%s: open, %d vectors, doorbells by %s', this.address, this.vectors, notify ? 'message' : 'memory')
  }

  /** What ended the function, once something has. */
  get removal(): Error | null {
    return this.#removal
  }

  readRegister(offset: number): number {
    return this.#guard(() => this.#bar.read(offset)) ?? ALL_ONES
  }

  writeRegister(offset: number, value: number): void {
    this.#guard(() => this.#bar.write(offset, value))
  }

  mapDma(bytes: number): DmaArena {
    this.#checkOpen('mapDma')
    if (!Number.isSafeInteger(bytes) || bytes <= 0 || bytes % 4096 !== 0 || bytes > MAX_VIEW_BYTES) {
      throw new OutOfRangeError(
        `mapDma of ${bytes} bytes: a multiple of 4096 up to ${MAX_VIEW_BYTES} is needed`,
      )
    }
    if (this.#arenas.size >= MAX_MAPPINGS) {
      throw new OutOfMemoryError(
        `mapDma of ${bytes} bytes: ${MAX_MAPPINGS} mappings are the most that a vfio-user server takes; larger ones help`,
      )
    }
    const iova = this.#iovas.take(bytes, HUGE_PAGE)
    if (iova < 0) throw new OutOfMemoryError(`mapDma of ${bytes} bytes: no IOVA range of this size is left`)
    let memory: SharedMemory | undefined
    try {
      memory = createSharedMemory(bytes, { hugePages: true })
      mapMemory(this.#channel, memory.fd, iova, bytes)
      const { fd, address, hugePages } = memory
      const arena: DmaArena = { iova, bytes, fd, address, hugePages }
      this.#arenas.set(arena, memory)
      return arena
    } catch (cause) {
      this.#iovas.give(iova)
      if (memory !== undefined) destroySharedMemory(memory)
      if (this.#noticeFailure()) throw this.#removal
      if (!(cause instanceof SystemCallError)) throw cause
      throw new OutOfMemoryError(`mapDma of ${bytes} bytes on ${this.address}: ${cause.message}`, { cause })
    }
  }

  unmapDma(arena: DmaArena): void {
    const memory = this.#arenas.get(arena)
    if (memory === undefined) return
    this.#arenas.delete(arena)
    if (this.#state === 'open') {
      // A server that refuses keeps what it has mapped there: the memory is given back here, the range is not.
      this.#tolerate(() => {
        unmapMemory(this.#channel, arena.iova, arena.bytes)
        this.#iovas.give(arena.iova)
      })
    }
    destroySharedMemory(memory)
  }

  enableInterrupts(count: number, handler: (vector: number) => void): void {
    this.#checkOpen('enableInterrupts')
    if (!Number.isInteger(count) || count < 1 || count > this.vectors) {
      throw new OutOfRangeError(`${count} interrupt vectors: ${this.address} has ${this.vectors}`)
    }
    try {
      this.#interrupts?.close(true)
      this.#interrupts = enableVectors(count, handler, (eventfds) => this.#connectVectors(eventfds))
    } catch (error) {
      if (this.#noticeFailure()) throw this.#removal
      throw error
    }
  }

  // MSI-X is on only while there are eventfds.
  #connectVectors(eventfds: readonly number[]): void {
    if (eventfds.length === 0) this.#config.enableMsix(false)
    setIrqs(this.#channel, IRQ.MSIX, eventfds, this.#maxFds)
    if (eventfds.length > 0) this.#config.enableMsix(true)
  }

  arm(vector: number): void {
    this.#interrupts?.arm(vector)
  }

  disarm(vector: number): void {
    this.#interrupts?.disarm(vector)
  }

  checkRemoved(): boolean {
    if (this.#state === 'open' && this.#channel.checkEnd()) this.#noticeFailure()
    return this.#state !== 'open'
  }

  async reset(): Promise<void> {
    this.#checkOpen('reset')
    if (!this.#canReset) throw new UnsupportedError(`${this.address} can't be reset by itself`)
    try {
      this.#channel.request(COMMAND.DEVICE_RESET)
      this.#config.enable()
      this.#config.enableMsix(this.#interrupts !== null)
    } catch (error) {
      if (this.#noticeFailure()) throw this.#removal
      throw error
    }
  }

  quiesce(): void {
    if (this.#state === 'open') this.#tolerate(() => this.#config.disable())
  }

  async close(): Promise<void> {
    if (this.#state === 'closed') return
    const open = this.#state === 'open'
    this.quiesce()
    this.#tolerate(() => this.#interrupts?.close(open))
    this.#interrupts = null
    for (const arena of [...this.#arenas.keys()]) this.unmapDma(arena)
    this.#state = 'closed'
    this.#watch.close()
    this.#bar.retire()
    this.#channel.close()
  }

  // The event loop has seen something on the socket.
  #attend(): void {
    this.#channel.attend()
    this.#noticeFailure()
  }

  // A register access: what fails ends the device, and nobody is thrown at.
  #guard<T>(access: () => T): T | undefined {
    if (this.#state !== 'open') return undefined
    try {
      return access()
    } catch (error) {
      if (error instanceof OutOfRangeError) throw error
      this.#remove(this.#channel.failure ?? error)
      return undefined
    }
  }

  #tolerate(step: () => void): void {
    try {
      step()
    } catch (error) {
      log('%s: while closing: %s', this.address, error)
    }
    this.#noticeFailure()
  }

  /** True where the channel has ended. */
  #noticeFailure(): boolean {
    const { failure } = this.#channel
    if (failure !== null && this.#state === 'open') this.#remove(failure)
    return failure !== null
  }

  #remove(cause: unknown): void {
    if (this.#state !== 'open') return
    this.#state = 'removed'
    this.#watch.close()
    this.#bar.cover()
    const error =
      cause instanceof DeviceRemovedError
        ? cause
        : new DeviceRemovedError(`device removed: ${this.address}: ${(cause as Error).message}`, { cause })
    this.#removal = error
    log('%s', error.message)
    setImmediate(() => this.onRemoved?.(error))
  }

  #checkOpen(call: string): void {
    if (this.#state === 'removed') throw this.#removal
    if (this.#state === 'closed') throw new ClosedError(`${call} on ${this.address}: it is closed`)
  }
}
