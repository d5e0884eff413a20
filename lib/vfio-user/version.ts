// VERSION, the first message of each side: protocol version, and what the side is able to, as JSON.
// A peer that says nothing of its abilities is taken by the protocol's defaults, and unknown ones are
// left alone, since newer peers have more.

import { DecodeError } from '../errors.ts'
import { show, showText } from '../sys/show.ts'
import { MAX_DATA_BYTES, MAX_FDS } from './constants.ts'

export interface Capabilities {
  /** File descriptors that one message to this peer may carry. */
  maxMsgFds: number
  /** Bytes of data in one REGION_READ or REGION_WRITE. */
  maxDataXferSize: number
}

export interface Version {
  major: number
  minor: number
  capabilities: Capabilities
}

export const OUR_CAPABILITIES: Capabilities = { maxMsgFds: MAX_FDS, maxDataXferSize: MAX_DATA_BYTES }

/** The payload of VERSION, in the request and in the reply. */
export function encodeVersion({ major, minor, capabilities }: Version): Buffer {
  const { maxMsgFds, maxDataXferSize } = capabilities
  const json = JSON.stringify({
    capabilities: { max_msg_fds: maxMsgFds, max_data_xfer_size: maxDataXferSize },
  })
  const b = Buffer.alloc(4 + json.length + 1)
  b.writeUInt16LE(major, 0)
  b.writeUInt16LE(minor, 2)
  b.write(json, 4, 'ascii')
  return b
}

/** Throws DecodeError. */
export function decodeVersion(b: Buffer): Version {
  if (b.length < 4) throw new DecodeError(`VERSION of ${b.length} bytes: 4 are needed`)
  return {
    major: b.readUInt16LE(0),
    minor: b.readUInt16LE(2),
    capabilities: decodeCapabilities(b.subarray(4)),
  }
}

function decodeCapabilities(b: Buffer): Capabilities {
  if (b.length === 0) return { maxMsgFds: 1, maxDataXferSize: MAX_DATA_BYTES }
  const end = b.indexOf(0)
  if (end < 0) throw new DecodeError('VERSION: the JSON text has no NUL at its end')
  const { capabilities = {} } = parseObject(b.toString('utf8', 0, end))
  const { max_msg_fds: fds = 1, max_data_xfer_size: bytes = MAX_DATA_BYTES } = asObject(capabilities)
  return { maxMsgFds: count('max_msg_fds', fds), maxDataXferSize: count('max_data_xfer_size', bytes) }
}

function parseObject(text: string): Record<string, unknown> {
  try {
    return asObject(JSON.parse(text))
  } catch (cause) {
    throw new DecodeError(`VERSION: no JSON object: ${showText(text)}`, { cause })
  }
}

function asObject(value: unknown): Record<string, unknown> {
  if (typeof value === 'object' && value !== null) return value as Record<string, unknown>
  throw new DecodeError(`VERSION: an object is needed, not ${show(value)}`)
}

function count(name: string, value: unknown): number {
  if (Number.isSafeInteger(value) && (value as number) >= 1) return value as number
  throw new DecodeError(`VERSION: ${name} of ${show(value)}: a number from 1 on is needed`)
}
