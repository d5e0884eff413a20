// What `copy`, `read` and `write` share beside `transfer.ts`: options for images, progress of several targets, and what is said
// of a copy at its end, or where it was ended.

import fs from 'node:fs'
import { AbortError, NvmeError } from '../../lib/errors.ts'
import { COMPRESSIONS, SPARSE } from '../copy/choices.ts'
import type { PlannedCopy } from '../copy/copy.ts'
import type { CopyReport, CopyResult, CopyTarget, Endpoint } from '../copy/endpoint.ts'
import { choice, flag, unflag, value } from './define.ts'
import { bytesText, note, print } from './output.ts'
import { choiceParser } from './parse.ts'
import { type ReportOutput, startReports } from './progress.ts'
import { resultText } from './transfer.ts'

/** Exit code of a copy that went on past blocks that could not be read or written. */
export const EXIT_BAD_BLOCKS = 3
// Of bad ranges that are printed: the map has all.
const MOST_BAD = 10

export const CONTENT = `A source that is compressed by gzip, zstd, xz, bzip2 or lz4 is decompressed, by what it holds and not by its \
name. A block map (.bmap) and a checksum (.sha256) beside it are heeded.`

export const sparseOption = () =>
  choice(SPARSE, 'zeroes: auto makes 64k and more of them without sending them, always 4k, never sends all')
export const rawOption = () => flag('take a compressed source as the bytes that it is')
export const besideOption = () => unflag('do not heed a block map or a checksum beside the source')
export const compressOption = () =>
  value(COMPRESSIONS.join('|'), choiceParser(COMPRESSIONS), 'compress what is written to a file')
/** `--progress` and `--quiet`. */
export const progressOptions = () => ({
  progress: flag('show progress without a terminal, too: a line every ten seconds'),
  quiet: flag('show no progress', 'q'),
})

interface ShownOptions {
  progress: boolean
  quiet: boolean
  output?: string
}

/** Does something and shows how far it is, in the way that was asked for. */
export async function withReports<T>(
  what: string,
  bytes: number | undefined,
  { progress, quiet, output }: ShownOptions,
  work: (how: { onReport(report: CopyReport): void }) => Promise<T>,
): Promise<T> {
  const how: ReportOutput = quiet ? 'none' : output === 'jsonl' ? 'json' : progress ? 'lines' : 'terminal'
  const reports = startReports(what, bytes, how, { jsonLine: print })
  try {
    return await work({ onReport: reports.update })
  } finally {
    reports.stop()
  }
}

/** `disk.img.xz (xz)`. */
export function sourceText({ source, format }: PlannedCopy): string {
  return format === undefined ? source.name : `${source.name} (${format})`
}

/** Says which files beside the source count, and what was done before. */
export function noteBeside({ bmap, sidecar, resumed }: PlannedCopy, quiet: boolean): void {
  if (quiet) return
  if (bmap !== undefined) note(`block map: ${bmap}`)
  if (sidecar !== undefined && sidecar !== 'sha256') note(`checksum: ${sidecar}`)
  if (resumed > 0) note(`${bytesText(resumed)} were written before`)
}

/** As `resultText`, with what did not have to be read and written. */
export function copiedText(result: { bytes: number; seconds: number } & Partial<CopyResult>): string {
  const { bytes, read, written, skipped } = result
  const text = resultText(result)
  if (read === undefined || written === undefined || (!skipped && read === bytes && written === bytes))
    return text
  return `${text}; ${bytesText(read)} read, ${bytesText(written)} written, ${bytesText(skipped ?? 0)} skipped`
}

/** What one of several targets has. */
export function targetText({ name, bytes, written, error }: CopyTarget): string {
  return `${name}: ${error ? `failed after ${bytesText(bytes)}: ${error.message}` : `${bytesText(written)} written`}`
}

/** The first blocks that failed, and how much failed. */
export function badTexts({ bad }: CopyResult, { ns, slba, blocksize }: Endpoint): string[] {
  if (bad.length === 0) return []
  const sum = bad.reduce((bytes, range) => bytes + range.bytes, 0)
  const lines = bad.slice(0, MOST_BAD).map(({ at, bytes, side, error }) => {
    const place = ns === null || side === 'write' ? `byte ${at}` : `LBA ${slba + at / blocksize}`
    const why = error instanceof NvmeError ? error.statusName : error.message
    return `  ${place}, ${bytes} bytes: ${side} failed: ${why}`
  })
  const more = bad.length > MOST_BAD ? [`  and ${bad.length - MOST_BAD} more`] : []
  return [`${bytesText(sum)} in ${bad.length} ranges could not be read or written:`, ...lines, ...more]
}

/** For JSON: errors by their message. */
export function copyJson(result: CopyResult) {
  const { bytes, seconds, bad, targets, ...rest } = result
  const plain = <T extends { error?: Error }>({ error, ...other }: T) => ({
    ...other,
    ...(error && { error: error.message }),
  })
  const withoutData = targets.map(({ difference: _, ...target }) => plain(target))
  const rate = { bytes, seconds, bytesPerSecond: Math.round(bytes / seconds) }
  return { ...rate, ...rest, bad: bad.map(plain), targets: withoutData }
}

/** Where the map of each target is written when the copy is ended, by default; undefined where none of them could go on. */
export function mapsBeside(targets: readonly Endpoint[]): (string | undefined)[] | undefined {
  const maps = targets.map(mapBeside)
  return maps.some((map) => map !== undefined) ? maps : undefined
}

function mapBeside(target: Endpoint): string | undefined {
  if (!target.rereadable) return undefined
  if (target.ns === null && !target.hardware) return `${target.name}.unvme-map`
  const image = /^sim:([^?]+)/.exec(target.name)?.[1]
  if (image !== undefined) return `${image}.unvme-map`
  // The memory of a software controller is gone with the command.
  if (target.name.startsWith('sim:')) return undefined
  return `unvme-${target.name.replace(/[^\w.-]+/g, '_')}.unvme-map`
}

type Maps = readonly (string | undefined)[]

const goesOn = (maps: Maps) => {
  const there = maps.filter((map) => map !== undefined && fs.existsSync(map))
  return there.length > 0 ? `--resume goes on (${there.join(', ')})` : undefined
}

/** Says how far a copy came that was ended, or failed, each target of several, and how to go on. */
export function noteEnd(
  { bytes, targets }: PlannedCopy,
  maps: Maps,
  error: unknown,
  report: CopyReport | undefined,
): void {
  const goOn = goesOn(maps)
  const bytesWritten =
    error instanceof AbortError || error instanceof NvmeError ? error.bytesWritten : undefined
  // Others say it themselves, or do not know it.
  if (bytesWritten === undefined || (bytesWritten === 0 && error instanceof NvmeError)) {
    if (goOn !== undefined) note(goOn)
    return
  }
  const [target] = targets
  const { ns, slba, blocksize } = target!
  const place =
    ns === null || bytesWritten === 0 ? '' : `, up to LBA ${slba + Math.ceil(bytesWritten / blocksize) - 1}`
  const whole = bytes === undefined ? '' : ` of ${bytesText(bytes)}`
  note(`${bytesText(bytesWritten)}${whole} written${place}${goOn === undefined ? '' : `; ${goOn}`}`)
  if (targets.length < 2 || report === undefined) return
  for (const { name, bytes } of report.targets) note(`  ${name}: ${bytesText(bytes)} written`)
}

/** Says how targets go on that have failed while others came to their end. */
export function noteFailed({ targets }: CopyResult, maps: Maps): void {
  const goOn = goesOn(maps.filter((_, at) => targets[at]?.error !== undefined))
  if (targets.length > 1 && goOn !== undefined) note(`${goOn}, with its target alone`)
}
