// Writes a pattern over a range or all of a namespace, or reads the range and compares it with a pattern, or both.
//
//   node dist/examples/unvme/wrc.js ADDR --write PATTERN --read PATTERN [--increment N] …
//
// A block that differs is printed in hex, and the exit code is 3. One thread keeps all the queues full by
// aread, awrite and apoll; where patterns have an increment, making and comparing them costs more than the driver.

import { setImmediate } from 'node:timers/promises'
import { type IoDescriptor, type Namespace, OutOfRangeError, UsageError } from 'unvme'
import { firstDifference, wrongByte } from './support/compare.ts'
import { printDump } from './support/dump.ts'
import { integer, print, program, startProgress, value, valueOr } from './support/program.ts'
import { fillWords, type WordPattern, word } from './support/words.ts'

interface Job {
  readonly ns: Namespace
  readonly pattern: WordPattern
  readonly write: boolean
  readonly slba: number
  readonly end: number
  /** Blocks of one I/O, and I/Os in flight on each queue. */
  readonly step: number
  readonly depth: number
  readonly signal: AbortSignal
  readonly onProgress: (bytes: number) => void
}

interface Slot {
  readonly qid: number
  readonly buf: Buffer
  iod: IoDescriptor | null
}

// Polling goes on for so long between turns of the event loop.
const SLICE_MS = 20

/** Goes once over the range, with `depth` I/Os in flight on each queue. */
async function go({ ns, pattern, write, slba, end, step, depth, signal, onProgress }: Job): Promise<void> {
  const bytes = step * ns.blocksize
  const memory = ns.alloc(ns.qcount * depth * bytes)
  const expected = Buffer.alloc(bytes)
  const slots = Array.from({ length: ns.qcount * depth }, (_, i): Slot => {
    return { qid: i % ns.qcount, buf: memory.subarray(i * bytes, (i + 1) * bytes), iod: null }
  })
  let next = slba
  let busy = 0

  const send = (slot: Slot) => {
    const nlb = Math.min(step, end - next)
    const buf = slot.buf.subarray(0, nlb * ns.blocksize)
    if (write) fillWords(buf, pattern, next * ns.blocksize)
    slot.iod = write ? ns.awrite(slot.qid, buf, next, nlb) : ns.aread(slot.qid, buf, next, nlb)
    next += nlb
    busy++
  }
  const finish = async ({ qid, buf }: Slot, { slba, nlb }: { slba: number; nlb: number }) => {
    busy--
    if (!write) await check(ns, pattern, { found: buf, expected, slba, nlb, qid })
  }

  do {
    const pause = performance.now() + SLICE_MS
    do {
      for (const slot of slots) {
        if (slot.iod !== null) {
          const { slba, nlb } = slot.iod
          if (!ns.apoll(slot.iod)) continue
          slot.iod = null
          await finish(slot, { slba, nlb })
        }
        if (next < end) send(slot)
      }
    } while (busy > 0 && performance.now() < pause)
    onProgress((next - slba) * ns.blocksize)
    await setImmediate()
    signal.throwIfAborted()
  } while (busy > 0)
  ns.free(memory)
}

interface Found {
  readonly found: Buffer
  /** Memory for what should be there. */
  readonly expected: Buffer
  readonly slba: number
  readonly nlb: number
  readonly qid: number
}

/** Prints the first block that differs, and throws. */
async function check(
  ns: Namespace,
  pattern: WordPattern,
  { slba, nlb, qid, ...buffers }: Found,
): Promise<void> {
  const { blocksize } = ns
  const found = buffers.found.subarray(0, nlb * blocksize)
  const expected = fillWords(buffers.expected.subarray(0, found.length), pattern, slba * blocksize)
  const at = firstDifference(found, expected)
  if (at < 0) return
  const block = at - (at % blocksize)
  print(`LBA ${slba + block / blocksize}:`)
  printDump(found.subarray(block, block + blocksize), slba * blocksize + block)
  throw wrongByte(ns, found, expected, { slba, qid, at })
}

await program({
  name: 'wrc',
  summary: 'Write a pattern over a namespace, or read and compare, or first the one and then the other',
  details: `The pattern is a word of 64 bits. With an increment, each word of the namespace is greater by that than \
the word before it, from the first word of LBA 0 on: so any part can be compared.`,
  options: {
    write: value('PATTERN', word, 'write it', 'w'),
    read: value('PATTERN', word, 'read, and compare with it', 'r'),
    increment: valueOr('N', word, 0n, 'added from word to word', { short: 'i', fallbackText: '0' }),
    lba: valueOr('LBA', integer(), 0, 'first block', 'a'),
    count: value('N', integer({ min: 1 }), 'blocks; default: to the end', 'n'),
    qcount: valueOr('N', integer({ min: 1, max: 65535 }), 1, 'queues', 'q'),
    depth: valueOr('N', integer({ min: 1, max: 65535 }), 16, 'I/Os in flight on each queue', 'd'),
    maxnlb: value('N', integer({ min: 1 }), 'blocks of one I/O; default: as many as the device takes', 'm'),
  },
  examples: [
    ['0a:00.0 -w 0', 'zeroes everywhere'],
    ['0a:00.0 -w 0 -i 1 -n 4096 -q 4', 'count words in the first 4096 blocks'],
    ['0a:00.0 -r 0 -i 1 -a 100 -n 10', 'check ten of them'],
  ],
  open: ({ qcount, depth }) => ({ qcount, qsize: depth < 64 ? 0 : depth + 1 }),
  quiet: true,
  overwrites: ({ write, count, lba }, ns) =>
    write === undefined ? 0 : (count ?? ns.blockcount - lba) * ns.blocksize,
  async run({ ns, options, signal }) {
    const { write, read, increment, lba, depth, maxnlb: step = ns.maxbpio } = options
    if (write === undefined && read === undefined) {
      throw new UsageError('--write or --read is needed, with a pattern')
    }
    const end = lba + (options.count ?? ns.blockcount - lba)
    if (lba >= end || end > ns.blockcount) {
      throw new OutOfRangeError(`--lba ${lba} --count ${end - lba}: ${ns.device} has ${ns.blockcount} blocks`)
    }
    if (depth > ns.maxiopq) {
      throw new OutOfRangeError(`--depth ${depth}: a queue of ${ns.device} holds ${ns.maxiopq}`)
    }
    if (step > ns.maxbpio) {
      throw new OutOfRangeError(`--maxnlb ${step}: ${ns.device} takes ${ns.maxbpio} blocks in one I/O`)
    }
    const pass = async (write: boolean, first: bigint) => {
      const progress = startProgress(write ? 'write' : 'compare', (end - lba) * ns.blocksize)
      const job = { ns, pattern: { first, increment }, write, slba: lba, end, step, depth, signal }
      await go({ ...job, onProgress: progress.update }).finally(progress.stop)
      print(`${end - lba} blocks from LBA ${lba} on ${write ? 'written' : 'hold the pattern'}`)
    }
    if (write !== undefined) await pass(true, write)
    if (read !== undefined) await pass(false, read)
  },
})
