// Ctrl-C, SIGTERM, and a standard output that can't be written: they abort a command that watches for it. A signal
// ends at once one that does not watch; an output that failed is reported when the command is done.
// The handlers stay for the whole process; a second Ctrl-C always ends it at once.

import { setImmediate as turn } from 'node:timers/promises'

/** 128 + the signal's number, as a shell reports it. */
const EXIT_CODES = { SIGINT: 130, SIGTERM: 143, SIGPIPE: 141 } as const
type Cause = keyof typeof EXIT_CODES

export interface Ending {
  /** The signal that is aborted. Who asks for it promises to end by it. */
  signal(): AbortSignal
  /** The exit code, once something ended the command. */
  readonly code: number | undefined
  /** Why standard output could not be written, where its reader did not just go away. */
  readonly failure: Error | undefined
  /** Called before a command runs: from then on nothing that the process waits for can keep it. */
  start(): void
  /** Called when the command is done: waits until its output is written. A signal ends the process meanwhile. */
  finish(): Promise<void>
}

/** @param report called with an error of standard output that comes after `finish` */
export function watchForEnd(report: (error: Error) => void): Ending {
  const controller = new AbortController()
  let watched = false
  let finished = false
  let code: number | undefined
  let failure: Error | undefined
  let exit: (code: number) => void = process.exit

  const end = (cause: Cause) => {
    const first = code === undefined
    code ??= EXIT_CODES[cause]
    // A question listens for as long as it waits, and ends by the signal too.
    const heard = watched || process.listenerCount(cause) > 1
    // A reader that went away is noticed again by every write: it is no second request.
    if (heard && (first || cause === 'SIGPIPE')) controller.abort(new Error(`ended by ${cause}`))
    else exit(code)
  }
  const onOutputError = (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') return end('SIGPIPE')
    // Every later write fails too.
    if (failure !== undefined) return
    const { code: why, message } = error
    failure = Object.assign(new Error(`standard output: ${message}`, { cause: error }), { code: why })
    if (finished) report(failure)
    else controller.abort(failure)
  }
  const onMessageError = (error: NodeJS.ErrnoException) => {
    // There is no other place to say that messages can't be written.
    if (error.code === 'EPIPE') end('SIGPIPE')
  }
  const onInterrupt = () => end('SIGINT')
  const onTerminate = () => end('SIGTERM')
  process.on('SIGINT', onInterrupt).on('SIGTERM', onTerminate)
  // These two stay: a write that fails may be reported after the command is done.
  process.stdout.on('error', onOutputError)
  process.stderr.on('error', onMessageError)

  return {
    signal() {
      watched = true
      return controller.signal
    },
    get code() {
      return code
    },
    get failure() {
      return failure
    },
    start() {
      // process.exit waits for libuv's threads, and a file can keep one of them in a system call for ever (the other
      // end of a FIFO, a server that is gone). _exit does not wait; it is loaded while there is nothing to wait for.
      import('../../lib/sys/libc.ts').then(
        ({ _exit }) => {
          exit = (code) => {
            process.emit('exit', code)
            _exit(code)
          }
        },
        () => {},
      )
    },
    async finish() {
      watched = false
      // A reader that takes nothing is not waited for by what was ended.
      if (code !== undefined && process.stdout.writableLength > 0) exit(code)
      if (process.stdout.writableLength > 0) {
        await new Promise<void>((resolve) => process.stdout.write('', () => resolve()))
      }
      // Errors are emitted a little later than the write that failed is over.
      await turn()
      finished = true
      process.off('SIGINT', onInterrupt).off('SIGTERM', onTerminate)
    },
  }
}
