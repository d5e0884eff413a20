// Waits on the event loop until a descriptor can be read, or written.
// Trade-off: in a worker thread it is looked at by timer, after 1 to 16 ms: one that is terminated while libuv watches a
// descriptor for koffi ends the process by SIGABRT or SIGSEGV.

import { isMainThread } from 'node:worker_threads'
import { POLL, poll } from './libc.ts'
import { native } from './native.ts'

const FIRST_LOOK_MS = 1
const LAST_LOOK_MS = 16

export interface DescriptorEvents {
  readonly readable?: boolean
  readonly writable?: boolean
}

export interface DescriptorWatch {
  /** Waits for these events from now on. */
  start(events: DescriptorEvents): void
  stop(): void
  /** Whether it keeps the thread alive while it waits. It does at first. */
  keepAlive(on: boolean): void
  /** Nothing after it. The descriptor stays open. */
  close(): void
}

/** Calls `ready` again and again, for as long as an event is there and it is not stopped. What `ready` throws is lost. */
export function watchDescriptor(fd: number, events: DescriptorEvents, ready: () => void): DescriptorWatch {
  return isMainThread ? new LoopWatch(fd, events, ready) : new TimerWatch(fd, events, ready)
}

// Those that are open. What libuv still watches for koffi while Node takes the process down ends it by SIGABRT, as soon as
// there is an event: a program may end with devices open.
const open = new Set<LoopWatch>()
let endsWithProcess = false

function addOpen(watch: LoopWatch): void {
  open.add(watch)
  if (endsWithProcess) return
  endsWithProcess = true
  process.on('exit', () => {
    for (const one of open) one.close()
  })
}

class LoopWatch implements DescriptorWatch {
  readonly #handle: ReturnType<ReturnType<typeof native>['node']['poll']>
  readonly #ready: () => void
  #open = true

  constructor(fd: number, events: DescriptorEvents, ready: () => void) {
    this.#ready = ready
    this.#handle = native().node.poll(fd, events, ready)
    addOpen(this)
  }

  start(events: DescriptorEvents): void {
    if (this.#open) this.#handle.start(events, this.#ready)
  }

  stop(): void {
    if (this.#open) this.#handle.stop()
  }

  // A handle that is closed is no longer there to be asked.
  keepAlive(on: boolean): void {
    if (!this.#open) return
    if (on) this.#handle.ref()
    else this.#handle.unref()
  }

  close(): void {
    if (!this.#open) return
    this.#open = false
    open.delete(this)
    this.#handle.stop()
    this.#handle.close()
  }
}

class TimerWatch implements DescriptorWatch {
  readonly #fd: number
  readonly #ready: () => void
  readonly #pollfd = Buffer.alloc(8)
  #timer: NodeJS.Timeout | undefined
  #lookMs = FIRST_LOOK_MS
  #keeps = true
  #open = true

  constructor(fd: number, events: DescriptorEvents, ready: () => void) {
    this.#fd = fd
    this.#ready = ready
    this.start(events)
  }

  start({ readable = false, writable = false }: DescriptorEvents): void {
    if (!this.#open) return
    this.stop()
    this.#pollfd.writeInt32LE(this.#fd, 0)
    this.#pollfd.writeInt16LE((readable ? POLL.IN : 0) | (writable ? POLL.OUT : 0), 4)
    this.#lookMs = FIRST_LOOK_MS
    this.#wait()
  }

  #wait(): void {
    this.#timer = setTimeout(this.#look, this.#lookMs)
    if (!this.#keeps) this.#timer.unref()
  }

  readonly #look = (): void => {
    const there = poll(this.#pollfd, 1, 0) > 0
    this.#lookMs = there ? FIRST_LOOK_MS : Math.min(2 * this.#lookMs, LAST_LOOK_MS)
    this.#wait()
    if (there) this.#ready()
  }

  stop(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
  }

  keepAlive(on: boolean): void {
    this.#keeps = on
    if (on) this.#timer?.ref()
    else this.#timer?.unref()
  }

  close(): void {
    this.stop()
    this.#open = false
  }
}
