// Parsers for words of the command line: numbers, sizes, durations, words of a list.
// Strict. What is not understood as a whole is an error, since a wrong size destroys data.

import fs from 'node:fs'
import path from 'node:path'
import { ArgumentTypeError, OutOfRangeError } from '../../lib/errors.ts'
import { parseDuration, parseSize } from '../../lib/sys/units.ts'

interface Range {
  min?: number
  max?: number
}

/** Takes the text as it is. */
export const text = (word: string) => word

/** A parser for whole numbers, decimal or 0x…, from `min` (0) to `max` (the largest safe integer). */
export function integer({ min = 0, max = Number.MAX_SAFE_INTEGER }: Range = {}) {
  return (word: string): number => {
    if (!/^(-?\d+|0x[0-9a-f]+)$/i.test(word)) throw new ArgumentTypeError(`'${word}' is not a whole number`)
    return within(word, Number(word), min, max)
  }
}

/** Numbers of a field's width. */
export const bit = integer({ max: 1 })
export const byte = integer({ max: 0xff })
export const word = integer({ max: 0xffff })
export const dword = integer({ max: 0xffff_ffff })

/** Parses a number of blocks: one-based, where nvme-cli's `-c 0` is one block. */
export function blockCount(word: string): number {
  if (Number(word) === 0) {
    throw new OutOfRangeError(`${word} blocks: counts are one-based here, and 1 is what nvme-cli calls 0`)
  }
  return integer({ min: 1 })(word)
}

/** A parser for numbers with a decimal point. */
export function decimal({ min = 0, max = Number.MAX_VALUE }: Range = {}) {
  return (word: string): number => {
    if (!/^-?(\d+\.?\d*|\.\d+)$/.test(word)) throw new ArgumentTypeError(`'${word}' is not a number`)
    const value = Number(word)
    if (value >= min && value <= max) return value
    throw new OutOfRangeError(`${word} is not in ${min} to ${max}`)
  }
}

/** A parser for sizes in bytes: `512`, `4k`, `128KiB`, `1GB`, as `parseSize` reads them, and `0x200`, as nvme-cli does. */
export function size({ min = 0, max = Number.MAX_SAFE_INTEGER }: Range = {}) {
  return (word: string): number =>
    within(word, /^0x[0-9a-f]+$/i.test(word) ? Number(word) : parseSize(word), min, max)
}

/** A parser for durations: `100us`, `2ms`, `15s`, `1.5m`, `2h`; seconds without a unit. Gives milliseconds. */
export function duration({ min = 0, max = Number.MAX_VALUE }: Range = {}) {
  return (word: string): number => {
    const value = parseDuration(word)
    if (value >= min && value <= max) return value
    throw new OutOfRangeError(
      max === Number.MAX_VALUE ? `${word} is less than ${min} ms` : `${word} is not in ${min} to ${max} ms`,
    )
  }
}

/** A folder with a copy of a machine's sys. */
export function sysroot(word: string): string {
  if (fs.existsSync(path.join(word, 'sys'))) return word
  throw new ArgumentTypeError(`'${word}' has no folder sys`)
}

/** A parser for one of a few words; an unknown one suggests the nearest. */
export function choiceParser<const C extends readonly string[]>(choices: C) {
  return (word: string): C[number] => {
    if (choices.includes(word)) return word
    throw new ArgumentTypeError(`'${word}' is none of ${choices.join(', ')}${suggestion(word, choices)}`)
  }
}

/** A parser for one of a few words that stand for numbers, or for one of these numbers itself. */
export function namedNumber(names: Readonly<Record<string, number>>) {
  const words = Object.keys(names)
  const parse = choiceParser(words)
  return (word: string): number => {
    const number = /^(\d+|0x[0-9a-f]+)$/i.test(word) ? Number(word) : undefined
    return number !== undefined && Object.values(names).includes(number) ? number : names[parse(word)]!
  }
}

/** A parser for a list with commas between: `0,8,16`. */
export function listOf<T>(parse: (word: string) => T) {
  return (words: string): T[] => words.split(',').map((word) => parse(word))
}

/** `; did you mean 'word'?` where one of the candidates is near, or nothing. */
export function suggestion(word: string, candidates: readonly string[]): string {
  let nearest = ''
  let least = Math.max(1, Math.floor(word.length / 2))
  for (const candidate of candidates) {
    const distance = candidate.startsWith(word) ? 0 : editDistance(word, candidate)
    if (distance > least || (distance === least && nearest)) continue
    nearest = candidate
    least = distance
  }
  return nearest && `; did you mean '${nearest}'?`
}

/** Letters to insert, delete or replace to make `b` of `a` (Levenshtein), by rows. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, at) => at)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      const replaced = row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1)
      next.push(Math.min(replaced, row[j]! + 1, next[j - 1]! + 1))
    }
    row = next
  }
  return row[b.length]!
}

function within(word: string, value: number, min: number, max: number): number {
  if (Number.isSafeInteger(value) && value >= min && value <= max) return value
  throw new OutOfRangeError(`${word} is not in ${min} to ${max}`)
}
