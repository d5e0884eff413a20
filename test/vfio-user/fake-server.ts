// A vfio-user server on a thread of its own that answers as it should, but for what a test wants wrong.

import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import { atEnd } from '../support/at-end.ts'
import { newSocketPath } from '../support/server.ts'
import { FAKE } from './fake-device.ts'

/** What is done instead of the right reply to a command. */
export interface Wrong {
  readonly command: number
  /** How many of this command are answered rightly before. */
  readonly after?: number
  /** All of them from then on, not one. */
  readonly always?: boolean
  readonly kind:
    | 'close'
    | 'silence'
    | 'error'
    | 'payload'
    | 'short'
    | 'long'
    | 'half'
    | 'stuck'
    | 'garbage'
    | 'id'
    | 'type'
    | 'descriptors'
    | 'file'
    | 'ask'
    | 'dribble'
  /** Bytes that are missing, too many, or sent of a message; descriptors that are sent. */
  readonly count?: number
  readonly errno?: number
  readonly bytes?: Uint8Array
  readonly file?: string
}

export interface FakeOptions {
  readonly wrong?: readonly Wrong[]
  /** Mutates every session's replies at random instead. */
  readonly seed?: number
  /** Mutates descriptors, not bytes. */
  readonly files?: boolean
}

/** A request as it came, or what became of the connection. */
export type FakeEvent = { command: number; payload: Uint8Array; fds: number } | 'listening' | 'left'

export interface FakeServer {
  readonly path: string
  /** Requests so far, over all sessions. */
  readonly requests: { command: number; payload: Buffer; fds: number }[]
  /** Replies that were mutated so far. */
  readonly mutations: number
  /** Resolves when the client has left, and every request of it is in `requests`. */
  left(): Promise<void>
  stop(): Promise<void>
}

export async function startFake(options: FakeOptions = {}): Promise<FakeServer> {
  const path = newSocketPath()
  const words = new Int32Array(new SharedArrayBuffer(8))
  const worker = new Worker(new URL('./fake-worker.js', import.meta.url), {
    workerData: { ...options, path, words },
    trackUnmanagedFds: false,
  })
  const requests: FakeServer['requests'] = []
  let gone = 0
  let awaited = () => {}
  worker.on('message', (event: FakeEvent) => {
    if (typeof event === 'object') requests.push({ ...event, payload: Buffer.from(event.payload) })
    if (event === 'left') {
      gone++
      awaited()
    }
  })
  const ended = once(worker, 'exit')
  const stop = async () => {
    Atomics.store(words, FAKE.STOP, 1)
    await ended
  }
  atEnd(stop)
  await once(worker, 'message')
  return {
    path,
    requests,
    get mutations() {
      return Atomics.load(words, FAKE.MUTATIONS)
    },
    left: () => (gone > 0 ? Promise.resolve() : new Promise((resolve) => (awaited = resolve))),
    stop,
  }
}
