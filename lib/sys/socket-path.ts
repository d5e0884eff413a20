// Paths of UNIX sockets. Node cuts one that is too long without a word, and takes one that begins with a NUL for a name
// without a file, which every user of the machine can connect to.

import { AddressError } from '../errors.ts'

// struct sockaddr_un has room for 108 bytes, a NUL among them.
const MOST_BYTES = 107

/** The bytes of a path that is one for a socket. Throws AddressError for others. */
export function socketPathBytes(path: string): Buffer {
  const bytes = Buffer.from(path)
  if (bytes.length === 0 || bytes.includes(0)) {
    throw new AddressError(`'${path}': the path of a socket is not empty, and has no NUL`)
  }
  if (bytes.length > MOST_BYTES) {
    throw new AddressError(
      `${path}: the path of a socket has at most ${MOST_BYTES} bytes, this one ${bytes.length}`,
    )
  }
  return bytes
}
