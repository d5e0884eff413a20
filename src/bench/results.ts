// Results in folders, one JSON file of `unvme bench -o json` for each: read, and laid side by side.
// Trade-off: fio's keys and nothing else are looked at, so that a folder of fio's own results will do as well.

import fs from 'node:fs'
import path from 'node:path'
import { UsageError } from '../../lib/errors.ts'

/** What was measured, and what came of it. Latencies in nanoseconds, from sending to the end. */
export interface Measured {
  readonly rw: string
  readonly bs: string
  readonly numjobs: number
  readonly iodepth: number
  readonly target: string
  readonly iops: number
  /** Bytes in a second. */
  readonly bandwidth: number
  readonly mean: number
  /** Of the direction with more I/Os; undefined where there are no percentiles. */
  readonly p99: number | undefined
}

/** The same work in each folder; undefined where a folder has none of it. */
export interface Side {
  readonly rw: string
  readonly bs: string
  readonly numjobs: number
  readonly iodepth: number
  readonly results: readonly (Measured | undefined)[]
}

interface Direction {
  total_ios?: number
  iops?: number
  bw_bytes?: number
  clat_ns?: { mean?: number; percentile?: Record<string, number> }
}

interface Job {
  'job options'?: Record<string, string>
  read?: Direction
  write?: Direction
}

interface Report {
  'global options'?: Record<string, string>
  jobs?: Job[]
}

/** Every result in a folder. @throws UsageError where there is none; what fs throws */
export function readResults(folder: string): Measured[] {
  const results = fs
    .readdirSync(folder)
    .filter((name) => name.endsWith('.json'))
    .flatMap((name) => measured(readReport(path.join(folder, name))))
  if (results.length === 0)
    throw new UsageError(`${folder} holds no results: JSON files of unvme bench, or of fio`)
  return results
}

function readReport(file: string): Report {
  try {
    const report: unknown = JSON.parse(fs.readFileSync(file, 'utf8'))
    return typeof report === 'object' && report !== null ? report : {}
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error
    throw new UsageError(`${file} is no JSON: ${error.message}`, { cause: error })
  }
}

/** A report's result, its jobs together; none where it is something else. */
function measured({ jobs, 'global options': common }: Report): Measured[] {
  if (!Array.isArray(jobs) || jobs.length === 0) return []
  const options = { ...common, ...jobs[0]!['job options'] }
  const directions = jobs.flatMap(({ read = {}, write = {} }) => [read, write])
  const sum = (of: (direction: Direction) => number) => directions.reduce((total, one) => total + of(one), 0)
  const ios = sum(({ total_ios = 0 }) => total_ios)
  const weighted = sum(({ total_ios = 0, clat_ns }) => total_ios * (clat_ns?.mean ?? 0))
  const most = directions.reduce((a, b) => ((b.total_ios ?? 0) > (a.total_ios ?? 0) ? b : a))
  const { rw = 'read', bs = '4096', iodepth = '1', numjobs = '1', filename = '' } = options
  return [
    {
      ...{ rw, bs: bs.toLowerCase() === '4k' ? '4096' : bs, target: filename },
      ...{ numjobs: Number(numjobs), iodepth: Number(iodepth) },
      iops: sum(({ iops = 0 }) => iops),
      bandwidth: sum(({ bw_bytes = 0 }) => bw_bytes),
      mean: ios === 0 ? 0 : weighted / ios,
      p99: most.clat_ns?.percentile?.['99.000000'],
    },
  ]
}

/** The results of several folders side by side, ordered by what was measured. */
export function sideBySide(folders: readonly (readonly Measured[])[]): Side[] {
  const rows = new Map<string, Side & { results: (Measured | undefined)[] }>()
  folders.forEach((results, at) => {
    for (const one of results) {
      const { rw, bs, numjobs, iodepth } = one
      const key = [rw, bs, numjobs, iodepth].join()
      const row = rows.get(key) ?? { rw, bs, numjobs, iodepth, results: folders.map(() => undefined) }
      row.results[at] = one
      rows.set(key, row)
    }
  })
  return [...rows.values()].sort(
    (a, b) =>
      a.rw.localeCompare(b.rw) ||
      Number(a.bs) - Number(b.bs) ||
      a.numjobs - b.numjobs ||
      a.iodepth - b.iodepth,
  )
}
