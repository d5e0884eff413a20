// Messages without the event loop. Trade-off: only for a thread that polls, or waits on a shared word.

import { type MessagePort, receiveMessageOnPort } from 'node:worker_threads'

/** Acts on every message that has arrived. */
export function receiveAll(port: MessagePort, act: (message: unknown) => void): void {
  for (;;) {
    const received = receiveMessageOnPort(port) as { message: unknown } | undefined
    if (received === undefined) return
    act(received.message)
  }
}
