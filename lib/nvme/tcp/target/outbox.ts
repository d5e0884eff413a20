// What a connection sends, gathered: headers and little data are copied one behind the other into memory that is used again
// and again, large data goes to the socket from where it is, and what there is at the end of a turn leaves with one write.

import { Buffer } from 'node:buffer'
import type net from 'node:net'

const SLAB_BYTES = 64 * 1024
/** Idle slabs that are kept, of all connections together. */
const MOST_SPARE = 32
/** Data up to this is copied: that is cheaper than what a part of its own costs the socket. */
export const MOST_COPIED = 16 * 1024

/** Memory of which parts are with a socket. */
interface Slab {
  readonly bytes: Buffer
  users: number
  owner: Outbox | null
  /** A part of it has been taken, or never will be. */
  readonly taken: () => void
}

const spare: Slab[] = []

function makeSlab(): Slab {
  const slab: Slab = {
    bytes: Buffer.allocUnsafeSlow(SLAB_BYTES),
    users: 0,
    owner: null,
    taken: () => {
      if (--slab.users > 0) return
      if (slab.owner === null) keep(slab)
      else slab.owner.idle()
    },
  }
  return slab
}

function keep(slab: Slab): void {
  slab.owner = null
  if (spare.length < MOST_SPARE) spare.push(slab)
}

export class Outbox {
  readonly #socket: net.Socket
  #slab: Slab | null = null
  // Of the slab, what has not been given to the socket.
  #from = 0
  #end = 0
  #corked = false

  constructor(socket: net.Socket) {
    this.#socket = socket
  }

  /** Memory that `reserve` gave a part of, until its next call. */
  get bytes(): Buffer {
    return this.#slab!.bytes
  }

  /** Bytes that were not taken yet. */
  get length(): number {
    return this.#end - this.#from + this.#socket.writableLength
  }

  /** Where in `bytes` there is space for so many, at most MOST_COPIED and a header, which are sent. */
  reserve(bytes: number): number {
    if (this.#slab === null || this.#end + bytes > SLAB_BYTES) this.#renew()
    const at = this.#end
    this.#end += bytes
    return at
  }

  /** Sends memory as it is; `taken` is called when it is needed no more. */
  write(bytes: Uint8Array, taken?: () => void): void {
    this.#push()
    this.#cork()
    this.#socket.write(bytes, taken)
  }

  /** All that was gathered leaves. */
  flush(): void {
    this.#push()
    if (!this.#corked) return
    this.#corked = false
    this.#socket.uncork()
  }

  /** The socket has all of the slab's parts that it was given. */
  idle(): void {
    if (this.#slab === null || this.#end > this.#from) return
    keep(this.#slab)
    this.#slab = null
    this.#from = this.#end = 0
  }

  #renew(): void {
    this.#push()
    if (this.#slab !== null) {
      this.#slab.owner = null
      if (this.#slab.users === 0) keep(this.#slab)
    }
    this.#slab = spare.pop() ?? makeSlab()
    this.#slab.owner = this
    this.#from = this.#end = 0
  }

  #push(): void {
    const slab = this.#slab
    if (slab === null || this.#end === this.#from) return
    this.#cork()
    const part = slab.bytes.subarray(this.#from, this.#end)
    this.#from = this.#end
    slab.users++
    this.#socket.write(part, slab.taken)
  }

  #cork(): void {
    if (this.#corked) return
    this.#corked = true
    this.#socket.cork()
  }
}
