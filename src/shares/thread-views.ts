// The addresses at which a worker thread sees DMA memory of a device: one range for a thread and a device, whichever
// queues it has of it, one after the other. The thread that opened the device gives it back when the worker has ended,
// since it holds no view only then.

import { MessageChannel, type MessagePort, threadId } from 'node:worker_threads'
import type { AddressRange } from '../../lib/memory/mapping.ts'
import { releaseAddresses, reserveAddresses, type ViewSpace, viewsWithin } from '../../lib/memory/views.ts'

// Addresses, not memory: more than a thread's buffers need at a time.
const VIEW_BYTES = 2 ** 34

/** What a worker says of itself when it attaches: a range that the owner is to release, and what tells of its end. */
export interface ThreadFacts {
  readonly thread: number
  readonly range: AddressRange
  /** Null where the owner has it already. Closed when the thread ends, and by nothing else. */
  readonly alive: MessagePort | null
}

// In the worker: by owner and device.
const spaces = new Map<string, { readonly range: AddressRange; readonly views: ViewSpace }>()
// In the worker: the ends of channels that stay open for as long as the thread lives, by owner.
const channels = new Map<number, MessagePort>()

/** In the worker: where its views of a device's memory are mapped; what is new of it is for the owner. */
export function viewsOfThread(
  owner: number,
  device: string,
): { views: ViewSpace; facts: ThreadFacts | null } {
  const key = `${owner} ${device}`
  const known = spaces.get(key)
  if (known !== undefined) return { views: known.views, facts: null }
  const range = reserveAddresses(VIEW_BYTES)
  const space = { range, views: viewsWithin(range) }
  spaces.set(key, space)
  return { views: space.views, facts: { thread: threadId, range, alive: openChannel(owner) } }
}

function openChannel(owner: number): MessagePort | null {
  if (channels.has(owner)) return null
  const { port1, port2 } = new MessageChannel()
  port1.unref()
  channels.set(owner, port1)
  return port2
}

// In the owner: what is to be given back at a thread's end, by thread.
const ends = new Map<number, (() => void)[]>()

/** In the owner: releases the thread's addresses when it ends. */
export function watchThread({ thread, range, alive }: ThreadFacts): void {
  if (alive !== null) {
    ends.set(thread, [])
    alive.on('close', () => {
      for (const end of ends.get(thread) ?? []) end()
      ends.delete(thread)
    })
    alive.unref()
  }
  atThreadEnd(thread, () => releaseAddresses(range))
}

/** In the owner: calls back when the thread has ended, or at once where it is not known to live. */
export function atThreadEnd(thread: number | undefined, end: () => void): void {
  const waiting = thread === undefined ? undefined : ends.get(thread)
  if (waiting === undefined) end()
  else waiting.push(end)
}
