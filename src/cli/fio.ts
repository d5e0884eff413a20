// fio's own words for `unvme bench`: spellings with underscores, other names of an option, `--flag=1`, and options
// whose meaning is settled here. What would change what is measured is refused or said, never dropped.

import { ArgumentTypeError, UsageError } from '../../lib/errors.ts'
import { decimal } from './parse.ts'

/** Other names of options. */
const ALIASES: Readonly<Record<string, string>> = { blocksize: 'bs', readwrite: 'rw' }

/** Options that are on without a value. */
const SWITCHES = new Set(['direct', 'group-reporting', 'randrepeat', 'time-based'])

/** Options without a value here, which fio also takes as `=1` and `=0`. */
const FLAGS = new Set(['gtod-reduce', 'norandommap', 'readonly', 'thread'])

/** Those of both that take the next word where it is 0 or 1, as fio's getopt takes it. */
const TAKE_NEXT = new Set([...SWITCHES, 'gtod-reduce'])

/**
 * fio's words as this program's: `--ramp_time=5` as `--ramp-time=5`, `--direct` and `--direct 1` as `--direct=1`. What
 * is no option stays as it was written, for the error that says so.
 */
export function fromFio(words: readonly string[], isOption: (name: string) => boolean): string[] {
  const end = words.indexOf('--')
  const options = end < 0 ? words : words.slice(0, end)
  const names = options.filter((word) => /^--name(=|$)/.test(word)).length
  if (names > 1) throw new UsageError(`--name is given ${names} times: a run has one job description here`)
  const respelled: string[] = []
  for (let at = 0; at < options.length; at++) {
    const next = options[at + 1]
    const taken = takesNext(options[at]!) && (next === '0' || next === '1')
    respelled.push(...respell(taken ? `${options[at]}=${next}` : options[at]!, isOption))
    if (taken) at++
  }
  return [...respelled, ...words.slice(options.length)]
}

function takesNext(word: string): boolean {
  return word.startsWith('--') && TAKE_NEXT.has(word.slice(2).replaceAll('_', '-'))
}

function respell(word: string, isOption: (name: string) => boolean): string[] {
  const parts = /^--([a-z][a-z0-9_-]*)(?:=(.*))?$/s.exec(word)
  if (parts === null) return [word]
  const spelled = parts[1]!.replaceAll('_', '-')
  const name = ALIASES[spelled] ?? spelled
  const value = parts[2]
  if (!isOption(name)) return [word]
  if (SWITCHES.has(name)) return [`--${name}=${value ?? '1'}`]
  if (FLAGS.has(name) && value !== undefined) return zeroOrOne(value) ? [`--${name}`] : []
  return [value === undefined ? `--${name}` : `--${name}=${value}`]
}

/** `1` is true and `0` false. */
export function zeroOrOne(word: string): boolean {
  if (word === '0' || word === '1') return word === '1'
  throw new ArgumentTypeError(`'${word}' is neither 0 nor 1`)
}

/** Percentiles with colons between, as `50:99:99.9`: ascending, each once. */
export function percentileList(words: string): number[] {
  const parse = decimal({ min: 0, max: 100 })
  return [...new Set(words.split(':').map(parse))].sort((a, b) => a - b)
}

/** The engines of this program, and for what. */
const OWN_ENGINES: Readonly<Record<string, string>> = {
  unvme: 'devices',
  'node-fs': 'files and block devices of the kernel',
}

/** fio's engines that read and write files or devices. */
const FIO_ENGINES = new Set(
  'sync psync vsync pvsync pvsync2 libaio posixaio solarisaio io_uring io_uring_cmd mmap sg xnvme spdk'.split(
    ' ',
  ),
)

/** The name of an engine, of this program or of fio. */
export function ioengine(word: string): string {
  if (word in OWN_ENGINES || FIO_ENGINES.has(word)) return word
  const own = Object.entries(OWN_ENGINES).map(([name, what]) => `${name} for ${what}`)
  throw new ArgumentTypeError(`'${word}' is no engine here: ${own.join(', ')}`)
}

/**
 * What to say where another engine was asked for than the target's; undefined where it is this one.
 * @param actual the target's: `unvme`, `node-fs`, `node-fs (buffered)`
 * @throws UsageError for the other one of this program's
 */
export function engineRemark(asked: string, actual: string): string | undefined {
  const [name = ''] = actual.split(' ')
  if (asked === name) return undefined
  if (asked in OWN_ENGINES)
    throw new UsageError(`--ioengine=${asked} is for ${OWN_ENGINES[asked]}: here it is ${name}`)
  return `--ioengine=${asked} is fio's own: this is measured by ${actual}`
}
