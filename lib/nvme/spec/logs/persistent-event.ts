// Persistent Event Log (NVMe 1.4 base, section 5.14.1.13, figures 214 and 215; fields of 2.0 included).
// Trade-off: the header and each event's header are decoded; what an event holds stays bytes, by its type.

import { OutOfRangeError } from '../../../errors.ts'
import {
  ascii,
  type Decoded,
  type Encodable,
  raw,
  structure,
  u8,
  u16,
  u32,
  u64,
  u128,
  utf8,
} from '../codec.ts'
import { timestampField } from '../timestamp.ts'

export const PERSISTENT_EVENT_HEADER_BYTES = 512

/** What to do with the log's reporting context: the log specific field of the Get Log Page command. */
export const PERSISTENT_EVENT_ACTION = { READ: 0, ESTABLISH_AND_READ: 1, RELEASE: 2 } as const

/** Event types. */
export const PERSISTENT_EVENT = {
  SMART: 0x01,
  FIRMWARE_COMMIT: 0x02,
  TIMESTAMP_CHANGE: 0x03,
  POWER_ON_OR_RESET: 0x04,
  HARDWARE_ERROR: 0x05,
  CHANGE_NAMESPACE: 0x06,
  FORMAT_START: 0x07,
  FORMAT_COMPLETION: 0x08,
  SANITIZE_START: 0x09,
  SANITIZE_COMPLETION: 0x0a,
  SET_FEATURE: 0x0b,
  TELEMETRY_CREATED: 0x0c,
  THERMAL_EXCURSION: 0x0d,
  VENDOR: 0xde,
  TCG: 0xdf,
} as const

const headerLayout = {
  lid: [0, u8],
  /** Total number of events. */
  tnev: [4, u32],
  /** Total log length in bytes, header included. */
  tll: [8, u64],
  /** Log revision. */
  rv: [16, u8],
  /** Log header length: bytes that follow this field. */
  lhl: [18, u16],
  ts: [20, timestampField],
  /** Power on hours, power cycle count. */
  poh: [28, u128],
  pcc: [44, u64],
  vid: [52, u16],
  ssvid: [54, u16],
  sn: [56, ascii(20)],
  mn: [76, ascii(40)],
  subnqn: [116, utf8(256)],
  /** Generation number, reporting context information (2.0). */
  gen_number: [372, u16],
  rci: [374, u32],
  /** Supported events: bit n of the map is event type n. */
  seb: [480, raw(32)],
} as const

const eventLayout = {
  /** One of PERSISTENT_EVENT, and its revision. */
  etype: [0, u8],
  etype_rev: [1, u8],
  /** Event header length: bytes that follow this field. */
  ehl: [2, u8],
  /** Event header additional information, and port identifier (2.0). */
  ehai: [3, u8],
  cntlid: [4, u16],
  ets: [6, timestampField],
  pelpid: [14, u16],
  /** Bytes of vendor specific information, and of it and the event's data together. */
  vsil: [20, u16],
  el: [22, u16],
} as const

const header = structure('Persistent Event Log Header', PERSISTENT_EVENT_HEADER_BYTES, headerLayout)
const eventHeader = structure('Persistent Event', 24, eventLayout)
// EHL and LHL count from behind themselves.
const EHL_END = 3
const LHL_END = 20

export interface PersistentEventHeader extends Decoded<typeof headerLayout> {}

export interface PersistentEvent extends Decoded<typeof eventLayout> {
  /** Vendor specific information. */
  vsi: Uint8Array
  /** Event data, whose layout is its type's. */
  data: Uint8Array
}

export interface PersistentEventLog extends PersistentEventHeader {
  /** The events that are whole in the bytes given; `tnev` says how many there are. */
  events: PersistentEvent[]
}

/** Decodes the first 512 bytes; throws DecodeError on fewer. */
export function decodePersistentEventHeader(bytes: Uint8Array): PersistentEventHeader {
  return header.decode(bytes)
}

/** Decodes the header and as many whole events as follow; throws DecodeError on fewer than 512 bytes. */
export function decodePersistentEventLog(bytes: Uint8Array): PersistentEventLog {
  const log = header.decode(bytes)
  const events: PersistentEvent[] = []
  let at = Math.max(header.bytes, log.lhl + LHL_END)
  while (events.length < log.tnev && at + eventHeader.bytes <= bytes.length) {
    const event = eventHeader.decode(bytes.subarray(at))
    const body = at + Math.max(eventHeader.bytes, event.ehl + EHL_END)
    const data = body + Math.min(event.vsil, event.el)
    const end = body + event.el
    if (end > bytes.length) break
    events.push({ ...event, vsi: bytes.slice(body, data), data: bytes.slice(data, end) })
    at = end
  }
  return { ...log, events }
}

type EventToEncode = Omit<Encodable<typeof eventLayout>, 'ehl' | 'vsil' | 'el'> & {
  vsi?: Uint8Array
  data?: Uint8Array
}

/** Encodes a whole log. Lengths and counts are computed; fields left out are zero. */
export function encodePersistentEventLog({
  events,
  ...value
}: Encodable<typeof headerLayout> & { events: readonly EventToEncode[] }): Uint8Array {
  const chunks = events.map(encodeEvent)
  const tll = chunks.reduce((sum, chunk) => sum + chunk.length, header.bytes)
  const counted = { lid: 0x0d, lhl: header.bytes - LHL_END, ...value, tnev: events.length, tll: BigInt(tll) }
  return Buffer.concat([header.encode(counted), ...chunks])
}

function encodeEvent({
  vsi = new Uint8Array(),
  data = new Uint8Array(),
  ...value
}: EventToEncode): Uint8Array {
  const el = vsi.length + data.length
  if (el > 0xffff) throw new OutOfRangeError(`Persistent event: ${el} bytes, where 65535 are the most`)
  const lengths = { ehl: eventHeader.bytes - EHL_END, vsil: vsi.length, el }
  return Buffer.concat([eventHeader.encode({ ...value, ...lengths }), vsi, data])
}
