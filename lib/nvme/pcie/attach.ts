// A controller's transport in a second thread of the process, which drives queues that another thread has created.

import type { DmaPool } from '../../memory/pool.ts'
import type { SharedDma } from '../../memory/source.ts'
import type { FunctionShare, PciFunction } from '../../pci/function.ts'
import { attachFunction } from '../../pci/share.ts'
import type { Queue, QueueShareFacts } from '../host/queue.ts'
import type { AttachedTransport } from '../host/transport.ts'
import { HealthCheck } from './bring-up.ts'
import { QueuePair } from './queue-pair.ts'
import type { QueuePairShare } from './queue-pair-share.ts'

/** What a thread has of a transport that another thread opened. It must not be used any more once that is closed. */
export class AttachedPcie implements AttachedTransport {
  readonly address: string
  readonly kind: string
  readonly emulated: boolean
  readonly memory: PciFunction
  // Where registers can't be loaded, the owner's own look is what tells of a failure.
  readonly #readable: boolean
  readonly #health: HealthCheck

  /** @param dma asks the owner for memory */
  constructor(share: FunctionShare, dma: SharedDma) {
    this.address = share.address
    this.kind = share.transport
    this.emulated = share.emulated
    this.memory = attachFunction(share, dma)
    this.#readable = share.registers !== null
    this.#health = new HealthCheck(this.memory)
  }

  readProperty(offset: number): number {
    return this.memory.readRegister(offset)
  }

  health(): Error | null {
    return this.#readable ? this.#health.look() : null
  }

  attachQueue(pool: DmaPool, share: QueueShareFacts): Queue {
    const pair = share as QueuePairShare
    return new QueuePair(this.memory, pool, pair, pair)
  }
}
