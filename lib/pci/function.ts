// A PCI function as the NVMe driver sees it: BAR 0, DMA memory, interrupts, reset, close.
// Registers are read and written by call, since some transports have no mapping for them;
// doorbells are a plain Uint32Array, since a call for each would be the most of their cost.

import type { DmaSource } from '../memory/source.ts'

/**
 * One open PCI function. lib/vfio, lib/vfio-user and lib/sim make them; lib/nvme drives them.
 *
 * Ringing a doorbell is: store to `doorbells[i]`, and after a batch of stores call `notify` where there is one.
 * Looking for completions is: call `step` where there is one, then read the completion queue in memory.
 */
export interface PciFunction extends DmaSource {
  /** What moves the data: for messages. */
  readonly transport: 'vfio' | 'vfio-user' | 'sim' | 'sim-thread'
  /** No hardware is behind it. */
  readonly emulated: boolean
  /** What tells the disk image behind it from every other file, where there is one. */
  readonly image?: string | undefined

  /** Reads the 32-bit register of BAR 0 at a byte offset. All-ones where the device is gone. */
  readRegister(offset: number): number
  /** Writes the 32-bit register of BAR 0 at a byte offset. */
  writeRegister(offset: number, value: number): void
  /**
   * Where there is one: registers by messages to another process, which may be slow or stopped. The two calls above
   * then may block (a read) or not have happened yet on return (a write); who can wait uses this.
   */
  readonly remote?: RemoteRegisters
  /** BAR 0 from offset 1000h on. Only `doorbells[i]` loads and stores. */
  readonly doorbells: Uint32Array

  /** Tells the controller about doorbell stores; null where the store is all that is needed. */
  readonly notify: (() => void) | null
  /** Lets a controller without a processor of its own work; null where the controller runs by itself. */
  readonly step: (() => void) | null

  /** Interrupt vectors that can be had; 0 where polling is the only way. */
  readonly vectors: number
  /**
   * Asks for the first `count` vectors. `handler` runs on the event loop, for an armed vector that fired.
   * Call once, before queues are created. Where it is a promise, they are on when that resolves.
   */
  enableInterrupts(count: number, handler: (vector: number) => void): void | Promise<void>
  /** From now on an interrupt of this vector calls the handler and keeps the process alive until disarmed. */
  arm(vector: number): void
  disarm(vector: number): void

  /** Where there is one: what took the device away, once something has. */
  readonly removal?: Error | null
  /** Set by the driver: called on the event loop, once for each time that the device is known to be gone. */
  onRemoved: ((cause: Error) => void) | null
  /**
   * Where there is one: looks whether the device is gone, for a caller that polls without letting the event loop
   * run (which could not learn it from `onRemoved`). Costs a system call: once in some thousand empty polls.
   */
  checkRemoved?(): boolean

  /** True while the device is gone and `reconnect` may bring it back: memory can be mapped and unmapped meanwhile. */
  readonly away?: boolean
  /**
   * Where there is one: waits for the device to come back, with registers as after power on, and the same BAR,
   * doorbells, DMA mappings and interrupts. Rejects with DeviceRemovedError where it is not back in time, or another one
   * is there: it is gone for good then. Rejects with ClosedError as soon as `signal` is aborted.
   * @param limit milliseconds since it was known to be gone
   */
  reconnect?(limit: number, signal: AbortSignal): Promise<void>

  /** Where there is one: what another thread needs to drive queues of the function. See `attachFunction`. */
  share?(): FunctionShare

  /** Function-level reset. Registers and queues are as after power on; DMA mappings stay. */
  reset(): Promise<void>
  /** From now on the device reaches no memory (bus master off): before memory is given back. Never throws. */
  quiesce(): void
  /** Gives everything back: interrupts off, bus master off, memory unmapped. Never throws twice. */
  close(): Promise<void>
}

/** 32-bit registers of BAR 0 that are reached by messages. */
export interface RemoteRegisters {
  /** All-ones where the device is gone. */
  read(offset: number): Promise<number>
  /** Resolves when the device has it, or is gone. */
  write(offset: number, value: number): Promise<void>
  /**
   * What the register was when last looked at, since the last write; undefined where that is not known yet. Never
   * waits: it asks for the value that a later call gives. All-ones where the device is gone.
   */
  peek(offset: number): number | undefined
}

/** Reads a register without blocking, however it is reached. */
export async function readRegister(pci: PciFunction, offset: number): Promise<number> {
  return pci.remote === undefined ? pci.readRegister(offset) : pci.remote.read(offset)
}

/** Writes a register without blocking, however it is reached. */
export async function writeRegister(pci: PciFunction, offset: number, value: number): Promise<void> {
  if (pci.remote === undefined) pci.writeRegister(offset, value)
  else await pci.remote.write(offset, value)
}

/** 32-bit words that several threads see: an array over shared memory, or where they are mapped. */
export type SharedWords = Uint32Array | { readonly address: bigint; readonly bytes: number }

/** What another thread needs of a function; it can be posted to it. */
export interface FunctionShare {
  readonly address: string
  readonly transport: PciFunction['transport']
  readonly emulated: boolean
  readonly maxArenaBytes: number
  /** BAR 0 from offset 1000h on. */
  readonly doorbells: SharedWords
  /** BAR 0 from offset 0, as far as it can be loaded from; null where registers are read by call. */
  readonly registers: SharedWords | null
  /** Where a controller that sleeps is woken: word `index` is 1 while it sleeps. Null where it never does. */
  readonly sleeper: { readonly words: Int32Array; readonly index: number } | null
}
