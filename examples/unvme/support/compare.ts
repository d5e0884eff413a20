// Patterns to write and to recognise, and what to say where they are not found.

import { type Namespace, VerifyError } from 'unvme'
import { Random } from './random.ts'

/** Fills a buffer with bytes that are others for every seed. */
export function fillWith(buffer: Buffer, seed: number): Buffer {
  new Random(seed).fill(buffer)
  return buffer
}

/** The first byte in which two buffers of one length differ; -1 where there is none. */
export function firstDifference(found: Buffer, expected: Buffer): number {
  if (found.equals(expected)) return -1
  let at = 0
  while (found[at] === expected[at]) at++
  return at
}

/**
 * Checks blocks read from `slba` on.
 * @throws VerifyError that names the first byte that is wrong
 */
export function expectBlocks(
  ns: Namespace,
  found: Buffer,
  expected: Buffer,
  slba: number,
  qid: number,
): void {
  const at = firstDifference(found, expected)
  if (at >= 0) throw wrongByte(ns, found, expected, { slba, qid, at })
}

/** What is said of the byte at `at` of blocks read from `slba` on. */
export function wrongByte(
  ns: Namespace,
  found: Buffer,
  expected: Buffer,
  { slba, qid, at }: { slba: number; qid: number; at: number },
): VerifyError {
  const lba = slba + Math.floor(at / ns.blocksize)
  const hex = (buffer: Buffer) => buffer.toString('hex', at, at + 1)
  return new VerifyError(
    `${ns.device}, namespace ${ns.id}, queue ${qid}: LBA ${lba}, byte ${at % ns.blocksize} is ${hex(found)}h, ` +
      `${hex(expected)}h is expected`,
  )
}
