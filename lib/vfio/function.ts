// One open PCI function by VFIO: ties device file, BAR 0, DMA memory and interrupts together in the right order.
// A device that is taken away is released at once, since the kernel holds the removal until then; what
// is left for `close` is this process's own memory.

import fs from 'node:fs'
import { ClosedError, DeviceRemovedError, OutOfRangeError, UnsupportedError } from '../errors.ts'
import { logger } from '../log/index.ts'
import {
  createSharedMemory,
  type DmaArena,
  destroySharedMemory,
  type SharedMemory,
} from '../memory/mapping.ts'
import { type Bar, mapBar } from '../pci/bar.ts'
import type { FunctionShare, PciFunction } from '../pci/function.ts'
import type { PciFacts } from '../pci/sysfs.ts'
import { enableVectors, Signal, type Vectors } from '../sys/signal.ts'
import { HUGE_PAGE_BYTES } from '../sys/units.ts'
import { DEVICE_FLAGS, IRQ, REGION } from '../vfio-abi/device.ts'

import {
  accessRegion,
  type ConfigSpace,
  countIrqs,
  getDeviceInfo,
  getRegion,
  openConfigSpace,
  resetDevice,
  setIrqs,
} from './device.ts'
import type { IommuGroup } from './group.ts'

const log = logger('vfio')

type State = 'open' | 'resetting' | 'removed' | 'closed'

/** A PCI function that VFIO has opened; see `openVfio`. */
export class VfioFunction implements PciFunction {
  readonly address: string
  readonly transport = 'vfio'
  readonly emulated = false
  readonly notify = null
  readonly step = null
  readonly doorbells: Uint32Array
  readonly vectors: number
  readonly maxArenaBytes: number
  /** Which of VFIO's interfaces it was opened by. */
  readonly iommu: IommuGroup['kind']
  onRemoved: ((cause: Error) => void) | null = null

  readonly #fd: number
  readonly #group: IommuGroup
  readonly #leave: (closed: Promise<void>) => Promise<void>
  readonly #bar: Bar
  readonly #config: ConfigSpace
  readonly #canReset: boolean
  readonly #arenas = new Map<DmaArena, SharedMemory>()
  // Those that the device can reach.
  readonly #mapped = new Set<DmaArena>()
  // Signals of the kernel about the device itself: they do not keep the process alive.
  readonly #notices: { index: number; signal: Signal; what: string }[] = []
  #interrupts: Vectors | null = null
  #state: State = 'open'
  #released: Promise<void> | null = null
  #resetting: Promise<void> | null = null

  /**
   * Takes over the device's file. Where this throws, everything but the file and the group has been given back.
   * @param leave undoes what `openVfio` did before: called when the device's file is closed
   */
  constructor(
    fd: number,
    facts: PciFacts,
    group: IommuGroup,
    leave: (closed: Promise<void>) => Promise<void>,
  ) {
    this.address = facts.name
    this.#fd = fd
    this.#group = group
    this.#leave = leave
    this.iommu = group.kind
    this.maxArenaBytes = group.maxArenaBytes
    const { flags } = getDeviceInfo(fd, facts.name)
    this.#canReset = (flags & DEVICE_FLAGS.RESET) !== 0
    if (!this.#canReset && group.kind === 'noiommu') {
      // It may still have queues in memory that is somebody else's by now.
      throw new UnsupportedError(`${facts.name} can't be reset, which is needed where there is no IOMMU`)
    }
    this.vectors = countIrqs(fd, IRQ.MSIX)
    this.#config = openConfigSpace(fd)
    this.#config.enable()
    const region = getRegion(fd, REGION.BAR0)
    this.#bar = mapBar(fd, region, accessRegion(fd, region), facts.name)
    this.doorbells = this.#bar.doorbells
    try {
      this.#watch(IRQ.REQ, 'was removed')
      this.#watch(IRQ.ERR, 'reported a PCI Express error that it can not recover from')
    } catch (error) {
      this.#closeNotices(true)
      this.#bar.retire()
      throw error
    }
    log('%s: open by %s, %d vectors', this.address, group.kind, this.vectors)
  }

  readRegister(offset: number): number {
    return this.#bar.read(offset)
  }

  writeRegister(offset: number, value: number): void {
    this.#bar.write(offset, value)
  }

  mapDma(bytes: number): DmaArena {
    this.#checkOpen('mapDma')
    if (!Number.isSafeInteger(bytes) || bytes <= 0 || bytes % 4096 !== 0 || bytes > this.maxArenaBytes) {
      throw new OutOfRangeError(
        `mapDma of ${bytes} bytes: a multiple of 4096 up to ${this.maxArenaBytes} is needed`,
      )
    }
    const { needsHugePage } = this.#group
    const options = { hugePages: needsHugePage, pinned: true }
    const memory = createSharedMemory(needsHugePage ? HUGE_PAGE_BYTES : bytes, options)
    try {
      const iova = this.#group.map(memory, this.address)
      const { fd, address, hugePages } = memory
      const arena: DmaArena = { iova, bytes, fd, address, hugePages }
      this.#arenas.set(arena, memory)
      this.#mapped.add(arena)
      return arena
    } catch (error) {
      destroySharedMemory(memory)
      throw error
    }
  }

  unmapDma(arena: DmaArena): void {
    const memory = this.#arenas.get(arena)
    if (memory === undefined) return
    this.#arenas.delete(arena)
    this.#unmapFromDevice(arena)
    destroySharedMemory(memory)
  }

  enableInterrupts(count: number, handler: (vector: number) => void): void {
    this.#checkOpen('enableInterrupts')
    if (!Number.isInteger(count) || count < 1 || count > this.vectors) {
      throw new OutOfRangeError(`${count} interrupt vectors: ${this.address} has ${this.vectors}`)
    }
    this.#interrupts?.close(true)
    this.#interrupts = enableVectors(count, handler, (eventfds) => setIrqs(this.#fd, IRQ.MSIX, eventfds))
  }

  arm(vector: number): void {
    this.#interrupts?.arm(vector)
  }

  disarm(vector: number): void {
    this.#interrupts?.disarm(vector)
  }

  /**
   * Looks whether the kernel wants the device back, for a caller that polls without letting the event loop run.
   * One system call, some 0.3 us. True once the device is gone; `onRemoved` follows on the event loop.
   */
  checkRemoved(): boolean {
    if (this.#state !== 'open') return this.#state !== 'resetting'
    const notice = this.#notices.find(({ signal }) => signal.pending)
    if (notice === undefined) return false
    this.#remove(notice.what)
    return true
  }

  /** Loads and stores of other threads see a device that was taken away as this one's: as all-ones. */
  share(): FunctionShare {
    this.#checkOpen('share')
    const { address, transport, emulated, maxArenaBytes } = this
    return { address, transport, emulated, maxArenaBytes, ...this.#bar.share(), sleeper: null }
  }

  async reset(): Promise<void> {
    this.#checkOpen('reset')
    if (!this.#canReset) throw new UnsupportedError(`${this.address} can't be reset by itself`)
    this.#state = 'resetting'
    // Memory decoding is off meanwhile, and an access to the BAR would end the process.
    this.#bar.cover()
    try {
      this.#resetting = resetDevice(this.#fd)
      await this.#resetting
      if (this.#state !== 'resetting') throw this.#unusable('reset')
      this.#config.enable()
      this.#bar.uncover()
      this.#state = 'open'
    } catch (error) {
      this.#remove('could not be reset', error)
      throw error
    }
  }

  quiesce(): void {
    if (this.#released === null) tolerate(() => this.#config.disable())
  }

  async close(): Promise<void> {
    if (this.#state !== 'removed') this.#bar.cover()
    this.#state = 'closed'
    try {
      await this.#release()
    } finally {
      this.#bar.retire()
      for (const arena of [...this.#arenas.keys()]) this.unmapDma(arena)
    }
  }

  #unmapFromDevice(arena: DmaArena): void {
    if (this.#mapped.delete(arena)) this.#group.unmap(arena.iova, arena.bytes)
  }

  #checkOpen(call: string): void {
    if (this.#state !== 'open') throw this.#unusable(call)
  }

  #unusable(call: string): Error {
    return this.#state === 'removed'
      ? new DeviceRemovedError(`${call}: ${this.address} was removed`)
      : new ClosedError(`${call} on ${this.address}: it is ${this.#state}`)
  }

  // Signals that the kernel offers for the device; an older one may not.
  #watch(index: number, what: string): void {
    if (countIrqs(this.#fd, index) === 0) return
    const signal = new Signal(() => this.#remove(what), { keepsAlive: false })
    this.#notices.push({ index, signal, what })
    setIrqs(this.#fd, index, [signal.fd])
    signal.arm()
  }

  #closeNotices(device: boolean): void {
    for (const { index, signal } of this.#notices.splice(0)) {
      if (device) tolerate(() => setIrqs(this.#fd, index, []))
      signal.close()
    }
  }

  // The device is going away, or of no use any more: nothing may touch it from here on.
  #remove(what: string, cause?: unknown): void {
    if (this.#state !== 'open' && this.#state !== 'resetting') return
    this.#bar.cover()
    tolerate(() => this.#config.disable())
    this.#state = 'removed'
    log('%s %s', this.address, what)
    const error = new DeviceRemovedError(`${this.address} ${what}`, { cause })
    setImmediate(() => {
      // The kernel waits for this release; who asked for memory or a close hears of what failed.
      this.#release().catch((failure) => log('%s: release failed: %s', this.address, failure))
      this.onRemoved?.(error)
    })
  }

  // Gives the device back to the kernel, once. The memory stays, since buffers are still somebody's.
  #release(): Promise<void> {
    this.#released ??= this.#leave(this.#releaseDevice())
    return this.#released
  }

  async #releaseDevice(): Promise<void> {
    // Each step is for itself: a device that is gone fails some of them, and the others must still be done.
    tolerate(() => this.#config.disable())
    tolerate(() => this.#interrupts?.close(true))
    this.#interrupts = null
    this.#closeNotices(true)
    // A reset that is under way still uses the file.
    await this.#resetting?.catch(() => {})
    // The kernel resets the function when its last file is closed, some 100 ms: on another thread.
    await new Promise<void>((resolve) => fs.close(this.#fd, () => resolve()))
    for (const arena of [...this.#mapped]) this.#unmapFromDevice(arena)
  }
}

function tolerate(step: () => void): void {
  try {
    step()
  } catch (error) {
    log('while closing: %s', error)
  }
}
