// Where the memory of a pool comes from: what a pool needs of whatever its device is reached by.

import type { DmaArena } from './mapping.ts'
import type { DmaTag } from './tag.ts'

/** Makes memory that a device can reach. */
export interface DmaSource {
  /** The device's address, for messages. */
  readonly address: string
  /** Largest arena in bytes that can be made at once. */
  readonly maxArenaBytes: number
  /**
   * Makes `bytes` (a multiple of 4096) of memory that the device can reach.
   * Throws OutOfMemoryError where a limit is hit, naming the limit.
   */
  mapDma(bytes: number): DmaArena
  /** Where there is one: as `mapDma`, which blocks there until another process has answered. */
  mapDmaAsync?(bytes: number): Promise<DmaArena>
  /**
   * Where there is one, the device can fill any memory: names a caller's for one read, which fills it where it is. Null for
   * what can't be named so. (What is written goes through the pool's: JavaScript can't keep a buffer from being transferred
   * to another thread while a socket has its address.)
   */
  lend?(buffer: Uint8Array): LentMemory | null
  /** Takes the memory back from the device and from the process. Views of it become harmless. */
  unmapDma(arena: DmaArena): void
  /** Where there is one: after `unmapDma`, once no view of huge pages is left, their addresses are given back. */
  releaseAddresses?(arena: DmaArena): void
}

/** A caller's own memory, from `lend` to `giveBack`. No command that is posted later may name it. */
export interface LentMemory extends DmaTag {
  /** The caller has its memory back: what commands without an answer read goes nowhere from now on. */
  part(): void
  /** The same, and the operation has ended. */
  giveBack(): void
}

/** How memory for the device comes to a thread that can't map it. */
export type SharedDma = Pick<DmaSource, 'mapDma'>
