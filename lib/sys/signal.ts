// Interrupts of a device as eventfds, watched only while somebody waits for them.
// Trade-off: an interrupt wakes the event loop some 20 to 30 us late, that of a worker thread 1 to 16 ms; who can't wait polls
// instead.

import { close, EFD, eventfd, POLL, poll, read, systemCallError } from './libc.ts'
import { type DescriptorWatch, watchDescriptor } from './watch-descriptor.ts'

const READABLE = { readable: true }
const counter = Buffer.alloc(8)
const pollfd = Buffer.alloc(8)

/** An eventfd that calls `handler` on the event loop while it is armed. */
export class Signal {
  readonly fd: number
  readonly #handler: () => void
  readonly #keepsAlive: boolean
  #watch: DescriptorWatch | undefined
  #armed = false

  /** @param keepsAlive whether the process goes on while it is armed */
  constructor(handler: () => void, { keepsAlive = true } = {}) {
    this.#handler = handler
    this.#keepsAlive = keepsAlive
    this.fd = eventfd(0, EFD.CLOEXEC | EFD.NONBLOCK)
    if (this.fd < 0) throw systemCallError('eventfd')
  }

  /** What came before is forgotten: look for it once more after this, then wait. */
  arm(): void {
    if (this.#armed) return
    this.drain()
    this.#armed = true
    if (this.#watch !== undefined) {
      this.#watch.start(READABLE)
      return
    }
    this.#watch = watchDescriptor(this.fd, READABLE, this.#onReadable)
    if (!this.#keepsAlive) this.#watch.keepAlive(false)
  }

  disarm(): void {
    if (!this.#armed) return
    this.#armed = false
    this.#watch?.stop()
  }

  /** True where it was signalled since it was drained; takes one system call. */
  get pending(): boolean {
    pollfd.writeInt32LE(this.fd, 0)
    pollfd.writeInt32LE(POLL.IN, 4)
    return poll(pollfd, 1, 0) > 0
  }

  drain(): void {
    // Whoever it is shared with can make it block: a read of nothing would never return.
    if (this.pending) read(this.fd, counter, counter.length)
  }

  close(): void {
    this.disarm()
    this.#watch?.close()
    this.#watch = undefined
    close(this.fd)
  }

  // libuv calls back without running microtasks after it, and an exception would be lost: the handler runs from
  // an immediate, which follows in the same turn of the loop.
  readonly #onReadable = (): void => {
    this.drain()
    setImmediate(this.#run)
  }

  readonly #run = (): void => {
    if (this.#armed) this.#handler()
  }
}

/** The MSI-X vectors of a device. */
export interface Vectors {
  arm(vector: number): void
  disarm(vector: number): void
  /** Turns them off at the device; `device` false where the device is gone already. */
  close(device: boolean): void
}

/**
 * Turns the first `count` MSI-X vectors on.
 * @param connect lets the device signal these eventfds, vector by vector; an empty list turns them off
 */
export function enableVectors(
  count: number,
  handler: (vector: number) => void,
  connect: (eventfds: readonly number[]) => void,
): Vectors {
  const signals: Signal[] = []
  const closeAll = () => {
    for (const signal of signals) signal.close()
    signals.length = 0
  }
  try {
    for (let vector = 0; vector < count; vector++) signals.push(new Signal(() => handler(vector)))
    connect(signals.map((signal) => signal.fd))
  } catch (error) {
    closeAll()
    throw error
  }
  return {
    arm: (vector) => signals[vector]?.arm(),
    disarm: (vector) => signals[vector]?.disarm(),
    close(device) {
      try {
        if (device && signals.length > 0) connect([])
      } finally {
        closeAll()
      }
    },
  }
}
