// DH-HMAC-CHAP on the host's side (NVMe 2.0 base, 8.13.5): proves to a target who this host is, and, where it has the
// controller's key, has the target prove the same.

import { randomBytes, randomInt } from 'node:crypto'
import { AuthenticationError, DecodeError, DeviceRemovedError } from '../../../errors.ts'
import { logger } from '../../../log/index.ts'
import { beginExchange, DH_GROUP, DH_GROUP_NAMES, type Exchange } from './dh-groups.ts'
import {
  type Challenge,
  controllerResponse,
  decodeChallenge,
  decodeSuccess1,
  describeFailure,
  encodeFailure,
  encodeNegotiate,
  encodeReply,
  encodeSuccess2,
  FAILURE,
  hostResponse,
  isSame,
  MESSAGE,
  messageOf,
  type Proof,
} from './dhchap.ts'
import { HASH, hashBytes, hashName, type SecurityKey, transformKey } from './keys.ts'

const log = logger('tcp')

/** What a host proves itself with, and what it demands. */
export interface DhchapHost {
  readonly key: SecurityKey
  /** Of the controller, which then has to prove itself. */
  readonly controllerKey: SecurityKey | null
  /** The weakest hash and group that are taken, by number. */
  readonly leastHash: number
  readonly leastGroup: number
}

/** Authentication Send and Receive of one queue. */
export interface AuthenticationChannel {
  send(message: Buffer): Promise<void>
  receive(): Promise<Buffer>
}

export interface AuthenticationNames {
  /** Of the controller, for messages. */
  readonly address: string
  readonly hostnqn: string
  readonly subnqn: string
}

const MOST_TID = 0x1_0000
const MOST_SEQNUM = 0xffff_ffff

/**
 * Resolves when each has proved what the other demands, with what was agreed on, for a user to read. Rejects with AuthenticationError; with what the channel rejects
 * with, too.
 */
export async function authenticate(
  channel: AuthenticationChannel,
  host: DhchapHost,
  names: AuthenticationNames,
): Promise<string> {
  const tid = randomInt(MOST_TID)
  try {
    return await converse(channel, host, names, tid)
  } catch (error) {
    const refusal = refusalOf(error, names.address)
    if (refusal === null) throw error
    // Whether it is heard changes nothing.
    const said = encodeFailure(MESSAGE.FAILURE2, { tid, explanation: refusal.explanation })
    await channel.send(said).catch((failed: Error) => log('%s: %s', names.address, failed.message))
    throw refusal.error
  }
}

/** What a target said that is not taken, and the reason that it is given. */
class Refusal {
  readonly explanation: number
  readonly what: string

  constructor(explanation: number, what: string) {
    this.explanation = explanation
    this.what = what
  }
}

function refusalOf(
  error: unknown,
  address: string,
): { error: AuthenticationError; explanation: number } | null {
  if (error instanceof Refusal) {
    return {
      error: new AuthenticationError(`${address}: ${error.what}`),
      explanation: error.explanation,
    }
  }
  if (!(error instanceof DecodeError)) return null
  return {
    error: new AuthenticationError(`${address}: ${error.message}`, { cause: error }),
    explanation: FAILURE.INCORRECT_PAYLOAD,
  }
}

async function converse(
  channel: AuthenticationChannel,
  host: DhchapHost,
  { address, hostnqn, subnqn }: AuthenticationNames,
  tid: number,
): Promise<string> {
  const hashes = numbers(host.leastHash, HASH.SHA512)
  const groups = numbers(host.leastGroup, DH_GROUP.FFDHE8192)
  await channel.send(encodeNegotiate({ tid, concatenation: 0, hashes, groups }))
  const challenge = decodeChallenge(await expect(channel, MESSAGE.CHALLENGE, tid, address))
  checkChoice(challenge, hashes, groups)
  const { hash, group } = challenge
  const { value, shared } = agree(group, challenge.value)
  const { controllerKey } = host
  const own = controllerKey === null ? null : randomBytes(hashBytes(hash)!)
  const seqnum = own === null ? 0 : randomInt(1, MOST_SEQNUM)
  const common = { hash, shared, tid, hostnqn, subnqn }
  const proof: Proof = {
    ...{ ...common, challenge: challenge.challenge, seqnum: challenge.seqnum },
    key: transformKey(host.key, hostnqn),
  }
  await channel.send(encodeReply({ tid, response: hostResponse(proof), seqnum, challenge: own, value }))
  const response = decodeSuccess1(
    await expect(answering(channel, address), MESSAGE.SUCCESS1, tid, address),
    hash,
  )
  if (own !== null) {
    const key = transformKey(controllerKey!, subnqn)
    const right = controllerResponse({ ...common, challenge: own, seqnum, key })
    if (response === null || !isSame(response, right)) {
      throw new Refusal(FAILURE.FAILED, 'the controller does not prove that it has its key')
    }
    await channel.send(encodeSuccess2(tid))
  }
  log('%s: authenticated with %s and %s', address, hashName(hash), DH_GROUP_NAMES[group])
  return `${hashName(hash)}, ${DH_GROUP_NAMES[group]}, ${own === null ? 'host' : 'host and controller'}`
}

const numbers = (least: number, most: number) => Array.from({ length: most - least + 1 }, (_, i) => least + i)

function checkChoice({ hash, group }: Challenge, hashes: readonly number[], groups: readonly number[]): void {
  if (!hashes.includes(hash)) {
    throw new Refusal(FAILURE.HASH_UNUSABLE, `the target chose ${hashName(hash)}, which was not offered`)
  }
  if (!groups.includes(group)) {
    throw new Refusal(
      FAILURE.GROUP_UNUSABLE,
      `the target chose ${DH_GROUP_NAMES[group]}, which was not offered`,
    )
  }
}

function agree(group: number, theirs: Buffer): { value: Buffer; shared: Buffer } {
  const exchange: Exchange = beginExchange(group)
  try {
    return { value: exchange.value, shared: exchange.agree(theirs) }
  } catch {
    throw new Refusal(FAILURE.INCORRECT_PAYLOAD, 'the DH value of the target is none of its group')
  }
}

// Linux's target closes the connection of a host that it refuses, at times before the reason is out.
function answering(channel: AuthenticationChannel, address: string): Pick<AuthenticationChannel, 'receive'> {
  return {
    receive: () =>
      channel.receive().catch((cause: Error) => {
        if (!(cause instanceof DeviceRemovedError)) throw cause
        const what = `${address}: the target ended the connection in place of an answer to this host's proof`
        throw new AuthenticationError(what, { cause })
      }),
  }
}

/** The next message of the target, which has to be this one, of this conversation. */
async function expect(
  channel: Pick<AuthenticationChannel, 'receive'>,
  message: number,
  tid: number,
  address: string,
): Promise<Buffer> {
  const bytes = await channel.receive()
  const came = messageOf(bytes)
  if (came.message === MESSAGE.FAILURE1) {
    throw new AuthenticationError(`${address}: the target refuses this host: ${describeFailure(bytes)}`)
  }
  if (came.message !== message) {
    throw new Refusal(
      FAILURE.INCORRECT_MESSAGE,
      `message ${came.message.toString(16)}h came where ${message.toString(16)}h is due`,
    )
  }
  if (came.tid !== tid) {
    throw new Refusal(FAILURE.INCORRECT_PAYLOAD, 'a message of another conversation (T_ID) came')
  }
  return bytes
}
