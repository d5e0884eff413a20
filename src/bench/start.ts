// All jobs begin at once: threads take a while to start, and one of them alone would have the device to itself.
// A thread looks every millisecond rather than sleep on the word, so that it can still be aborted.

import { setTimeout as sleep } from 'node:timers/promises'
import { type Board, FLAG } from './job.ts'

/** Resolves after `go`; rejects with the signal's AbortError. */
export async function waitForGo({ flags }: Board, signal?: AbortSignal): Promise<void> {
  while (Atomics.load(flags, FLAG.GO) === 0) await sleep(1, undefined, signal && { signal })
}

export function go({ flags }: Board): void {
  Atomics.store(flags, FLAG.GO, 1)
}

/** Ends all jobs after the I/Os that are in flight. */
export function stop({ flags }: Board): void {
  Atomics.store(flags, FLAG.STOP, 1)
}
