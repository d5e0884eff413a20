// Keep Alive on a timer of its own (NVMe 2.0 base, section 3.9): a command each half of the timeout, whatever else goes on.
// Trade-off: a timer of this thread: a program that does not return to its event loop for the whole timeout loses its
// controller.

import { CommandTimeoutError, DeviceRemovedError } from '../../errors.ts'
import { logger } from '../../log/index.ts'
import { nvmeError } from '../host/failure.ts'
import { ADMIN } from '../spec/opcodes.ts'
import type { TcpQueue } from './queue.ts'

const log = logger('tcp')

const ENTRY = [ADMIN.KEEP_ALIVE, ...new Array<number>(15).fill(0)]

export class KeepAlive {
  readonly #address: string
  readonly #admin: TcpQueue
  readonly #kato: number
  readonly #onLost: (cause: Error) => void
  #timer: NodeJS.Timeout | undefined
  #waiting = false
  #tickAt = 0

  /** @param kato milliseconds; 0 turns it off */
  constructor(address: string, admin: TcpQueue, kato: number, onLost: (cause: Error) => void) {
    this.#address = address
    this.#admin = admin
    this.#kato = kato
    this.#onLost = onLost
  }

  /** For a connection that has just been made. */
  start(): void {
    this.stop()
    if (this.#kato === 0) return
    this.#tickAt = performance.now()
    this.#timer = setInterval(() => void this.#tick(), this.#kato / 2).unref()
  }

  stop(): void {
    clearInterval(this.#timer)
    this.#timer = undefined
    this.#waiting = false
  }

  async #tick(): Promise<void> {
    const now = performance.now()
    const late = now - this.#tickAt - this.#kato / 2
    this.#tickAt = now
    if (late > this.#kato / 2) {
      log('%s: Keep Alive is %d ms late: the event loop was blocked', this.#address, Math.round(late))
    }
    if (this.#waiting) return
    this.#waiting = true
    const timer = this.#timer
    try {
      const { status } = await this.#admin.command('Keep Alive', ENTRY, null, this.#kato, false)
      if (status !== 0) throw nvmeError({ opcode: ADMIN.KEEP_ALIVE, qid: 0, nsid: 0 }, status)
    } catch (cause) {
      // Of a connection that has ended the transport knows already.
      if (timer !== this.#timer) return
      this.#onLost(this.#explain(cause as Error))
    } finally {
      if (timer === this.#timer) this.#waiting = false
    }
  }

  #explain(cause: Error): Error {
    if (!(cause instanceof CommandTimeoutError)) return cause
    return new DeviceRemovedError(
      `${this.#address}: the target has not answered Keep Alive within ${this.#kato} ms`,
      { cause },
    )
  }
}
