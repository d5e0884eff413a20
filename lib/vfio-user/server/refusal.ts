// A request that can't be met: thrown where that is found, answered with an errno.
// An exception, since refusals are rare and come from deep within.

import { DecodeError, OutOfMemoryError, OutOfRangeError } from '../../errors.ts'
import { ERRNO } from '../../sys/libc.ts'

/** Ends a request with an error reply. */
export class Refusal extends Error {
  readonly errno: number

  constructor(code: 'EINVAL' | 'ENOENT' | 'EEXIST' | 'ENOSPC' | 'ENOTSUP', message: string) {
    super(message)
    this.errno = ERRNO[code]!
  }
}

/** The errno that tells a client of what was thrown: EIO for what is no fault of the client's. */
export function errnoOf(error: unknown): number {
  if (error instanceof Refusal) return error.errno
  if (error instanceof DecodeError || error instanceof OutOfRangeError) return ERRNO.EINVAL!
  if (error instanceof OutOfMemoryError) return ERRNO.ENOMEM!
  // Of a system call, Node's or one of this project's.
  const { errno } = error as Partial<NodeJS.ErrnoException>
  return typeof errno === 'number' && errno < 0 ? -errno : ERRNO.EIO!
}
