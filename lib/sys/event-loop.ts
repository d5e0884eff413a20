// How long this thread has gone on without a turn of the event loop. A controller that answers at once never makes its
// driver wait, and a loop over awaited calls would run in microtasks alone: no timer, no signal, no socket.
// One clock for a thread, so that many short calls count as one long one; the first of them in each turn
// of the event loop asks for the callback that sets it back.

/** @internal Milliseconds that awaited calls go on without a turn of the event loop. */
export const pacing = { ms: 1 }

// When the first awaited call was made since the event loop ran; none was where it is negative.
let since = -1

const ran = () => {
  since = -1
}

/**
 * True where the event loop should run before the next awaited call goes on: see `eventLoopTurn`.
 * @param now milliseconds of `performance.now`
 */
export function isEventLoopDue(now: number): boolean {
  if (since >= 0) return now - since > pacing.ms
  since = now
  setImmediate(ran)
  return false
}

/** Resolves after a turn of the event loop. */
export function eventLoopTurn(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve)
  })
}

/** A rejection for a call that ends before anything is sent: a loop that tries again starves the event loop, too. */
export function rejectPaced(error: unknown): Promise<never> {
  if (!isEventLoopDue(performance.now())) return Promise.reject(error)
  return eventLoopTurn().then(() => {
    throw error
  })
}
