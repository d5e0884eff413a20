// Asynchronous events of one controller, for who wants them (NVMe 1.4 base, section 5.2).
// Trade-off: where nothing says that a completion has come, the admin queue is looked at once a second while a request waits
// there, which costs nothing and is late by as much; while I/O is in flight the controller looks more often.

import { ADMIN } from '../spec/opcodes.ts'
import type { AdminQueue } from './admin-queue.ts'

const POLL_MS = 1000

/** Who wants the events of one controller, and the request that is with it. */
export class EventWatch {
  readonly #admin: AdminQueue
  readonly #handlers = new Set<(result: number) => void>()
  #timer: NodeJS.Timeout | undefined
  #watching = false

  constructor(admin: AdminQueue) {
    this.#admin = admin
  }

  /** Calls `handler` with dword 0 of each event from now on, until what it returns is called. Does not keep the process alive. */
  add(handler: (result: number) => void): () => void {
    this.#handlers.add(handler)
    this.resume()
    if (this.#timer === undefined) this.#look()
    return () => this.#handlers.delete(handler)
  }

  #look(): void {
    this.#timer = setInterval(() => this.poll(), POLL_MS).unref()
    const { queue } = this.#admin
    // Not while the queue is being fed.
    if (queue.onCompletions !== undefined) queue.onCompletions = () => setImmediate(this.#pollSoon)
  }

  /** For a controller that was enabled: a request ends with the controller that had it. */
  resume(): void {
    if (this.#handlers.size > 0 && !this.#watching) this.#request()
  }

  // One request is always with the controller.
  #request(): void {
    this.#watching = true
    this.#admin.submit({ opcode: ADMIN.ASYNC_EVENT_REQUEST }).then(
      ({ result }) => {
        // First: a handler may throw.
        this.#request()
        for (const handler of this.#handlers) tell(handler, result)
      },
      () => {
        this.#watching = false
      },
    )
  }

  readonly #pollSoon = (): void => this.poll()

  /** Looks for an event, where a request is with the controller. */
  poll(): void {
    if (this.#watching) this.#admin.poll()
  }

  /** Ends the looking: the controller is being closed. */
  close(): void {
    clearInterval(this.#timer)
  }
}

// What a handler throws is the process's, and does not keep the event from the others.
function tell(handler: (result: number) => void, result: number): void {
  try {
    handler(result)
  } catch (error) {
    queueMicrotask(() => {
      throw error
    })
  }
}
