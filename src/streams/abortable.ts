// A source whose next item is not waited for once a signal is aborted.
// Trade-off: a source that hangs is told to end (return) and left to itself, since nothing can make it answer.

import { AbortError } from '../../lib/errors.ts'
import { onAbort } from '../../lib/sys/abort.ts'

type Source<T> = Iterable<T> | AsyncIterable<T>

/** The same items; AbortError takes the place of the next where the signal comes first. */
export function abortable<T>(source: Source<T>, signal: AbortSignal | undefined): Source<T> {
  return signal === undefined ? source : { [Symbol.asyncIterator]: () => iterate(source, signal) }
}

function iterate<T>(source: Source<T>, signal: AbortSignal): AsyncIterator<T> {
  const iterator = iteratorOf(source)
  return {
    next: () =>
      new Promise((resolve, reject) => {
        const abort = () => reject(new AbortError(signal.reason))
        if (signal.aborted) return abort()
        const forget = onAbort(signal, abort)
        // What it throws at once is a rejection, too.
        const next = (async () => iterator.next())()
        next.finally(forget).then(resolve, reject)
      }),
    async return() {
      await iterator.return?.()
      return { done: true, value: undefined }
    },
  }
}

function iteratorOf<T>(source: Source<T>): Iterator<T> | AsyncIterator<T> {
  return Symbol.asyncIterator in source ? source[Symbol.asyncIterator]() : source[Symbol.iterator]()
}
