// DH-HMAC-CHAP on the target's side: one conversation, of one queue (NVMe 2.0 base, 8.13.5).

import { randomBytes, randomInt } from 'node:crypto'
import { DecodeError } from '../../../errors.ts'
import { beginExchange, DH_GROUP, type Exchange } from '../security/dh-groups.ts'
import {
  type Challenge,
  controllerResponse,
  decodeNegotiate,
  decodeReply,
  encodeChallenge,
  encodeFailure,
  encodeSuccess1,
  FAILURE,
  hostResponse,
  isSame,
  MESSAGE,
  messageOf,
} from '../security/dhchap.ts'
import { HASH, hashBytes, type SecurityKey, transformKey } from '../security/keys.ts'

/** What a target asks of hosts. */
export interface TargetDhchap {
  /** The key of a host; undefined for a host that is not known. */
  keyOf(hostnqn: string): SecurityKey | undefined
  /** The target's own, for hosts that ask it to prove itself. */
  readonly controllerKey?: SecurityKey | undefined
  /** By number, the preferred one first. Default: every one, the strongest hash and the null group first. */
  readonly hashes?: readonly number[] | undefined
  readonly groups?: readonly number[] | undefined
}

const HASHES = [HASH.SHA512, HASH.SHA384, HASH.SHA256]
const GROUPS = Object.values(DH_GROUP)
const MOST_SEQNUM = 0xffff_ffff

/** A conversation, which starts over with each Negotiate. */
export class Authentication {
  /** The host has proved itself, and the target too where the host asked for that. */
  done = false
  /** It has been refused: the connection ends once that is said. */
  failed = false
  readonly #options: TargetDhchap
  readonly #hostnqn: string
  readonly #subnqn: string
  // Waits for the host's Authentication Receive.
  #next: Buffer | null = null
  #exchange: Exchange | null = null
  #challenge: Challenge | null = null
  // The controller has proved itself, and the host has still to say what it thinks of that.
  #proved = false

  constructor(options: TargetDhchap, hostnqn: string, subnqn: string) {
    this.#options = options
    this.#hostnqn = hostnqn
    this.#subnqn = subnqn
  }

  /** Takes a message of the host. */
  send(bytes: Buffer): void {
    try {
      this.#take(bytes)
    } catch (error) {
      if (!(error instanceof DecodeError)) throw error
      this.#refuse(bytes.length < 6 ? 0 : bytes.readUInt16LE(4), FAILURE.INCORRECT_PAYLOAD)
    }
  }

  /** It has failed, and there is nothing more to say. */
  get over(): boolean {
    return this.failed && this.#next === null
  }

  /** The message for the host; null where none is due. */
  receive(): Buffer | null {
    const next = this.#next
    this.#next = null
    return next
  }

  #refuse(tid: number, explanation: number): void {
    this.#giveUp(encodeFailure(MESSAGE.FAILURE1, { tid, explanation }))
  }

  #giveUp(said: Buffer | null): void {
    this.done = false
    this.failed = true
    this.#challenge = null
    this.#next = said
  }

  #take(bytes: Buffer): void {
    const { message, tid } = messageOf(bytes)
    const ours = this.#challenge?.tid === tid
    if (message === MESSAGE.NEGOTIATE && !this.failed) this.#negotiate(bytes)
    else if (message === MESSAGE.REPLY && ours && !this.#proved) this.#check(bytes)
    else if (message === MESSAGE.SUCCESS2 && ours && this.#proved) this.done = true
    else if (message === MESSAGE.FAILURE2) this.#giveUp(null)
    else this.#refuse(tid, FAILURE.INCORRECT_MESSAGE)
  }

  #negotiate(bytes: Buffer): void {
    const { tid, concatenation, hashes, groups } = decodeNegotiate(bytes)
    const hash = (this.#options.hashes ?? HASHES).find((one) => hashes.includes(one))
    const group = (this.#options.groups ?? GROUPS).find((one) => groups.includes(one))
    this.done = this.#proved = false
    if (concatenation !== 0) this.#refuse(tid, FAILURE.CONCATENATION_MISMATCH)
    else if (hash === undefined) this.#refuse(tid, FAILURE.HASH_UNUSABLE)
    else if (group === undefined) this.#refuse(tid, FAILURE.GROUP_UNUSABLE)
    else {
      this.#exchange = beginExchange(group)
      const challenge = randomBytes(hashBytes(hash)!)
      const seqnum = randomInt(1, MOST_SEQNUM)
      this.#challenge = { tid, hash, group, seqnum, challenge, value: this.#exchange.value }
      this.#next = encodeChallenge(this.#challenge)
    }
  }

  #check(bytes: Buffer): void {
    const { tid, hash, group, challenge, seqnum } = this.#challenge!
    const reply = decodeReply(bytes, hash, group)
    const [hostnqn, subnqn] = [this.#hostnqn, this.#subnqn]
    const key = this.#options.keyOf(hostnqn)
    let shared: Buffer
    try {
      shared = this.#exchange!.agree(reply.value)
    } catch {
      this.#refuse(tid, FAILURE.INCORRECT_PAYLOAD)
      return
    }
    const common = { hash, shared, tid, hostnqn, subnqn }
    const right =
      key === undefined
        ? null
        : hostResponse({ ...common, key: transformKey(key, hostnqn), challenge, seqnum })
    if (right === null || !isSame(reply.response, right)) {
      this.#refuse(tid, FAILURE.FAILED)
      return
    }
    if (reply.challenge === null) {
      this.#next = encodeSuccess1(tid, hash, null)
      this.#challenge = null
      this.done = true
      return
    }
    const { controllerKey } = this.#options
    if (controllerKey === undefined) {
      this.#refuse(tid, FAILURE.FAILED)
      return
    }
    const proof = { ...common, challenge: reply.challenge, seqnum: reply.seqnum }
    const own = controllerResponse({ ...proof, key: transformKey(controllerKey, subnqn) })
    this.#next = encodeSuccess1(tid, hash, own)
    this.#proved = true
  }
}
