// Ctrl-C, SIGTERM and a closed stdout: they abort a command that watches for it, and end one that does not.
// Trade-off: the handlers stay for the whole process; a second Ctrl-C always ends it at once.

/** 128 + the signal's number, as a shell reports it. */
const EXIT_CODES = { SIGINT: 130, SIGTERM: 143, SIGPIPE: 141 } as const
type Cause = keyof typeof EXIT_CODES

export interface Ending {
  /** The signal that is aborted. Who asks for it promises to end by it. */
  signal(): AbortSignal
  /** The exit code, once something ended the command. */
  readonly code: number | undefined
  stop(): void
}

export function watchForEnd(): Ending {
  const controller = new AbortController()
  let watched = false
  let code: number | undefined

  const end = (cause: Cause) => {
    const first = code === undefined
    code ??= EXIT_CODES[cause]
    // A reader that went away is told again by every write: it is no second request.
    if (watched && (first || cause === 'SIGPIPE')) controller.abort(new Error(`ended by ${cause}`))
    else process.exit(code)
  }
  const onOutputError = (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error
    end('SIGPIPE')
  }
  const onInterrupt = () => end('SIGINT')
  const onTerminate = () => end('SIGTERM')
  process.on('SIGINT', onInterrupt).on('SIGTERM', onTerminate)
  // These two stay: a write that fails may be reported after the command is done.
  process.stdout.on('error', onOutputError)
  process.stderr.on('error', onOutputError)

  return {
    signal() {
      watched = true
      return controller.signal
    },
    get code() {
      return code
    },
    stop() {
      watched = false
      process.off('SIGINT', onInterrupt).off('SIGTERM', onTerminate)
    },
  }
}
