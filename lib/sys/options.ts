// Options of public calls: a name that a call does not have is an error, and not ignored.
// Each call has a list of its names beside the type of its options, which the compiler holds to be the same.

import { ArgumentTypeError, ArgumentValueError } from '../errors.ts'

/** Every name of the options `T`. */
export type OptionNames<T> = { readonly [Name in keyof Required<T>]: true }

/**
 * Throws ArgumentTypeError for options that are no object, and ArgumentValueError for one that is not among the names,
 * with the nearest that is. An option that is `undefined` counts as absent.
 * @param what the message calls one
 */
export function checkOptionNames(
  call: string,
  options: unknown,
  names: Readonly<Record<string, true>>,
  what = 'option',
): void {
  if (typeof options !== 'object' || options === null) {
    const received = options === null ? 'null' : `${typeof options} ${String(options).slice(0, 40)}`
    throw new ArgumentTypeError(`${call}: ${what}s must be an object, received ${received}`)
  }
  for (const name in options) {
    if (Object.hasOwn(names, name) || (options as Record<string, unknown>)[name] === undefined) continue
    const known = Object.keys(names)
    const nearest = nearestOf(name, known)
    const hint = nearest === null ? `there are: ${known.join(', ')}` : `did you mean '${nearest}'?`
    throw new ArgumentValueError(`${call}: there is no ${what} '${name.slice(0, 40)}'; ${hint}`)
  }
}

// What the same thing is called elsewhere (fs, dd, fio, nvme-cli), and here, where a call has it.
const ELSEWHERE: Readonly<Record<string, readonly string[]>> = {
  start: ['slba'],
  offset: ['start', 'slba'],
  position: ['start', 'slba'],
  lba: ['slba'],
  skip: ['slba'],
  seek: ['dstSlba', 'slba'],
  end: ['nlb', 'bytes'],
  blocks: ['nlb'],
  count: ['nlb', 'bytes'],
  length: ['bytes', 'nlb'],
  size: ['bytes', 'nlb'],
  queue: ['qid', 'qids', 'qcount'],
  queues: ['qcount', 'qids', 'qid'],
  queueDepth: ['depth', 'qsize'],
  iodepth: ['depth', 'qsize'],
  bs: ['chunk', 'highWaterMark'],
  blocksize: ['chunk', 'highWaterMark'],
  chunkSize: ['chunk', 'highWaterMark'],
  highWaterMark: ['chunk'],
  chunk: ['highWaterMark'],
  concurrency: ['parallel', 'depth', 'jobs'],
  numjobs: ['jobs'],
  workers: ['jobs'],
  namespace: ['nsid'],
  namespaceId: ['nsid'],
  abortSignal: ['signal'],
  progress: ['onProgress'],
}

function nearestOf(name: string, known: readonly string[]): string | null {
  const meant = Object.hasOwn(ELSEWHERE, name) ? ELSEWHERE[name]!.find((word) => known.includes(word)) : null
  if (meant) return meant
  // An abbreviation.
  const longer = name.length > 1 ? known.find((word) => word.startsWith(name)) : undefined
  if (longer !== undefined) return longer
  const ranked = known
    .map((word) => ({ word, distance: distanceOf(name.toLowerCase(), word.toLowerCase()) }))
    .sort((a, b) => a.distance - b.distance)
  const first = ranked[0]
  // A word that shares less than half with it is no likely meaning.
  return first !== undefined && first.distance <= Math.max(1, name.length / 2) ? first.word : null
}

/** Letters to insert, remove, replace or exchange with their neighbour (Damerau and Levenshtein's distance). */
function distanceOf(a: string, b: string): number {
  if (a.length > 40) return a.length
  let before: number[] = []
  let last = Array.from({ length: b.length + 1 }, (_, j) => j)
  for (let i = 1; i <= a.length; i++) {
    const row = [i]
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1]
      let least = Math.min(last[j]! + 1, row[j - 1]! + 1, last[j - 1]! + (same ? 0 : 1))
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        least = Math.min(least, before[j - 2]! + 1)
      }
      row.push(least)
    }
    before = last
    last = row
  }
  return last[b.length]!
}
