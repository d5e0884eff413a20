// What tells the thread that opened a device of a worker's end: huge pages are seen in the worker where they are mapped
// here, and it holds no view of them only then.

import { MessageChannel, type MessagePort } from 'node:worker_threads'

// In the worker: the ends of channels that stay open for as long as the thread lives, by owner.
const channels = new Map<number, MessagePort>()

/** In the worker: a port for the owner, closed when this thread ends, and by nothing else. Null where it has one. */
export function openThreadEnd(owner: number): MessagePort | null {
  if (channels.has(owner)) return null
  const { port1, port2 } = new MessageChannel()
  port1.unref()
  channels.set(owner, port1)
  return port2
}

// In the owner: what is to be done at a thread's end, by thread.
const ends = new Map<number, (() => void)[]>()

/** In the owner: knows of the thread from then on. */
export function watchThread(thread: number, alive: MessagePort): void {
  ends.set(thread, [])
  alive.on('close', () => {
    for (const end of ends.get(thread) ?? []) end()
    ends.delete(thread)
  })
  alive.unref()
}

/** In the owner: calls back when the thread has ended, or at once where it is not known to live. */
export function atThreadEnd(thread: number | undefined, end: () => void): void {
  const waiting = thread === undefined ? undefined : ends.get(thread)
  if (waiting === undefined) end()
  else waiting.push(end)
}
