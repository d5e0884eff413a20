// What an AbortSignal ends, with one listener for all that wait for the same signal: Node warns of a leak from the
// eleventh on, and a program may well give one signal to hundreds of calls.

interface Watch {
  /** Whoever waits, each by a function of its own. */
  readonly callbacks: Set<() => void>
  readonly listener: () => void
}

const watches = new WeakMap<AbortSignal, Watch>()

/** Calls back, once, when `signal` is aborted, which it is not yet. Returns what takes that back. */
export function onAbort(signal: AbortSignal, callback: () => void): () => void {
  const watch = watches.get(signal) ?? startWatch(signal)
  watch.callbacks.add(callback)
  return () => {
    if (!watch.callbacks.delete(callback) || watch.callbacks.size > 0) return
    signal.removeEventListener('abort', watch.listener)
    watches.delete(signal)
  }
}

function startWatch(signal: AbortSignal): Watch {
  const callbacks = new Set<() => void>()
  const listener = () => {
    watches.delete(signal)
    for (const callback of callbacks) callback()
  }
  signal.addEventListener('abort', listener, { once: true })
  const watch = { callbacks, listener }
  watches.set(signal, watch)
  return watch
}
