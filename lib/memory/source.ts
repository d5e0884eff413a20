// Where the memory of a pool comes from: what a pool needs of whatever its device is reached by.

import type { DmaArena } from './mapping.ts'

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
  /** Takes the memory back from the device and from the process. Views of it become harmless. */
  unmapDma(arena: DmaArena): void
  /** Where there is one: after `unmapDma`, once no view of huge pages is left, their addresses are given back. */
  releaseAddresses?(arena: DmaArena): void
}

/** How memory for the device comes to a thread that can't map it. */
export type SharedDma = Pick<DmaSource, 'mapDma'>
