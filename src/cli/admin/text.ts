// How values of data structures are written: hexadecimal, bits of a word with their meaning, fields by their tables.

import { hexRow } from '../../../lib/log/index.ts'
import {
  type BitRow,
  type Display,
  type Label,
  type Layout,
  temperatureText,
} from '../../../lib/nvme/spec/codec.ts'
import { visible } from '../output.ts'

/** `0x1b36`, and plain `0`, as nvme-cli has them. */
export function hexText(value: number | bigint): string {
  return value === 0 || value === 0n ? '0' : `0x${value.toString(16)}`
}

/** `0x003f003f`: eight digits always. */
export function dwordText(value: number): string {
  return `0x${value.toString(16).padStart(8, '0')}`
}

const bitsOf = (word: number, [high, low]: BitRow) => Math.floor(word / 2 ** low) % 2 ** (high - low + 1)

/** `Namespace Attribute Changed Event Supported`, a line for each row. */
export function bitMeanings(word: number, rows: readonly BitRow[]): string[] {
  return rows.map((row) => {
    const [, , meaning] = row
    const value = bitsOf(word, row)
    return typeof meaning === 'string' ? `${meaning} ${value === 0 ? 'Not ' : ''}Supported` : meaning(value)
  })
}

/** `  [8:8] : 0x1  Namespace Attribute Changed Event Supported`, a line for each row. */
export function bitLines(word: number, rows: readonly BitRow[]): string[] {
  const meanings = bitMeanings(word, rows)
  return rows.map((row, i) => {
    const [high, low] = row
    return `  ${`[${high}:${low}]`.padEnd(7)} : ${hexText(bitsOf(word, row)).padEnd(3)}  ${meanings[i]}`
  })
}

const isLabel = (shown: Display | undefined): shown is Label => typeof shown === 'object' && 'label' in shown

/** `Doorbell Stride (DSTRD): 4 bytes`, from high bits to low; a field without a label is its name and number. */
export function labelLines(layout: Layout, values: object): string[] {
  return Object.entries(layout)
    .reverse()
    .map(([name, [, , shown]]) => {
      const value = Number(values[name as keyof typeof values])
      if (!isLabel(shown)) return `${name.toUpperCase()}: ${value}`
      return `${shown.label} (${name.toUpperCase()}): ${shown.text(value)}`
    })
}

/** A field of a structure: its name, how its value is written, and its bits where it is a word of flags. */
export interface Row {
  readonly name: string
  readonly value: string
  readonly bits?: readonly string[]
}

/** `name : value` lines; with `human`, the bits below those that have any. */
export function rowLines(rows: readonly Row[], human: boolean): string {
  const width = Math.max(...rows.map(({ name }) => name.length))
  return rows
    .flatMap(({ name, value, bits = [] }) => [
      `${name.padEnd(width)} : ${visible(value)}`,
      ...(human && bits.length > 0 ? [...bits, ''] : []),
    ])
    .join('\n')
}

/** The fields of a structure that `values` has, in the structure's order, each written as its table says. */
export function structureRows(layout: Layout, values: Readonly<Record<string, unknown>>): Row[] {
  return Object.entries(layout).flatMap(([name, [, , ...display]]) => {
    const value = values[name] as number
    if (value === undefined) return []
    const bits = display.flatMap((shown) => {
      if (shown === 'kelvin') return [`  ${temperatureText(value)}`]
      return typeof shown === 'object' && 'rows' in shown ? bitLines(value, shown.rows) : []
    })
    const { label = name, text = String } = display.find(isLabel) ?? {}
    return [{ name: label, value: display.includes('hex') ? hexText(value) : text(value), bits }]
  })
}

/** A decoded structure with its 128-bit numbers as text, which no program reads wrongly: nvme-cli prints them so. */
export function plain(value: object): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(value).map(([key, item]) => [key, typeof item === 'bigint' ? String(item) : item]),
  )
}

/** A whole dump of bytes, rows that repeat as `*`. */
export function dumpText(bytes: Uint8Array): string {
  const lines: string[] = []
  let before: Buffer | undefined
  let repeats = false
  for (let at = 0; at < bytes.length; at += 16) {
    const row = Buffer.from(bytes.subarray(at, at + 16))
    const again = before?.equals(row) === true && at + 16 < bytes.length
    if (!again) lines.push(hexRow(at, row))
    else if (!repeats) lines.push('*')
    repeats = again
    before = row
  }
  return lines.join('\n')
}
