// Patterns of 64-bit words: the word at a place of the namespace is the pattern plus an increment for every word
// before it. Words count from LBA 0, whatever range is written, so that any part can be checked alone.

import { ArgumentTypeError } from 'unvme'

export interface WordPattern {
  readonly first: bigint
  readonly increment: bigint
}

const WORD_BYTES = 8
const MASK = 0xffff_ffffn

/** A parser for a word of 64 bits: `0x0123456789abcdef`, or decimal. */
export function word(text: string): bigint {
  if (!/^(\d+|0x[0-9a-f]+)$/i.test(text) || BigInt(text) !== BigInt.asUintN(64, BigInt(text))) {
    throw new ArgumentTypeError(`'${text}' is no number of 64 bits, such as 0 or 0xdeadbeef`)
  }
  return BigInt(text)
}

/** Fills a buffer that belongs at a byte of the namespace; both are multiples of 8. */
export function fillWords(buffer: Buffer, { first, increment }: WordPattern, position: number): Buffer {
  const start = BigInt.asUintN(64, first + increment * BigInt(position / WORD_BYTES))
  const halves = new Uint32Array(buffer.buffer, buffer.byteOffset, buffer.length / 4)
  let [low, high] = [Number(start & MASK), Number(start >> 32n)]
  const step = BigInt.asUintN(64, increment)
  const [stepLow, stepHigh] = [Number(step & MASK), Number(step >> 32n)]
  for (let i = 0; i < halves.length; i += 2) {
    halves[i] = low
    halves[i + 1] = high
    low += stepLow
    high = (high + stepHigh + (low > 0xffff_ffff ? 1 : 0)) >>> 0
    low >>>= 0
  }
  return buffer
}
