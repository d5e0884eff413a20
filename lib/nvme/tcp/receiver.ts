// Takes a stream of bytes apart into PDUs, for host and target alike: headers are gathered, digests checked, and data is
// copied once, from where the socket left it to where the PDU's owner wants it.

import { crc32c } from './crc32c.ts'
import {
  type Agreement,
  COMMON_BYTES,
  checkCommonHeader,
  createLayout,
  FES,
  pduName,
  violation,
} from './pdu.ts'

/** Who owns what is received. */
export interface PduHandler {
  /** Types that may come now: a `typeSet`. */
  readonly accepted: number
  /** Most bytes of data that one PDU may carry. */
  readonly mostData: number
  /**
   * A header is complete and in order: `head` and `layout` have it. Where there is data, `store` says where it goes.
   * Throws a violation for what must not be.
   */
  onHeader(receiver: Receiver): void
  /** All of the PDU has come. @param intact false where the data digest is wrong */
  onPdu(receiver: Receiver, intact: boolean): void
}

/** Where data goes: looked up for each piece of it, since memory may be taken away while it comes. */
interface Target {
  readonly bytes: Uint8Array
}

const NO_DIGESTS: Agreement = { hdgst: false, ddgst: false }
const HEAD_BYTES = 160
const STATE = { COMMON: 0, HEADER: 1, PADDING: 2, DATA: 3, DIGEST: 4 } as const

export class Receiver {
  /** The header of the PDU that is being received, and its dwords. */
  readonly head = Buffer.from(new ArrayBuffer(HEAD_BYTES))
  readonly words = new Uint32Array(this.head.buffer)
  readonly layout = createLayout()
  /** Bytes of the header that have come: what a terminate request can give back. */
  filled = 0
  agreement: Agreement = NO_DIGESTS
  private handler: PduHandler
  private state: number = STATE.COMMON
  // Bytes that the state still waits for.
  private left = COMMON_BYTES
  private target: Target | null = null
  private targetAt = 0
  private crc = 0
  private readonly digest = Buffer.alloc(4)
  private ended = false

  constructor(handler: PduHandler) {
    this.handler = handler
  }

  /** From the next PDU on. */
  handOver(handler: PduHandler, agreement: Agreement): void {
    this.handler = handler
    this.agreement = agreement
  }

  /** Nothing is taken any more. */
  end(): void {
    this.ended = true
    this.target = null
  }

  /** Where the data of this PDU goes; null drops it, and so does what is too short for it by then. */
  store(target: Target | null, at: number): void {
    this.target = target
    this.targetAt = at
  }

  /** Takes what has come. Throws a violation. */
  feed(bytes: Uint8Array, length: number): void {
    for (let at = 0; at < length && !this.ended; ) {
      const n = Math.min(this.left, length - at)
      const { state } = this
      if (state === STATE.DATA) this.take(bytes, at, n)
      else if (state === STATE.DIGEST) this.gather(this.digest, 4 - this.left, bytes, at, n)
      else if (state !== STATE.PADDING) {
        this.gather(this.head, this.filled, bytes, at, n)
        this.filled += n
      }
      at += n
      this.left -= n
      while (this.left === 0 && !this.ended) if (!this.advance()) break
    }
  }

  private gather(to: Uint8Array, toAt: number, from: Uint8Array, at: number, n: number): void {
    for (let i = 0; i < n; i++) to[toAt + i] = from[at + i]!
  }

  private take(bytes: Uint8Array, at: number, n: number): void {
    if (this.layout.ddgst !== 0) this.crc = crc32c(bytes, at, at + n, this.crc)
    if (this.target === null) return
    const memory = this.target.bytes
    if (this.targetAt + n <= memory.byteLength) memory.set(bytes.subarray(at, at + n), this.targetAt)
    this.targetAt += n
  }

  // The state's bytes are all there. False where it waits for the next PDU.
  private advance(): boolean {
    const { handler } = this
    switch (this.state) {
      case STATE.COMMON: {
        const { layout } = this
        checkCommonHeader(layout, this.head, handler.accepted, this.agreement, handler.mostData)
        return this.enter(STATE.HEADER, layout.hlen + layout.hdgst - COMMON_BYTES)
      }
      case STATE.HEADER: {
        const { hlen, hdgst, pdo } = this.layout
        if (hdgst !== 0 && crc32c(this.head, 0, hlen) !== this.head.readUInt32LE(hlen)) {
          throw violation(FES.HEADER_DIGEST_ERROR, 0, `${pduName(this.head[0]!)}: its header digest is wrong`)
        }
        this.target = null
        this.crc = 0
        handler.onHeader(this)
        return this.enter(STATE.PADDING, pdo - hlen - hdgst)
      }
      case STATE.PADDING:
        return this.enter(STATE.DATA, this.layout.data)
      case STATE.DATA:
        return this.enter(STATE.DIGEST, this.layout.ddgst)
      default: {
        const intact = this.layout.ddgst === 0 || this.digest.readUInt32LE(0) === this.crc
        this.state = STATE.COMMON
        this.left = COMMON_BYTES
        this.filled = 0
        this.handler.onPdu(this, intact)
        return false
      }
    }
  }

  private enter(state: number, bytes: number): boolean {
    this.state = state
    this.left = bytes
    return true
  }
}
