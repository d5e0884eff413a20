// Codec of the specification's data structures: one table of offsets and kinds gives both decoder and encoder.
// Trade-off: types are derived from the tables: each field stands in one place, and only the compiler spells them out.

import { DecodeError, OutOfRangeError } from '../../errors.ts'
import type { Field } from './fields.ts'

export * from './fields.ts'

type AnyField = Field<unknown, never>

/** A structure's table: each field's byte offset and kind, by the specification's name in lowercase. */
export type Layout = Readonly<Record<string, readonly [offset: number, field: AnyField]>>

type Read<F> = F extends { read(view: DataView, at: number): infer R } ? R : never
type Write<F> = F extends Field<infer _, infer W> ? W : never

/** What decoding a structure of this table gives. */
export type Decoded<L extends Layout> = { [K in keyof L]: Read<L[K][1]> }
/** What encoding one takes. Fields that are left out are zero. */
export type Encodable<L extends Layout> = { readonly [K in keyof L]?: Write<L[K][1]> | undefined }

/** A whole data structure. `decode` throws DecodeError where there are too few bytes, and nothing else. */
export interface Structure<R, W> extends Field<R, W> {
  readonly name: string
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

/** A dword of a command or of a completion, by the same kind of table; its fields are bits of a u32. */
export interface Word<R, W> {
  readonly name: string
  decode(dword: number): R
  /** Bits that no field names are zero. Throws OutOfRangeError for a value that does not fit. */
  encode(value: W): number
}

/** A dword from its table. `name` is the specification's, for messages. */
export function word<const L extends Layout>(name: string, layout: L): Word<Decoded<L>, Encodable<L>> {
  const { decode, encode } = structure(name, 4, layout)
  return {
    name,
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
