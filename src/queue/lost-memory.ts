// Memory of commands that had no answer: the device may still write to it.
// Trade-off: it stays in use until the controller is reset or closed, or the queue made anew, however long that takes.

import type { DmaAllocation } from '../../lib/memory/tag.ts'
import { type Operation, releaseMemory } from './operation.ts'

/** The memory of one queue's lost commands. */
export class LostMemory {
  readonly #held: DmaAllocation[] = []

  /** The memory of an operation has one more user: the device. */
  hold(op: Operation): void {
    for (const allocation of op.memory()) {
      allocation.users++
      this.#held.push(allocation)
    }
  }

  /** The device can't write to it any more. */
  release(): void {
    for (const allocation of this.#held.splice(0)) releaseMemory(allocation)
  }
}
