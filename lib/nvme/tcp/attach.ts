// A controller over TCP in a second thread of the process: connections of its own for the queues that it has, to the
// controller that another thread has connected.

import { DeviceRemovedError, UnsupportedError } from '../../errors.ts'
import type { DmaPool } from '../../memory/pool.ts'
import type { Queue, QueueShareFacts } from '../host/queue.ts'
import type { AttachedTransport, WakeUp } from '../host/transport.ts'
import {
  connectQueue,
  endQueue,
  loadRawLink,
  type TcpPermit,
  type TcpShare,
  wakeUpOf,
  whenFree,
} from './connect.ts'
import { PlainMemory } from './memory.ts'
import { TcpQueue, type TcpQueueShare } from './queue.ts'

export class AttachedTcp implements AttachedTransport {
  readonly address: string
  readonly kind = 'tcp'
  readonly emulated = false
  readonly eventDriven: boolean
  readonly memory: PlainMemory
  readonly views: PlainMemory
  onLost: ((cause: Error) => void) | null = null
  readonly #queues = new Map<number, TcpQueue>()
  #disconnects = false
  // Ends what is being connected.
  #connecting: AbortController | null = null

  constructor({ address, eventDriven }: TcpShare) {
    this.address = address
    this.eventDriven = eventDriven
    this.memory = new PlainMemory(address)
    this.views = this.memory
  }

  readProperty(): never {
    throw new UnsupportedError(`${this.address}: properties are for the thread that opened it to ask for`)
  }

  /** The owner hears of a lost connection, and says what becomes of it. */
  health(): null {
    return null
  }

  attachQueue(_pool: DmaPool, share: QueueShareFacts): Queue {
    const queue = new TcpQueue(this.memory, share as TcpQueueShare)
    this.#queues.set(queue.qid, queue)
    queue.onLost = ({ cause }) => {
      // While it is being connected, that fails.
      if (this.#connecting === null) this.onLost?.(cause)
    }
    return queue
  }

  wakeUp(qid: number): WakeUp {
    return wakeUpOf(() => this.#queues.get(qid), !this.eventDriven)
  }

  async connect(permit: unknown): Promise<void> {
    this.disconnect()
    const { sockets, disconnects, ...common } = permit as TcpPermit
    const connecting = new AbortController()
    const { signal } = connecting
    this.#connecting = connecting
    this.#disconnects = disconnects
    try {
      const makeLink = this.eventDriven ? undefined : await loadRawLink(this.address)
      for (const queue of this.#queues.values()) {
        const { qid, entries } = queue
        const options = { ...common, signal, makeLink, sqsize: entries - 1, socket: sockets.get(qid) }
        await whenFree(qid, () => connectQueue(queue, options), signal)
      }
    } finally {
      if (this.#connecting === connecting) this.#connecting = null
    }
  }

  disconnect(): void {
    this.#connecting?.abort()
    this.#connecting = null
    const cause = new DeviceRemovedError(`${this.address}: the connection was closed for a reset`)
    for (const queue of this.#queues.values()) queue.disconnect(cause)
  }

  async settle(): Promise<void> {
    this.#connecting?.abort()
    await Promise.all(
      [...this.#queues.values()].map((queue) => endQueue(queue, this.address, this.#disconnects)),
    )
  }
}
