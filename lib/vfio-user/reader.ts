// Cuts the bytes of a socket into messages, each with the descriptors that came with it.
// Nothing here waits, so that a peer that sends half a message holds no one up but itself.

import { ProtocolError } from '../errors.ts'
import { MAX_FDS } from './constants.ts'
import { closeDescriptors, NOTHING_YET, receive } from './socket.ts'
import { decodeHeader, HEADER_BYTES, type Header } from './structs.ts'

export interface Message {
  header: Header
  payload: Buffer
  /** The receiver's to close. */
  fds: number[]
}

/** Reads messages of at most `maxBytes` and MAX_FDS descriptors from a socket that does not block. */
export class MessageReader {
  readonly #fd: number
  readonly #maxBytes: number
  readonly #header = Buffer.alloc(HEADER_BYTES)
  #message: Message | null = null
  #have = 0
  #fds: number[] = []

  constructor(fd: number, maxBytes: number) {
    this.#fd = fd
    this.#maxBytes = maxBytes
  }

  /** The header of the message that is being read, once it is there. */
  get header(): Header | null {
    return this.#message?.header ?? null
  }

  /**
   * The next message that is complete; 'more' where the peer has not sent all of it, 'end' where it has gone.
   * Throws ProtocolError for a size that no message can have, or too many descriptors: what follows can't be
   * understood then.
   */
  next(): Message | 'more' | 'end' {
    for (;;) {
      const into = this.#message?.payload ?? this.#header
      if (this.#have < into.length) {
        const received = receive(this.#fd, into, this.#have, this.#fds)
        if (this.#fds.length > MAX_FDS) {
          throw new ProtocolError(
            `${this.#fds.length} descriptors with a message: at most ${MAX_FDS} are possible`,
          )
        }
        if (received === NOTHING_YET) return 'more'
        if (received === 0) return 'end'
        this.#have += received
        continue
      }
      this.#have = 0
      if (this.#message === null) {
        this.#message = this.#begin(decodeHeader(this.#header))
        continue
      }
      const message = this.#message
      message.fds = this.#fds
      this.#fds = []
      this.#message = null
      return message
    }
  }

  /** Closes the descriptors of a message that is not complete. */
  close(): void {
    closeDescriptors(this.#fds.splice(0))
  }

  #begin(header: Header): Message {
    const { size } = header
    const fits = size >= HEADER_BYTES && size <= this.#maxBytes
    const message = { header, payload: Buffer.alloc(fits ? size - HEADER_BYTES : 0), fds: [] }
    if (fits) return message
    this.#message = message
    throw new ProtocolError(
      `a message of ${size} bytes: from ${HEADER_BYTES} to ${this.#maxBytes} are possible`,
    )
  }
}
