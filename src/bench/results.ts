// Results in folders, JSON files of `unvme bench -o json` or of fio: read, and laid side by side.
// Fio's keys and nothing else are looked at. What can't be known from them (a percentile of several jobs
// that were reported one by one) is unknown here, too, and never made up.

import fs from 'node:fs'
import path from 'node:path'
import { UsageError } from '../../lib/errors.ts'

/** What was measured, and what came of it. Latencies in nanoseconds, from sending to the end. */
export interface Measured {
  readonly rw: string
  /** Bytes, or fio's own text where that is no single size. */
  readonly bs: number | string
  readonly numjobs: number
  readonly iodepth: number
  readonly target: string
  /** The file, and its job where it has several. */
  readonly source: string
  /** The job's name. */
  readonly name: string
  readonly iops: number | undefined
  /** Bytes in a second. */
  readonly bandwidth: number | undefined
  /** Undefined where no latencies were measured. */
  readonly mean: number | undefined
  /** Of the direction with more I/Os; undefined where there are no percentiles, or several jobs' that can't be joined. */
  readonly p99: number | undefined
  /** What ended it before its time, as fio's `error`: 0 is nothing. */
  readonly error: number
}

/** The same work in each folder; undefined where a folder has none of it. */
export interface Side extends Pick<Measured, 'rw' | 'bs' | 'numjobs' | 'iodepth'> {
  readonly results: readonly (Measured | undefined)[]
  /** True where a folder holds several results of this kind: each has a row of its own. */
  readonly several: boolean
}

interface Latencies {
  mean?: number
  N?: number
  percentile?: Record<string, number>
  bins?: Record<string, number>
}

interface Direction {
  total_ios?: number
  iops?: number
  bw_bytes?: number
  clat_ns?: Latencies
}

type Options = Record<string, string | undefined>

interface Job {
  jobname?: string
  groupid?: number
  error?: number
  'job options'?: Options
  read?: Direction
  write?: Direction
}

interface Report {
  'fio version'?: string
  'global options'?: Options
  jobs?: Job[]
}

/**
 * Every result in a folder, or in one file.
 * @throws UsageError where there is none; what fs throws
 */
export function readResults(place: string): Measured[] {
  const files = fs.statSync(place).isDirectory()
    ? fs
        .readdirSync(place)
        .filter((name) => name.endsWith('.json'))
        .sort()
        .map((name) => path.join(place, name))
    : [place]
  const results = files.flatMap((file) => measured(readReport(file), path.basename(file)))
  if (results.length === 0)
    throw new UsageError(`${place} holds no results: JSON files of unvme bench, or of fio`)
  return results
}

// fio writes its remarks to standard output as well, before the JSON and with other formats around it.
function readReport(file: string): Report {
  const text = fs.readFileSync(file, 'utf8')
  const from = /^\{/m.exec(text)?.index ?? 0
  const to = text.lastIndexOf('\n}')
  try {
    const report: unknown = JSON.parse(to > from ? text.slice(from, to + 2) : text.slice(from))
    return typeof report === 'object' && report !== null ? report : {}
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error
    throw new UsageError(`${file} is no JSON: ${error.message}`, { cause: error })
  }
}

/** A report's results, one for each section (job description); none where it is something else. */
function measured({ jobs, 'global options': common = {}, ...report }: Report, file: string): Measured[] {
  if (!Array.isArray(jobs)) return []
  const isFio = report['fio version']?.startsWith('unvme') !== true
  const sections = sectionsOf(jobs, common)
  return sections.map((entries) => {
    const [first] = entries
    const options = { ...common, ...first!['job options'] }
    const { rw = 'read', filename = '' } = options
    const name = first!.jobname ?? ''
    const directions = entries.flatMap(({ read = {}, write = {} }) => [read, write])
    return {
      ...{ rw: rw === 'readwrite' ? 'rw' : rw, bs: blockSize(options, isFio), iodepth: depthOf(options) },
      // One entry stands for all jobs of its section where they were reported together.
      numjobs: Math.max(entries.length, Number(options.numjobs ?? 1)),
      ...{ target: filename, name, source: sections.length > 1 && name ? `${file}: ${name}` : file },
      iops: sum(directions, ({ iops }) => iops),
      bandwidth: sum(directions, ({ bw_bytes }) => bw_bytes),
      mean: meanOf(directions),
      p99: p99Of(entries),
      error: entries.find(({ error = 0 }) => error !== 0)?.error ?? 0,
    }
  })
}

/** The entries of each section: those of its jobs follow one another, and have the same name and options. */
function sectionsOf(jobs: readonly Job[], common: Options): Job[][] {
  const sections: Job[][] = []
  let before = ''
  for (const job of jobs) {
    const own = job['job options'] ?? {}
    const same = JSON.stringify([job.jobname, job.groupid, own])
    const numjobs = own.numjobs ?? common.numjobs
    const open = sections.at(-1)
    if (open !== undefined && same === before && (numjobs === undefined || open.length < Number(numjobs))) {
      open.push(job)
    } else {
      sections.push([job])
    }
    before = same
  }
  return sections
}

const FIO_BYTES: Readonly<Record<string, number>> = { '': 0, k: 1, m: 2, g: 3, t: 4, p: 5 }

/**
 * fio's sizes: `4k`, `4kb` and `4096b` are in 1024s and `4kib` in 1000s, unless kb_base is 1000, where it is the other
 * way round. Several sizes (`4k,8k`, `4k-16k`) stay what they are.
 */
function blockSize({ bs = '4096', kb_base }: Options, isFio: boolean): number | string {
  if (!isFio) return /^\d+$/.test(bs) ? Number(bs) : bs
  const parts = /^(\d+)(?:([kmgtp])(i)?)?b?$/i.exec(bs)
  if (parts === null) return bs
  const inverted = (parts[3] !== undefined) === (kb_base !== '1000')
  const bytes = Number(parts[1]) * (inverted ? 1000 : 1024) ** FIO_BYTES[(parts[2] ?? '').toLowerCase()]!
  return Number.isSafeInteger(bytes) ? bytes : bs
}

/** fio's engines that do one I/O at a time, whatever depth was asked for. */
const ONE_AT_A_TIME = new Set(['sync', 'psync', 'vsync', 'pvsync', 'pvsync2', 'mmap'])

function depthOf({ iodepth = '1', ioengine }: Options): number {
  return ioengine !== undefined && ONE_AT_A_TIME.has(ioengine) ? 1 : Number(iodepth)
}

function sum(directions: readonly Direction[], of: (direction: Direction) => number | undefined) {
  const known = directions.map(of).filter((value) => value !== undefined)
  return known.length === 0 ? undefined : known.reduce((a, b) => a + b)
}

const iosOf = ({ total_ios = 0 }: Direction) => total_ios

/** Of every I/O whose latency was measured. */
function meanOf(directions: readonly Direction[]): number | undefined {
  let count = 0
  let total = 0
  for (const direction of directions) {
    const { mean, N = iosOf(direction) } = direction.clat_ns ?? {}
    if (mean === undefined || N === 0) continue
    count += N
    total += N * mean
  }
  return count === 0 ? undefined : total / count
}

/** Of the direction with more I/Os: as reported by one job, or from all jobs' bins (fio's json+). */
function p99Of(entries: readonly Job[]): number | undefined {
  const ios = (way: 'read' | 'write') => entries.reduce((total, job) => total + iosOf(job[way] ?? {}), 0)
  const way = ios('write') > ios('read') ? 'write' : 'read'
  const parts = entries.map((job) => job[way] ?? {}).filter((direction) => iosOf(direction) > 0)
  if (parts.length === 1) return parts[0]!.clat_ns?.percentile?.['99.000000']
  const bins = new Map<number, number>()
  for (const { clat_ns } of parts) {
    const own = Object.entries(clat_ns?.bins ?? {})
    if (own.length === 0) return undefined
    for (const [ns, count] of own) bins.set(Number(ns), (bins.get(Number(ns)) ?? 0) + count)
  }
  const ordered = [...bins].sort(([a], [b]) => a - b)
  const rank = Math.ceil(ordered.reduce((total, [, count]) => total + count, 0) * 0.99)
  let seen = 0
  for (const [ns, count] of ordered) {
    seen += count
    if (seen >= rank) return ns
  }
  return undefined
}

/**
 * The results of several folders side by side, ordered by what was measured. Where a folder has several of a kind,
 * each has a row; those of the same name stand in the same row, others in their order.
 */
export function sideBySide(folders: readonly (readonly Measured[])[]): Side[] {
  const kinds = new Map<string, (Measured | undefined)[][]>()
  folders.forEach((results, at) => {
    for (const one of results) {
      const { rw, bs, numjobs, iodepth } = one
      const key = [rw, bs, numjobs, iodepth].join()
      const rows = kinds.get(key) ?? []
      kinds.set(key, rows)
      const free = rows.filter((row) => row[at] === undefined)
      const row = free.find((row) => row.some((other) => isNamesake(one, other))) ?? free[0]
      if (row !== undefined) row[at] = one
      else rows.push(folders.map((_, folder) => (folder === at ? one : undefined)))
    }
  })
  const sides = [...kinds.values()].flatMap((rows) =>
    rows.map((results): Side => {
      const { rw, bs, numjobs, iodepth } = results.find((one) => one !== undefined)!
      return { ...{ rw, bs, numjobs, iodepth }, results, several: rows.length > 1 }
    }),
  )
  return sides.sort(
    (a, b) =>
      a.rw.localeCompare(b.rw) ||
      Number(a.bs) - Number(b.bs) ||
      a.numjobs - b.numjobs ||
      a.iodepth - b.iodepth,
  )
}

function isNamesake(one: Measured, other: Measured | undefined): boolean {
  return other !== undefined && one.name !== '' && one.name === other.name
}
