// Addresses of the software controller: `sim:`, `sim:disk.img?size=256M&lba=4096`, and what each option means.
// Every option is a string with its own small parser in one table, from which help is printed too.

import { AddressError } from '../errors.ts'
import { MAX_NSID } from '../nvme/spec/opcodes.ts'
import { parseSize } from '../sys/units.ts'
import { type FaultRule, parseFaults } from './faults/syntax.ts'
import { hash } from './model/identity.ts'
import { parseTime } from './time.ts'

/** What a controller is made of. Sizes in bytes, times in milliseconds. */
export interface SimConfig {
  /** The address without `nsid`, for messages. */
  readonly address: string
  /** Disk image, or undefined for memory. */
  readonly path: string | undefined
  /** Bytes of each namespace; undefined: 1 GiB in memory, or what the image holds. */
  readonly size: number | undefined
  /** Bytes beside them that no namespace has: room to create more. */
  readonly spare: number
  /** The medium's memory is taken at once, and not where it is touched first. */
  readonly populate: boolean
  readonly lba: 512 | 4096
  /** Namespace ids, ascending. */
  readonly nsids: readonly number[]
  /** Largest transfer as a power of two of 4 KiB pages; 0: no limit. */
  readonly mdts: number
  readonly qcount: number
  readonly qsize: number
  /** Doorbell stride: 4 << dstrd bytes. */
  readonly dstrd: number
  /** Offers shadow doorbells: Doorbell Buffer Config. */
  readonly shadow: boolean
  /** Takes SGLs of one data block in I/O commands. */
  readonly sgl: boolean
  /** Tells which blocks are allocated: Get LBA Status. */
  readonly lbaStatus: boolean
  /** Each I/O command takes this long: a fixed time, or any from a range. */
  readonly latency: { readonly min: number; readonly max: number }
  /** What a self-test or a sanitize operation takes. */
  readonly operation: number
  readonly thread: boolean
  readonly serial: string
  readonly model: string
  readonly faults: readonly FaultRule[]
  /** Namespace that the address is for; the controller itself does not care. */
  readonly nsid: number | undefined
}

export interface SimOption {
  readonly name: string
  /** What to write after `=`. */
  readonly value: string
  readonly default: string
  readonly help: string
}

/** Every option of an address, in the order in which help shows them. */
export const SIM_OPTIONS = [
  {
    name: 'size',
    value: 'SIZE',
    default: '1G in memory; what the image holds',
    help: 'bytes of each namespace: 512K, 256M, 1G (1024s), 1GB (1000s), up to 16T; creates a missing image',
  },
  {
    name: 'spare',
    value: 'SIZE',
    default: '0',
    help: 'room beside the namespaces, for those that commands create',
  },
  {
    name: 'populate',
    value: '0|1',
    default: '0',
    help: 'take the memory of the medium at once, so that no first write has to wait for it',
  },
  { name: 'lba', value: '512|4096', default: '512', help: 'bytes in a logical block' },
  {
    name: 'ns',
    value: 'COUNT|ID,ID…',
    default: '1',
    help: 'namespaces 1 to COUNT, or those with these ids (a single id is written `3,`)',
  },
  { name: 'mdts', value: '0-16', default: '8', help: 'largest transfer: 2^N pages of 4 KiB; 0: no limit' },
  { name: 'qcount', value: '1-1024', default: '16', help: 'I/O queue pairs' },
  { name: 'qsize', value: '2-65536', default: '4096', help: 'entries in the largest queue' },
  { name: 'dstrd', value: '0-8', default: '0', help: 'doorbell stride: 4 << N bytes' },
  { name: 'shadow', value: '0|1', default: '0', help: 'offer shadow doorbells (Doorbell Buffer Config)' },
  {
    name: 'sgl',
    value: '0|1',
    default: '0',
    help: 'take SGLs (one data block) for the data of I/O commands',
  },
  {
    name: 'lbastatus',
    value: '0|1',
    default: '1',
    help: 'tell which blocks are allocated, and so which are holes (Get LBA Status)',
  },
  {
    name: 'latency',
    value: 'TIME[-TIME]',
    default: '0',
    help: 'time that each I/O command takes (ns, us, ms, s), fixed or any of a range',
  },
  {
    name: 'operation',
    value: 'TIME',
    default: '100ms',
    help: 'time that a self-test or a sanitize operation takes',
  },
  { name: 'thread', value: '0|1', default: '0', help: 'run on a worker thread instead of in the poll' },
  { name: 'serial', value: 'TEXT', default: 'from the path', help: 'serial number, up to 20 characters' },
  { name: 'model', value: 'TEXT', default: 'unvme simulated NVMe', help: 'model, up to 40 characters' },
  {
    name: 'fault',
    value: 'RULE,RULE…',
    default: 'none',
    help: 'COMMAND[@SLBA[+NLB]][#SKIP][*TIMES]:ACTION, as read@64+8:status=281h',
  },
  { name: 'nsid', value: 'ID', default: 'the first', help: 'namespace to open' },
] as const satisfies readonly SimOption[]

type OptionName = (typeof SIM_OPTIONS)[number]['name']

const DEFAULT_MODEL = 'unvme simulated NVMe'

/**
 * Reads an address that starts with `sim:`.
 * Throws AddressError naming the option and its value (and the nearest known name for an unknown one).
 */
export function parseSimAddress(address: string): SimConfig {
  if (!address.startsWith('sim:')) throw new AddressError(`'${address}' does not start with sim:`)
  const question = address.indexOf('?')
  const path = address.slice(4, question < 0 ? undefined : question)
  if (path.includes('\0')) throw new AddressError(`'${address}': a path can't hold a NUL character`)
  const given = readQuery(address, question < 0 ? '' : address.slice(question + 1))
  const option = <T>(name: OptionName, parse: (text: string) => T | undefined, byDefault: T): T => {
    const text = given.get(name)
    if (text === undefined) return byDefault
    const value = parse(text)
    if (value === undefined) throw badValue(address, name, text)
    return value
  }
  const config = {
    address: withoutNsid(address),
    path: path === '' ? undefined : path,
    size: option<number | undefined>('size', sizeWithin(1, MAX_NAMESPACE), undefined),
    spare: option('spare', sizeWithin(0, MAX_NAMESPACE), 0),
    populate: option('populate', integer(0, 1), 0) === 1,
    lba: option<512 | 4096>('lba', parseLba, 512),
    nsids: option('ns', parseNsids, [1]),
    mdts: option('mdts', integer(0, 16), 8),
    qcount: option('qcount', integer(1, 1024), 16),
    qsize: option('qsize', integer(2, 65536), 4096),
    dstrd: option('dstrd', integer(0, 8), 0),
    shadow: option('shadow', integer(0, 1), 0) === 1,
    sgl: option('sgl', integer(0, 1), 0) === 1,
    lbaStatus: option('lbastatus', integer(0, 1), 1) === 1,
    latency: option('latency', parseLatency, { min: 0, max: 0 }),
    operation: option('operation', parseTime, 100),
    thread: option('thread', integer(0, 1), 0) === 1,
    serial: option('serial', text(20), serialOf(path)),
    model: option('model', text(40), DEFAULT_MODEL),
    faults: option('fault', parseFaults, []),
    nsid: option<number | undefined>('nsid', integer(1, MAX_NSID), undefined),
  }
  if (config.size !== undefined && config.size % config.lba !== 0) {
    throw new AddressError(`'${address}': size=${given.get('size')} is no multiple of lba=${config.lba}`)
  }
  if (config.populate && config.path !== undefined) {
    throw new AddressError(`'${address}': populate=1 is for a medium in memory, and this one is a file`)
  }
  if ((config.size ?? 0) * config.nsids.length + config.spare > MAX_MEDIUM) {
    throw new AddressError(
      `'${address}': size=${given.get('size')} for each of ${config.nsids.length} namespaces is more than 64T`,
    )
  }
  return config
}

function readQuery(address: string, query: string): Map<string, string> {
  const given = new Map<string, string>()
  for (const part of query.split('&')) {
    if (part === '') continue
    const equals = part.indexOf('=')
    const name = equals < 0 ? part : part.slice(0, equals)
    if (!SIM_OPTIONS.some((option) => option.name === name)) {
      throw new AddressError(`'${address}': unknown option '${name}'; the nearest is '${nearest(name)}'`)
    }
    if (equals < 0) throw new AddressError(`'${address}': option '${name}' needs a value: ${name}=…`)
    if (given.has(name)) throw new AddressError(`'${address}': option '${name}' is given twice`)
    given.set(name, part.slice(equals + 1))
  }
  return given
}

function badValue(address: string, name: OptionName, value: string): AddressError {
  const known = SIM_OPTIONS.find((option) => option.name === name)!
  return new AddressError(
    `'${address}': bad value ${name}=${value}; ${known.value} is needed (${known.help})`,
  )
}

function integer(min: number, max: number) {
  return (text: string): number | undefined => {
    if (!/^\d{1,10}$/.test(text)) return undefined
    const value = Number(text)
    return value >= min && value <= max ? value : undefined
  }
}

const MAX_NAMESPACE = 16 * 2 ** 40
// All namespaces together: keeps a medium in memory within the 47 bits of a process's addresses.
const MAX_MEDIUM = 64 * 2 ** 40

function parseLba(text: string): 512 | 4096 | undefined {
  return text === '512' ? 512 : text === '4096' ? 4096 : undefined
}

function sizeWithin(min: number, max: number) {
  return (text: string): number | undefined => {
    try {
      const bytes = parseSize(text)
      return bytes >= min && bytes <= max ? bytes : undefined
    } catch {
      return undefined
    }
  }
}

const MAX_NAMESPACES = 256

function parseNsids(text: string): number[] | undefined {
  if (text.includes(',')) {
    const ids = text.replace(/,$/, '').split(',').map(integer(1, MAX_NSID))
    if (ids.some((id) => id === undefined) || ids.length > MAX_NAMESPACES) return undefined
    const sorted = (ids as number[]).sort((a, b) => a - b)
    return new Set(sorted).size === sorted.length ? sorted : undefined
  }
  const count = integer(1, MAX_NAMESPACES)(text)
  return count === undefined ? undefined : Array.from({ length: count }, (_, i) => i + 1)
}

function parseLatency(text: string): { min: number; max: number } | undefined {
  const [from = '', to] = text.split('-', 2)
  const min = parseTime(from)
  const max = to === undefined ? min : parseTime(to)
  return min === undefined || max === undefined || max < min ? undefined : { min, max }
}

function text(max: number) {
  return (value: string) => {
    let plain: string
    try {
      plain = decodeURIComponent(value)
    } catch {
      return undefined
    }
    return plain.length >= 1 && plain.length <= max && /^[\x20-\x7e]*$/.test(plain) ? plain : undefined
  }
}

// The same image has the same serial number in every run, and two images rarely share one.
function serialOf(path: string): string {
  return `SIM${hash(path).toString(16).toUpperCase().padStart(8, '0')}`
}

function withoutNsid(address: string): string {
  return address.replace(/([?&])nsid=[^&]*(&|$)/, (_, before: string, after: string) =>
    after === '&' ? before : '',
  )
}

function nearest(name: string): string {
  const ranked = SIM_OPTIONS.map((option) => ({ name: option.name, far: distance(name, option.name) }))
  return ranked.reduce((a, b) => (b.far < a.far ? b : a)).name
}

function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i)
  // Longer words are no typing mistakes, and would only cost time.
  for (let i = 1; i <= Math.min(a.length, 32); i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      const change = row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1)
      next.push(Math.min(change, row[j]! + 1, next[j - 1]! + 1))
    }
    row = next
  }
  return row[b.length]!
}
