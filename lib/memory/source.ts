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
   * Where there is one, the device needs no memory of its own: names a caller's for one operation, which reads or writes it
   * where it is. Null for what can't be named so.
   * @param toDevice the operation only reads the memory
   */
  lend?(buffer: Uint8Array, toDevice: boolean): LentMemory | null
  /** Takes the memory back from the device and from the process. Views of it become harmless. */
  unmapDma(arena: DmaArena): void
  /** Where there is one: after `unmapDma`, once no view of huge pages is left, their addresses are given back. */
  releaseAddresses?(arena: DmaArena): void
}

/** A caller's own memory, from `lend` to `giveBack`. No command that is posted later may name it. */
export interface LentMemory extends DmaTag {
  /**
   * The caller has its memory back, from now on, though commands without an answer may still be executed: what they read
   * goes nowhere, and what they write is sent from a copy. Before that, nothing of it may be being sent: see `whenSent`.
   */
  part(): void
  /** Null where none of it is being sent; otherwise resolves when that is so. */
  whenSent(): Promise<void> | null
  /** The operation has ended. */
  giveBack(): void
}

/** How memory for the device comes to a thread that can't map it. */
export type SharedDma = Pick<DmaSource, 'mapDma'>
