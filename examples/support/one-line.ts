// Ends a program on an error of the driver with one line instead of a stack: imported by the other programs here.
// Only errors with a `code`, the driver's and the system's; what a program itself does wrong keeps its stack.

import { isMainThread } from 'node:worker_threads'

// A thread's errors are for whoever started it.
if (isMainThread) {
  process.on('uncaughtException', (error: Error & { code?: string }) => {
    console.error(error.code === undefined ? error : `${error.name}: ${error.message} (${error.code})`)
    process.exit(1)
  })
}
