// Codec of the specification's data structures: kinds of field, and one table of offsets and kinds for each structure,
// which gives both decoder and encoder; and tables of what the specification numbers: codes with their names, and words of
// bits with what each means. Values are checked and copied, so that what is read outlives its DMA memory.
//
// Rule of numbers, everywhere in this module: a field of up to 48 bits is a number, a wider one a bigint, whatever
// its value. The exceptions are blockCount and lbaCount: sizes of a namespace in blocks are numbers, as in the whole driver.

import { DecodeError, OutOfRangeError } from '../../errors.ts'
import { high32, join32 } from '../../sys/int64.ts'

/** One kind of value: R is what reading gives, W what writing takes. */
export interface Field<R, W = R> {
  readonly bytes: number
  read(view: DataView, at: number): R
  /** `name` is the field's, for the message when the value does not fit. */
  write(view: DataView, at: number, value: W, name: string): void
}

function unsigned(
  bits: 8 | 16 | 24 | 32,
  read: Field<number>['read'],
  put: Field<number>['write'],
): Field<number> {
  return {
    bytes: bits / 8,
    read,
    write(view, at, value, name) {
      if (!(Number.isInteger(value) && value >= 0 && value < 2 ** bits))
        throw unfit(name, value, `${bits} bits`)
      put(view, at, value, name)
    },
  }
}

export const u8 = unsigned(
  8,
  (view, at) => view.getUint8(at),
  (view, at, value) => view.setUint8(at, value),
)
export const u16 = unsigned(
  16,
  (view, at) => view.getUint16(at, true),
  (view, at, value) => view.setUint16(at, value, true),
)
export const u24 = unsigned(
  24,
  (view, at) => view.getUint16(at, true) | (view.getUint8(at + 2) << 16),
  (view, at, value) => {
    view.setUint16(at, value & 0xffff, true)
    view.setUint8(at + 2, value >>> 16)
  },
)
export const u32 = unsigned(
  32,
  (view, at) => view.getUint32(at, true),
  (view, at, value) => view.setUint32(at, value, true),
)

/** 48 bits: a timestamp in milliseconds. */
export const u48: Field<number> = {
  bytes: 6,
  read: (view, at) => join32(view.getUint32(at, true), view.getUint16(at + 4, true)),
  write(view, at, value, name) {
    if (!(Number.isInteger(value) && value >= 0 && value < 2 ** 48)) throw unfit(name, value, '48 bits')
    view.setUint32(at, value >>> 0, true)
    view.setUint16(at + 4, high32(value), true)
  },
}

/** A little-endian integer of more than 48 bits. */
function wide(bytes: number): Field<bigint> {
  return {
    bytes,
    read(view, at) {
      let value = 0n
      for (let i = bytes - 2; i >= 0; i -= 2) value = (value << 16n) | BigInt(view.getUint16(at + i, true))
      return value
    },
    write(view, at, value, name) {
      if (value < 0n || value >> BigInt(bytes * 8) !== 0n) throw unfit(name, value, `${bytes * 8} bits`)
      for (let i = 0; i < bytes; i += 2)
        view.setUint16(at + i, Number((value >> BigInt(i * 8)) & 0xffffn), true)
    },
  }
}

export const u64 = wide(8)
export const u128 = wide(16)

/**
 * 64 bits that count a namespace's logical blocks. More than a safe integer comes rounded: no device has as many, and
 * who computes with the number looks at it with Number.isSafeInteger, so that an odd one hides none of the others.
 */
export const blockCount: Field<number> = {
  bytes: 8,
  read: (view, at) => join32(view.getUint32(at, true), view.getUint32(at + 4, true)),
  write(view, at, value, name) {
    if (!(Number.isSafeInteger(value) && value >= 0)) throw unfit(name, value, '53 bits')
    view.setUint32(at, value >>> 0, true)
    view.setUint32(at + 4, high32(value), true)
  },
}

/** The same of an address in such blocks, where more than a safe integer is a DecodeError. */
export const lbaCount: Field<number> = {
  ...blockCount,
  read(view, at) {
    const value = blockCount.read(view, at)
    if (!Number.isSafeInteger(value)) throw new DecodeError(`logical block ${u64.read(view, at)}`)
    return value
  },
}

/** Some bits of an unsigned field, from bit `low` on. The others stay as they are. */
export function bits(field: Field<number>, low: number, width: number): Field<number> {
  const mask = 2 ** width - 1
  return {
    bytes: field.bytes,
    read: (view, at) => (field.read(view, at) >>> low) & mask,
    write(view, at, value, name) {
      if (!(Number.isInteger(value) && value >= 0 && value <= mask)) throw unfit(name, value, `${width} bits`)
      field.write(view, at, ((field.read(view, at) & ~(mask << low)) | (value << low)) >>> 0, name)
    },
  }
}

/** A number that is stored in units, or from another zero: `value` = stored * unit + zero. What is between is rounded up. */
export function scaled(field: Field<number>, unit: number, zero = 0): Field<number> {
  return {
    bytes: field.bytes,
    read: (view, at) => field.read(view, at) * unit + zero,
    write: (view, at, value, name) => field.write(view, at, Math.ceil((value - zero) / unit), name),
  }
}

/** A number that is stored as a power of two, in units. */
export function power(field: Field<number>, unit: number): Field<number> {
  return {
    bytes: field.bytes,
    read: (view, at) => unit * 2 ** field.read(view, at),
    write: (view, at, value, name) => field.write(view, at, Math.log2(value / unit), name),
  }
}

/** One bit of an unsigned field. */
export function flag(field: Field<number>, bit: number): Field<boolean> {
  const one = bits(field, bit, 1)
  return {
    bytes: one.bytes,
    read: (view, at) => one.read(view, at) === 1,
    write: (view, at, value, name) => one.write(view, at, value ? 1 : 0, name),
  }
}

/**
 * ASCII text filled up with spaces. Read without spaces and NULs at its end; other bytes come as Latin-1.
 * @param empty what an empty text is filled with
 */
export function ascii(bytes: number, empty: 0 | 0x20 = 0x20): Field<string> {
  return {
    bytes,
    read: (view, at) => {
      let end = bytes
      while (end > 0 && (view.getUint8(at + end - 1) === 0x20 || view.getUint8(at + end - 1) === 0)) end--
      return buffer(view, at, end).toString('latin1')
    },
    write(view, at, value, name) {
      if (value.length > bytes) throw unfit(name, value, `${bytes} characters`)
      buffer(view, at, bytes)
        .fill(value === '' ? empty : 0x20)
        .write(value, 'latin1')
    },
  }
}

/** UTF-8 text that a NUL ends, or the field's end. */
export function utf8(bytes: number): Field<string> {
  return {
    bytes,
    read(view, at) {
      const all = buffer(view, at, bytes)
      const end = all.indexOf(0)
      return all.toString('utf8', 0, end < 0 ? bytes : end)
    },
    write(view, at, value, name) {
      if (Buffer.byteLength(value) > bytes) throw unfit(name, value, `${bytes} bytes`)
      buffer(view, at, bytes).fill(0).write(value, 'utf8')
    },
  }
}

/** Bytes as hexadecimal digits in their order in memory: identifiers, which the specification has big-endian. */
export function hex(bytes: number): Field<string> {
  return {
    bytes,
    read: (view, at) => buffer(view, at, bytes).toString('hex'),
    write(view, at, value, name) {
      if (!/^([0-9a-f]{2})*$/i.test(value) || value.length !== bytes * 2) {
        throw unfit(name, value, `${bytes * 2} hexadecimal digits`)
      }
      buffer(view, at, bytes).write(value, 'hex')
    },
  }
}

/** Bytes as they are, copied. */
export function raw(bytes: number): Field<Uint8Array> {
  return {
    bytes,
    read: (view, at) => new Uint8Array(buffer(view, at, bytes)),
    write(view, at, value, name) {
      if (value.length > bytes) throw unfit(name, `${value.length} bytes`, `${bytes} bytes`)
      buffer(view, at, bytes).fill(0).set(value)
    },
  }
}

/** `count` values one after the other. Fewer may be written: the others are zero. */
export function list<R, W>(count: number, field: Field<R, W>): Field<R[], readonly W[]> {
  return {
    bytes: count * field.bytes,
    read: (view, at) => Array.from({ length: count }, (_, i) => field.read(view, at + i * field.bytes)),
    write(view, at, values, name) {
      if (values.length > count) throw unfit(name, `${values.length} entries`, `${count} entries`)
      values.forEach((value, i) => {
        field.write(view, at + i * field.bytes, value, `${name}[${i}]`)
      })
    },
  }
}

function buffer(view: DataView, at: number, bytes: number): Buffer {
  return Buffer.from(view.buffer, view.byteOffset + at, bytes)
}

function unfit(name: string, value: unknown, limit: string): OutOfRangeError {
  return new OutOfRangeError(`${name}: ${value} does not fit in ${limit}`)
}

type AnyField = Field<unknown, never>

/** A structure's table: each field's byte offset, kind and display, by the specification's name in lowercase. */
export type Layout = Readonly<
  Record<string, readonly [offset: number, field: AnyField, ...display: readonly Display[]]>
>

type Read<F> = F extends { read(view: DataView, at: number): infer R } ? R : never
type Write<F> = F extends Field<infer _, infer W> ? W : never

/** What decoding a structure of this table gives. */
export type Decoded<L extends Layout> = { [K in keyof L]: Read<L[K][1]> }
/** What encoding one takes. Fields that are left out are zero. */
export type Encodable<L extends Layout> = { readonly [K in keyof L]?: Write<L[K][1]> | undefined }

/**
 * A whole data structure. `decode` throws DecodeError where there are too few bytes, and nothing else; `encode` throws
 * OutOfRangeError, naming the field, for a value that does not fit.
 */
export interface Structure<R, W> extends Field<R, W> {
  readonly name: string
  readonly layout: Layout
  decode(bytes: Uint8Array): R
  /** Writes the start of `target`, reserved fields zero; a new array without one. */
  encode(value: W, target?: Uint8Array): Uint8Array
}

/** A data structure of `bytes` bytes from its table. `name` is the specification's, for messages. */
export function structure<const L extends Layout>(
  name: string,
  bytes: number,
  layout: L,
): Structure<Decoded<L>, Encodable<L>> {
  const fields = Object.entries(layout) as [string, readonly [number, Field<unknown, unknown>]][]
  const read = (view: DataView, at: number) =>
    Object.fromEntries(
      fields.map(([key, [offset, field]]) => [key, field.read(view, at + offset)]),
    ) as Decoded<L>
  const write = (view: DataView, at: number, value: Encodable<L>, path: string) => {
    for (const [key, [offset, field]] of fields) {
      const part = value[key]
      if (part !== undefined) field.write(view, at + offset, part, path ? `${path}.${key}` : key)
    }
  }
  return {
    name,
    layout,
    bytes,
    read,
    write,
    decode: (from) => read(viewOf(name, from, bytes), 0),
    encode(value, target = new Uint8Array(bytes)) {
      if (target.length < bytes) {
        throw new OutOfRangeError(`${name}: ${bytes} bytes are needed, the target has ${target.length}`)
      }
      target.fill(0, 0, bytes)
      write(viewOf(name, target, bytes), 0, value, '')
      return target
    },
  }
}

/** Structures one after the other: as many as there are whole ones. */
export function entries<R, W>({ bytes, decode, encode, name }: Structure<R, W>) {
  return {
    decode: (from: Uint8Array): R[] =>
      Array.from({ length: Math.floor(from.length / bytes) }, (_, i) => decode(from.subarray(i * bytes))),
    encode(values: readonly W[], target: Uint8Array = new Uint8Array(values.length * bytes)): Uint8Array {
      if (target.length < values.length * bytes) {
        throw new OutOfRangeError(`${name}: ${values.length} entries do not fit in ${target.length} bytes`)
      }
      for (const [i, value] of values.entries()) encode(value, target.subarray(i * bytes))
      return target
    },
  }
}

/** A dword of a command or of a completion, by the same kind of table; its fields are bits of a u32. */
export interface Word<R, W> {
  readonly name: string
  readonly layout: Layout
  decode(dword: number): R
  /** Bits that no field names are zero. Throws OutOfRangeError for a value that does not fit. */
  encode(value: W): number
}

/** A dword from its table. `name` is the specification's, for messages. */
export function word<const L extends Layout>(name: string, layout: L): Word<Decoded<L>, Encodable<L>> {
  const { decode, encode } = structure(name, 4, layout)
  return {
    name,
    layout,
    decode(dword) {
      const bytes = new Uint8Array(4)
      new DataView(bytes.buffer).setUint32(0, dword, true)
      return decode(bytes)
    },
    encode: (value) => viewOf(name, encode(value), 4).getUint32(0, true),
  }
}

/** A view of a structure's bytes. Throws DecodeError where there are fewer than `needed`. */
export function viewOf(name: string, bytes: Uint8Array, needed: number): DataView {
  if (bytes.length < needed) {
    throw new DecodeError(`${name}: ${needed} bytes are needed, there are ${bytes.length}`)
  }
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
}

type CodeTable = Readonly<Record<string, readonly [code: number, ...rest: unknown[]]>>
/** A table's constants: the code of each row. */
export type Codes<T extends CodeTable> = { readonly [K in keyof T]: T[K][0] }

export function codesOf<const T extends CodeTable>(table: T): Codes<T> {
  return Object.fromEntries(Object.entries(table).map(([key, [code]]) => [key, code])) as Codes<T>
}

/** Codes with the specification's names: constants to compare with, and the name of each code. */
export function named<const T extends Readonly<Record<string, readonly [code: number, name: string]>>>(
  table: T,
): { codes: Codes<T>; names: ReadonlyMap<number, string> } {
  return { codes: codesOf(table), names: new Map(Object.values(table)) }
}

/** What a value of some bits means: a name (Supported or Not Supported), or what the value says. */
export type Meaning = string | ((value: number) => string)
/** Some bits of a word: from `high` to `low`. */
export type BitRow = readonly [high: number, low: number, meaning: Meaning]
type BitTable = Readonly<Record<string, readonly [bit: number, meaning: Meaning] | BitRow>>

/** A mask for each row, to test a word with, and the rows in their order, to write a word with. */
export type Bits<T> = { readonly [K in keyof T]: number } & { readonly rows: readonly BitRow[] }

/** The bits of a word from their table: one bit, or a range of them, and what it means. */
export function bitTable<const T extends BitTable>(table: T): Bits<T> {
  const rows = Object.values(table).map((row): BitRow => (row.length === 3 ? row : [row[0], row[0], row[1]]))
  const masks = Object.keys(table).map((key, i) => [key, maskOf(rows[i]!)])
  return { ...(Object.fromEntries(masks) as { [K in keyof T]: number }), rows }
}

function maskOf([high, low]: BitRow): number {
  return ((2 ** (high - low + 1) - 1) << low) >>> 0
}

/** For a bit that means one of two things. */
export const either = (off: string, on: string) => (value: number) => (value === 0 ? off : on)

/** For a bit that answers a question. */
export const yesNo = (what: string) => (value: number) => `${what}: ${value ? 'yes' : 'no'}`

/** For a field of a few values; others are reserved. */
export const oneOf =
  (...meanings: readonly string[]) =>
  (value: number): string =>
    meanings[value] ?? 'Reserved'

/** For a number. */
export const count = (what: string) => (value: number) => `${what}: ${value}`

/** What a field is for a person, and how its value is written. */
export interface Label {
  readonly label: string
  text(value: number | bigint): string
}

export const label = (text: string, write: (value: number) => string = String): Label => ({
  label: text,
  text: write,
})

/** How a field is shown where it is no plain number: in hexadecimal, as a temperature, by its bits, by its label. */
export type Display = 'hex' | 'kelvin' | { readonly rows: readonly BitRow[] } | Label

/** Kelvin, as in logs, thresholds and Identify, in whole degrees Celsius. */
export function celsius(kelvin: number): number {
  return kelvin - 273
}

/** `50°C (323 Kelvin)`. */
export function temperatureText(kelvin: number): string {
  return `${celsius(kelvin)}°C (${kelvin} Kelvin)`
}
