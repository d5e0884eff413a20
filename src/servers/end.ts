// The end of a server: by its caller, by a signal, or by what it serves.

import { logger } from '../../lib/log/index.ts'
import { onAbort } from '../../lib/sys/abort.ts'

const log = logger('serve')

export interface ServerEnd {
  /** Ends it; rejects with what its end failed with. */
  close(): Promise<void>
  /** As `close`, whatever has ended it. */
  readonly closed: Promise<void>
}

/** Its end, once, by whatever asks for it first. @param forgets calls after which nothing else asks */
export function createEnd(
  end: () => Promise<void>,
  signal: AbortSignal | undefined,
  forgets: readonly (() => void)[],
): ServerEnd {
  let closing: Promise<void> | null = null
  let settle: (end: Promise<void>) => void
  const closed = new Promise<void>((resolve) => {
    settle = resolve
  })
  // Callers that do not look at it have `close`.
  closed.catch(() => {})
  const close = () => {
    if (closing === null) {
      forget()
      for (const take of forgets) take()
      closing = end()
      settle(closing)
    }
    return closing
  }
  const forget = onAbort(signal, () => void close().catch((error: Error) => log('%s', error.message)))
  return { close, closed }
}
