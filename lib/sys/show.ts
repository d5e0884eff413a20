// Values in messages, and objects on a console: as much as a line takes, whatever was given.

import { type InspectOptions, inspect } from 'node:util'

const MOST_CHARACTERS = 80

/** A value as a message shows it: 80 characters at the most, of a buffer only its type and length. */
export function show(value: unknown): string {
  if (ArrayBuffer.isView(value) || value instanceof ArrayBuffer) {
    return `a ${value.constructor?.name ?? 'buffer'} of ${value.byteLength} bytes`
  }
  const text = inspect(value, { depth: 0, maxStringLength: 40, maxArrayLength: 4, breakLength: Infinity })
  return text.length <= MOST_CHARACTERS ? text : `${text.slice(0, MOST_CHARACTERS - 1)}…`
}

/** A text as a message shows it: in double quotes, 80 characters of it at the most. */
export function showText(text: string): string {
  return JSON.stringify(text.length <= MOST_CHARACTERS ? text : `${text.slice(0, MOST_CHARACTERS - 1)}…`)
}

/** What `inspect.custom` of a public object returns: its name and these of its properties, and nothing behind them. */
export function summary(name: string, properties: object, depth: number, options: InspectOptions): string {
  if (depth < 0) return `[${name}]`
  return `${name} ${inspect(properties, { ...options, depth: 0 })}`
}
