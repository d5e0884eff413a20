// What `read`, `write`, `copy` and `verify` share: their options, the question before data is lost, progress,
// and how results and differences are printed.
// Types only from the driver, which the commands load themselves, so that help stays quick.

import { OutOfRangeError, UsageError } from '../../lib/errors.ts'
import { hexRow } from '../../lib/log/index.ts'
import { MAX_NSID } from '../../lib/nvme/spec/opcodes.ts'
import type { Difference, DifferingEndpoint, Endpoint } from '../copy/endpoint.ts'
import { value, valueOr } from './define.ts'
import { bad, bytesText, confirm } from './output.ts'
import { blockCount, integer, size } from './parse.ts'
import { startProgress } from './progress.ts'

const ROW_BYTES = 16
// What the default queue of 256 entries holds.
const MAX_DEPTH = 255

export const PLACES = `A device is an address (0a:00.0, 0a:00.0/2, sim:disk.img), everything else a file: a word \
with a colon before any slash is an address, so a file of such a name is written ./a:b.`

export const namespaceOption = () =>
  value('NSID', integer({ min: 1, max: MAX_NSID }), 'namespace, where the address names none', {
    short: 'n',
    also: ['--namespace'],
  })

/** `--nlb` and `--bytes`: how much. */
export const lengthOptions = () => ({
  nlb: value(
    'N',
    blockCount,
    'number of blocks (one-based, where nvme-cli has 0 for one block), in blocks of the first device',
    { short: 'c', also: ['--block-count'] },
  ),
  bytes: value('SIZE', size({ min: 1 }), 'number of bytes, in place of --nlb: 1000, 64k, 1.5G', {
    short: 'z',
    also: ['--data-size'],
  }),
})

/** `--chunk` and `--depth`: how it is moved. */
export const queueOptions = () => ({
  chunk: value(
    'SIZE',
    size({ min: 512, max: 2 ** 30 }),
    'bytes that are moved at a time (default: up to 1M between a file and a device, else 128k)',
  ),
  depth: value(
    'N',
    integer({ min: 1, max: MAX_DEPTH }),
    'commands in flight (default: those of eight chunks between a file and a device, else 32)',
  ),
})

/** `--jobs`: by how many threads. */
export const jobsOption = () =>
  valueOr(
    'N',
    integer({ min: 1, max: 1024 }),
    1,
    'threads, each with a queue of its own, where one side is a file',
  )

/** The file of `read` and `write`: as an argument, or by nvme-cli's --data. */
export function dataFile(argument: string | undefined, option: string | undefined): string | undefined {
  if (argument !== undefined && option !== undefined) {
    throw new UsageError('FILE and --data both say which file: give one')
  }
  return argument ?? option
}

/** Bytes of `--nlb` or `--bytes`; undefined where neither is given. */
export function lengthOf(
  { nlb, bytes }: { nlb: number | undefined; bytes: number | undefined },
  sides: readonly Endpoint[],
): number | undefined {
  if (nlb === undefined) return bytes
  const device = sides.find((side) => side.ns !== null)
  if (device === undefined) throw new UsageError('--nlb counts blocks of a device: give --bytes for files')
  if (!Number.isSafeInteger(nlb * device.blocksize)) {
    throw new OutOfRangeError(`--nlb ${nlb} is more than any device has`)
  }
  const length = nlb * device.blocksize
  // nvme-cli takes both, and there the count is one less.
  if (bytes !== undefined && bytes !== length) {
    throw new UsageError(
      `--nlb ${nlb} is ${length} bytes (counts are one-based), --bytes is ${bytes}: give one of them`,
    )
  }
  return length
}

/** Asks before something on real hardware is overwritten. `bytes` undefined: up to its end. */
export async function confirmOverwrite(
  side: Endpoint,
  bytes: number | undefined,
  yes: boolean,
): Promise<void> {
  if (!side.hardware) return
  const length = bytes ?? side.size
  const amount = length === undefined ? '' : `${bytesText(length)} of `
  const { ns, slba, uses } = side
  if (ns === null) {
    return confirm(`Overwrite ${amount}block device ${side.name}${uses ? `, in use: ${uses}` : ''}?`, yes)
  }
  const last = slba + Math.max(1, Math.ceil((length ?? 0) / ns.blocksize)) - 1
  const what = `${side.name}, namespace ${ns.id} (${ns.mn}, ${ns.sn}): LBA ${slba} to ${last}`
  await confirm(`Overwrite ${amount}${what}?`, yes)
}

/** Does something with a line of progress on the terminal, and takes the line away at its end. */
export async function withProgress<T>(
  what: string,
  total: number | undefined,
  work: (onProgress: (bytes: number) => void) => Promise<T>,
): Promise<T> {
  const progress = startProgress(what, total)
  try {
    return await work(progress.update)
  } finally {
    progress.stop()
  }
}

/** `104857600 bytes (104.86 MB) in 0.12 s, 873.81 MB/s`. */
export function resultText({ bytes, seconds }: { bytes: number; seconds: number }): string {
  return `${bytes} bytes (${bytesText(bytes)}) in ${seconds.toFixed(2)} s, ${bytesText(bytes / seconds)}/s`
}

/** Where two sides differ, and what is there. */
export function differenceText({ offset, a, b }: Difference): string {
  const lines = [`${a.name} and ${b.name} differ after ${offset} equal bytes:`]
  const width = Math.max(a.name.length, b.name.length)
  for (const [side, other] of [
    [a, b],
    [b, a],
  ] as const) {
    lines.push(`  ${side.name.padEnd(width)}  ${placeText(side)}`)
    lines.push(...hexLines(side, other))
  }
  return lines.join('\n')
}

function placeText({ lba, byte, position, data, at }: DifferingEndpoint): string {
  if (at === data.length) return `ends at byte ${position}`
  return lba === undefined ? `byte ${position}` : `LBA ${lba}, byte ${byte}`
}

function hexLines(side: DifferingEndpoint, other: DifferingEndpoint): string[] {
  const { data, at, position } = side
  const lines: string[] = []
  for (let from = 0; from < data.length; from += ROW_BYTES) {
    const mark = (text: string, index: number) => {
      const i = from + index
      return data[i] === other.data[i - at + other.at] ? text : bad(text)
    }
    lines.push(hexRow(position - at + from, data.subarray(from, from + ROW_BYTES), mark))
  }
  return lines
}

/** A difference for JSON: contents as hex. */
export function differenceJson({ offset, a, b }: Difference) {
  const side = ({ name, lba, byte, position, data, at }: DifferingEndpoint) => ({
    name,
    ...(lba !== undefined && { lba, byte }),
    position,
    data: data.subarray(at).toString('hex'),
  })
  return { offset, a: side(a), b: side(b) }
}
