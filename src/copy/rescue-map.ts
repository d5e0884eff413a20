// Which bytes of a copy are done, bad or left, in the format of GNU ddrescue's map files, so that its tools read it and a
// copy that was begun with one program goes on with the other. A comment says what was copied where.

import { open, readFile, stat } from 'node:fs/promises'
import path from 'node:path'
import { ArgumentValueError, DecodeError } from '../../lib/errors.ts'
import { nextFile } from '../../lib/sys/file.ts'
import { RangeSet } from './extents.ts'

/** What a map is of: a copy of something else does not go on with it. */
export type MapIdentity = Readonly<Record<string, string | number | undefined>>

export interface RescueMap {
  readonly done: RangeSet
  readonly bad: RangeSet
  /** Bytes up to the end of the last range. */
  readonly bytes: number
  /** Of maps that are this package's own. */
  readonly identity: MapIdentity | undefined
}

const OWN = '# unvme: '
const STATUSES = '?*/-+'
const hex = (n: number) => `0x${n.toString(16).toUpperCase().padStart(8, '0')}`

/** @throws DecodeError, with the line */
export function parseRescueMap(text: string, name: string): RescueMap {
  const done = new RangeSet()
  const bad = new RangeSet()
  let identity: MapIdentity | undefined
  let end = 0
  let sawStatus = false
  const fail = (line: number, what: string) => {
    throw new DecodeError(`${name}, line ${line + 1}: ${what}`)
  }
  for (const [at, whole] of text.split('\n').entries()) {
    if (whole.startsWith(OWN)) {
      try {
        identity = JSON.parse(whole.slice(OWN.length))
      } catch (error) {
        throw new DecodeError(`${name}, line ${at + 1}: no JSON`, { cause: error })
      }
    }
    const words = whole.replace(/#.*/, '').trim().split(/\s+/)
    if (words[0] === '') continue
    if (!sawStatus) {
      // Where ddrescue was, what it did, and in which pass.
      if (words.length < 2 || !/^[?*/\-FG+]$/.test(words[1]!)) fail(at, 'no status line of a map file')
      sawStatus = true
      continue
    }
    const [from, bytes] = [Number(words[0]), Number(words[1])]
    const status = words[2] ?? ''
    if (words.length !== 3 || status.length !== 1 || !STATUSES.includes(status))
      fail(at, 'no range of a map file')
    if (!Number.isSafeInteger(from + bytes) || from < end || bytes <= 0) fail(at, 'a range that can not be')
    end = from + bytes
    if (status === '+') done.add(from, end)
    if (status === '-') bad.add(from, end)
  }
  if (!sawStatus) fail(0, 'no status line of a map file')
  return { done, bad, bytes: end, identity }
}

/** @param bytes of the whole copy; where that is not known, up to the last range */
export function formatRescueMap(
  done: RangeSet,
  bad: RangeSet,
  bytes: number | undefined,
  identity: MapIdentity,
): string {
  const rows: [from: number, to: number, status: string][] = []
  const add = (from: number, to: number, status: string) => {
    const last = rows.at(-1)
    if (last !== undefined && last[2] === status && last[1] === from) last[1] = to
    else rows.push([from, to, status])
  }
  const lastOf = (set: RangeSet) => [...set].at(-1)?.[1] ?? 0
  const end = bytes ?? Math.max(lastOf(done), lastOf(bad))
  for (const part of bad.split(0, end)) {
    if (part.inside) add(part.from, part.to, '-')
    else for (const { from, to, inside } of done.split(part.from, part.to)) add(from, to, inside ? '+' : '?')
  }
  const left = rows.find(([, , status]) => status === '?')
  return [
    '# Mapfile. Created by unvme copy',
    `${OWN}${JSON.stringify(identity)}`,
    '# current_pos  current_status  current_pass',
    `${hex(left?.[0] ?? 0)}     ${left === undefined ? '+' : '?'}               1`,
    '#      pos        size  status',
    ...rows.map(([from, to, status]) => `${hex(from)}  ${hex(to - from)}  ${status}`),
    '',
  ].join('\n')
}

// Comments, then the place and the state that ddrescue was in; or what a killed copy has left of a map.
const HEAD = /^# Mapfile\. Created by unvme|^(#.*\n|\s*\n)*(0x[0-9a-f]+|\d+)\s+[?*/\-FG+]/i
const HEAD_BYTES = 4096

/**
 * Makes sure that a map may be written there: the file is a map, empty, or not there, and not the target. So is the one that
 * takes its place.
 * @throws ArgumentValueError
 */
export async function checkMapFile(file: string, target: string): Promise<void> {
  for (const name of [file, nextFile(file)]) await checkReplaced(name, target)
}

async function checkReplaced(file: string, target: string): Promise<void> {
  if (path.resolve(file) === path.resolve(target)) {
    throw new ArgumentValueError(`copy: ${file} is what is written, and can not be its own map`)
  }
  const stats = await stat(file).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw error
  })
  if (stats === undefined || (stats.isFile() && stats.size === 0)) return
  const isMap = async () => {
    const handle = await open(file)
    try {
      const { buffer, bytesRead } = await handle.read(Buffer.alloc(HEAD_BYTES))
      return HEAD.test(buffer.toString('latin1', 0, bytesRead))
    } finally {
      await handle.close()
    }
  }
  if (stats.isFile() && (await isMap())) return
  throw new ArgumentValueError(`copy: ${file} is no map of a copy, and would be replaced by one`)
}

/** Undefined where there is no such file. */
export async function readRescueMap(file: string): Promise<RescueMap | undefined> {
  const text = await readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw error
  })
  return text === undefined ? undefined : parseRescueMap(text, file)
}
