// Threads for ioctls on the kernel's nvme driver, which return when the command has ended: a Format after minutes. Neither
// the event loop nor libuv's threads wait for them.
// Trade-off: a thread costs some 10 ms and 4 MiB; up to four are kept for what comes next.

import { setTimeout as sleep } from 'node:timers/promises'
import { Worker } from 'node:worker_threads'
import { PASSTHRU_BYTES } from './abi.ts'

/** What both threads know, as indices of 32-bit words. */
export const MAILBOX = {
  STATE: 0,
  FD: 1,
  REQUEST: 2,
  /** 1 where the ioctl takes no structure. */
  PLAIN: 3,
  /** What ioctl returned, and errno where that was -1. */
  VALUE: 4,
  ERROR: 5,
  /** Counts on it when done; -1 for none. */
  EVENTFD: 6,
  ARGUMENT: 8,
} as const
const MAILBOX_WORDS = MAILBOX.ARGUMENT + PASSTHRU_BYTES / 4

export const STATE = { IDLE: 0, ASKED: 1, DONE: 2 } as const

const MOST_IDLE = 4
const POLL_MS = 1

const idle: IoctlThread[] = []

/** One thread, which makes one ioctl at a time. */
export class IoctlThread {
  readonly words = new Int32Array(new SharedArrayBuffer(4 * MAILBOX_WORDS))
  readonly #worker: Worker

  private constructor() {
    this.#worker = new Worker(new URL('./ioctl-worker.js', import.meta.url), {
      name: 'unvme ioctl',
      workerData: this.words.buffer,
      // The program's own flags may be of no use to a thread: `--input-type` ends it.
      execArgv: [],
    })
    this.#worker.unref()
  }

  /** An idle one, or a new one. */
  static acquire(): IoctlThread {
    return idle.pop() ?? new IoctlThread()
  }

  /**
   * No one needs it any more. One that is in an ioctl, or about to make it, ends with that: then a promise, which resolves
   * when it uses its file no more.
   */
  release(): Promise<unknown> | null {
    const isIdle = Atomics.load(this.words, MAILBOX.STATE) === STATE.IDLE
    if (isIdle && idle.length < MOST_IDLE) {
      idle.push(this)
      return null
    }
    const ended = this.#worker.terminate()
    return isIdle ? null : ended
  }

  /** Makes an ioctl; `argument` is a structure in 32-bit words, or null. */
  ask(fd: number, request: number, argument: Uint32Array | null, eventfd = -1): void {
    const { words } = this
    words[MAILBOX.FD] = fd
    words[MAILBOX.REQUEST] = request | 0
    words[MAILBOX.PLAIN] = argument === null ? 1 : 0
    words[MAILBOX.EVENTFD] = eventfd
    if (argument !== null) words.set(argument, MAILBOX.ARGUMENT)
    Atomics.store(words, MAILBOX.STATE, STATE.ASKED)
    Atomics.notify(words, MAILBOX.STATE)
  }

  /** True once what was asked is done. */
  get done(): boolean {
    return Atomics.load(this.words, MAILBOX.STATE) === STATE.DONE
  }

  /** What ioctl returned: 0 or more, or a negative errno. It can be asked again. */
  take(): number {
    const value = this.words[MAILBOX.VALUE]!
    const error = this.words[MAILBOX.ERROR]!
    Atomics.store(this.words, MAILBOX.STATE, STATE.IDLE)
    Atomics.notify(this.words, MAILBOX.STATE)
    return value < 0 ? -error : value
  }
}

/** An ioctl without a structure: what it returned, or a negative errno. */
export async function runIoctl(fd: number, request: number): Promise<number> {
  const thread = IoctlThread.acquire()
  try {
    thread.ask(fd, request, null)
    while (!thread.done) await sleep(POLL_MS)
    return thread.take()
  } finally {
    void thread.release()
  }
}
