// Listening to an AbortSignal. A program may give one signal to any number of calls and streams, and Node warns of a
// leak where a signal has more than ten listeners: so each signal has one listener here, whoever waits for it.
// Trade-off: a look-up for each call with a signal; in return, taking one back does not search a list.

import { AbortError } from '../errors.ts'

interface Waiting {
  readonly act: () => void
}

/** Those who wait for one signal, and its listener. */
class Listener {
  readonly #signal: AbortSignal
  readonly #all = new Set<Waiting>()

  constructor(signal: AbortSignal) {
    this.#signal = signal
    signal.addEventListener('abort', this.#dispatch, { once: true })
  }

  add(one: Waiting): void {
    this.#all.add(one)
  }

  /** Node keeps some signals from being collected while they have a listener: it goes with the last who waits. */
  remove(one: Waiting): void {
    if (!this.#all.delete(one) || this.#all.size > 0) return
    listeners.delete(this.#signal)
    this.#signal.removeEventListener('abort', this.#dispatch)
  }

  readonly #dispatch = (): void => {
    listeners.delete(this.#signal)
    // What one does may take another back, which is not called then.
    for (const one of this.#all) {
      this.#all.delete(one)
      try {
        one.act()
      } catch (error) {
        // It is that one's own: the others have to hear of the abort all the same.
        queueMicrotask(() => {
          throw error
        })
      }
    }
  }
}

const listeners = new WeakMap<AbortSignal, Listener>()

/**
 * Calls `act` when the signal is aborted, once. Not for a signal that is aborted already: look at that before.
 * @returns the function that takes it back
 */
export function onAbort(signal: AbortSignal | undefined, act: () => void): () => void {
  if (signal === undefined || signal.aborted) return () => {}
  let listener = listeners.get(signal)
  if (listener === undefined) {
    listener = new Listener(signal)
    listeners.set(signal, listener)
  }
  const one = { act }
  listener.add(one)
  return () => listener.remove(one)
}

/** Throws AbortError where the signal is aborted already. */
export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw new AbortError(signal.reason)
}
