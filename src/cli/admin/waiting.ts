// Waiting for an operation that goes on in the background, with its share that is done on the terminal.
// Trade-off: the log page is read five times a second: there is an event for the end of a sanitize operation only.

import { setTimeout as sleep } from 'node:timers/promises'
import { AbortError } from '../../../lib/errors.ts'

const LOOK_MS = 200

/** What one look at an operation finds: its share from 0 to 1 while it runs, or that it is over. */
export type Look = number | 'over'

/** Waits until `look` finds the operation over. Rejects with AbortError when `signal` is aborted: it goes on then. */
export async function waitUntilOver(
  what: string,
  look: () => Promise<Look>,
  signal: AbortSignal,
  terminal: Pick<NodeJS.WriteStream, 'isTTY' | 'write'> = process.stderr,
): Promise<void> {
  let drawn = false
  try {
    for (let found = await look(); found !== 'over'; found = await look()) {
      if (terminal.isTTY) terminal.write(`\r${what}: ${Math.floor(found * 100)} %\u001b[K`)
      drawn = terminal.isTTY
      await sleep(LOOK_MS, undefined, { signal }).catch(() => {
        throw new AbortError(signal.reason)
      })
    }
  } finally {
    if (drawn) terminal.write('\r\u001b[K')
  }
}
