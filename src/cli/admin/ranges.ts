// I/O commands on a range of blocks, split into as many commands as it takes, with progress.
// Trade-off: one command after the other: what each of them does takes the device far longer than it takes to send.

import { setImmediate as turn } from 'node:timers/promises'
import { NvmeError, OutOfRangeError, UnsupportedError, UsageError } from '../../../lib/errors.ts'
import { NVM } from '../../../lib/nvme/spec/opcodes.ts'
import { throwIfAborted } from '../../../lib/sys/abort.ts'
import { high32 } from '../../../lib/sys/int64.ts'
import type { Namespace } from '../../index.ts'
import { checkAtEnd, type DataFile } from '../data.ts'
import { flag, valueOr } from '../define.ts'
import { blockCount, integer } from '../parse.ts'
import { withProgress } from '../transfer.ts'

// NLB has 16 bits, and is zero-based.
const MOST_BLOCKS = 65536
/** Dword 12 of the NVM command set's I/O commands: limited retry, force unit access, deallocate. */
const LIMITED_RETRY = 2 ** 31
const FORCE_UNIT_ACCESS = 2 ** 30
const DEALLOCATE = 2 ** 25

export interface Range {
  slba: number
  nlb: number
}

/** `-s`, `-c`: which blocks. */
export const rangeOptions = () => ({
  startBlock: valueOr('LBA', integer(), 0, 'first block', { short: 's', also: ['--slba'] }),
  blockCount: valueOr(
    'N',
    blockCount,
    1,
    'number of blocks (one-based, where nvme-cli has 0 for one block)',
    {
      short: 'c',
      also: ['--nlb'],
    },
  ),
})

const NO_PROTECTION = 'unvme sends no tags and checks of protection information with this command'

/** Options of nvme-cli's I/O commands on a range that unvme can't send. */
export const REFUSED_PROTECTION = {
  '-p, --prinfo <N>': NO_PROTECTION,
  '-r, --ref-tag <N>': NO_PROTECTION,
  '-a, --app-tag <N>': NO_PROTECTION,
  '-m, --app-tag-mask <N>': NO_PROTECTION,
  '-C, --storage-tag-check': NO_PROTECTION,
} as const

/** Those of commands without data. */
export const REFUSED_WITHOUT_DATA = { ...REFUSED_PROTECTION, '-S, --storage-tag <N>': NO_PROTECTION } as const

export const NO_METADATA = 'unvme has no metadata of its own for a command'
const NO_DIRECTIVE = 'unvme sends no directives and hints with this command: see unvme io-passthru'

/** Those of commands with data. */
export const REFUSED_WITH_DATA = {
  ...REFUSED_PROTECTION,
  '-g, --storage-tag <N>': NO_PROTECTION,
  '--metadata-size <SIZE>': NO_METADATA,
  '-M, --metadata <FILE>': NO_METADATA,
  '-T, --dir-type <N>': NO_DIRECTIVE,
  '-S, --dir-spec <N>': NO_DIRECTIVE,
  '-D, --dsm <N>': NO_DIRECTIVE,
  '-w, --dry-run': 'what is moved may be many commands: see unvme io-passthru',
  '-v, --show-command': 'what is moved may be many commands: see unvme io-passthru',
  '-V': 'what is moved may be many commands (--show-command): see unvme io-passthru',
} as const

/** `-l`, `-f`: how hard to try, and whether the cache counts. */
export const accessOptions = () => ({
  limitedRetry: flag('limited effort to read or write', 'l'),
  forceUnitAccess: flag('from or to the medium, not the cache', 'f'),
})

export function accessBits(options: {
  limitedRetry: boolean
  forceUnitAccess: boolean
  deac?: boolean
}): number {
  const { limitedRetry, forceUnitAccess, deac = false } = options
  return (
    (limitedRetry ? LIMITED_RETRY : 0) + (forceUnitAccess ? FORCE_UNIT_ACCESS : 0) + (deac ? DEALLOCATE : 0)
  )
}

/** `LBA 8`, `LBA 8 to 15`. */
export function rangeText({ slba, nlb }: Range): string {
  return nlb === 1 ? `LBA ${slba}` : `LBA ${slba} to ${slba + nlb - 1}`
}

/** Throws OutOfRangeError for a range that passes the namespace's end. */
export function checkFits(ns: Namespace, range: Range): void {
  if (range.slba + range.nlb <= ns.blockcount) return
  throw new OutOfRangeError(
    `${rangeText(range)} passes the end of namespace ${ns.id}: it has ${ns.blockcount} blocks`,
  )
}

/** How commands for a range are sent. */
export interface SendOptions {
  /** For the line of progress. */
  what: string
  /** Of dword 12. */
  bits: number
  /** Ends it between two commands, with AbortError. */
  signal: AbortSignal
}

/**
 * Sends `opcode`, which carries no data, for all blocks of a range. Rejects with the NvmeError of the first command
 * that failed, which tells its blocks.
 */
export async function sendRange(
  ns: Namespace,
  opcode: typeof NVM.WRITE_ZEROES | typeof NVM.VERIFY,
  { slba, nlb }: Range,
  { what, bits, signal }: SendOptions,
): Promise<void> {
  checkFits(ns, { slba, nlb })
  await withProgress(what, nlb * ns.blocksize, async (onProgress) => {
    for (let at = 0; at < nlb; at += MOST_BLOCKS) {
      await checkSignal(signal)
      const part = { slba: slba + at, nlb: Math.min(MOST_BLOCKS, nlb - at) }
      await sendPart(ns, opcode, part, bits, undefined)
      onProgress((at + part.nlb) * ns.blocksize)
    }
  })
}

/**
 * Compares blocks from `slba` on with data, which is read as it is needed.
 * @param bytes of the data that there must be, or undefined: all that there are
 * @param whole whether that must be all of the data
 * @returns the range that is equal
 * @throws NvmeError of the first command that failed, which tells its blocks; UsageError for a length that the data
 * does not have, or that is no whole number of blocks
 */
export async function compareRange(
  ns: Namespace,
  slba: number,
  data: DataFile,
  { bytes = data.size, whole }: { bytes: number | undefined; whole: boolean },
  { what, bits, signal }: SendOptions,
): Promise<Range> {
  if (bytes !== undefined) {
    checkBlocks(ns, bytes)
    checkFits(ns, { slba, nlb: bytes / ns.blocksize })
    if (data.size !== undefined && data.size < bytes) throw tooShort(data.size, bytes)
  }
  const most = Math.min(ns.maxbpio * ns.blocksize, bytes ?? Infinity)
  const buf = ns.alloc(most)
  return withProgress(what, bytes, async (onProgress) => {
    let done = 0
    while (done !== bytes) {
      await checkSignal(signal)
      const wanted = Math.min(most, (bytes ?? Infinity) - done)
      const filled = await data.fill(buf.subarray(0, wanted))
      const end = done + filled
      if (bytes !== undefined && filled < wanted) throw tooShort(end, bytes)
      if (end === bytes && whole) await checkAtEnd(data, bytes)
      if (filled < wanted) checkBlocks(ns, end)
      if (filled === 0) break
      const part = { slba: slba + done / ns.blocksize, nlb: filled / ns.blocksize }
      checkFits(ns, part)
      await sendPart(ns, NVM.COMPARE, part, bits, buf.subarray(0, filled))
      done = end
      onProgress(done)
    }
    return { slba, nlb: done / ns.blocksize }
  })
}

function tooShort(bytes: number, wanted: number): UsageError {
  return new UsageError(`the data has ${bytes} bytes, of ${wanted}`)
}

function checkBlocks({ blocksize }: Namespace, bytes: number): void {
  if (bytes > 0 && bytes % blocksize === 0) return
  throw new UsageError(`${bytes} bytes of data are no whole number of blocks of ${blocksize} bytes`)
}

/** Lets signals in, which a software controller of this process would keep out, and throws AbortError for one. */
async function checkSignal(signal: AbortSignal): Promise<void> {
  await turn()
  throwIfAborted(signal)
}

/** A command whose dwords are given has no pointer to metadata, and a device would read or write it at address 0. */
export function refuseMetadata(ns: Namespace): void {
  if (ns.geometry.metadataBytes === 0) return
  throw new UnsupportedError(
    `namespace ${ns.id} has ${ns.geometry.metadataBytes} bytes of metadata for each block, which this command can't give`,
  )
}

async function sendPart(
  ns: Namespace,
  opcode: number,
  { slba, nlb }: Range,
  bits: number,
  buf: Buffer | undefined,
): Promise<void> {
  // Without bits of its own it is a call of the driver, which knows what goes with metadata.
  if (bits === 0 && buf) return void (await ns.promises.compare(buf, slba, nlb))
  if (bits === 0 && opcode === NVM.WRITE_ZEROES) return ns.promises.writeZeroes(slba, nlb)
  if (bits === 0) return ns.promises.verify(slba, nlb)
  if (buf) refuseMetadata(ns)
  const { flags } = ns.geometry
  const cdw12 = ((buf ? bits | flags : bits) | (nlb - 1)) >>> 0
  const dwords = { cdw10: slba >>> 0, cdw11: high32(slba) >>> 0, cdw12 }
  try {
    await ns.promises.cmd({ opcode, ...dwords, ...(buf && { buf }) })
  } catch (error) {
    // A command of any kind is not known to have a range.
    throw error instanceof NvmeError ? new NvmeError({ ...error, slba, nlb }) : error
  }
}
