// `unvme copy`: files to devices, devices to files, devices to devices.
// Trade-off: everything that can be found wrong is found before the first write; a copy that is ended half-way
// leaves what it wrote.

import { UsageError } from '../../../lib/errors.ts'
import type { CopyResult, Side } from '../../copy/endpoint.ts'
import { isOutput } from '../data.ts'
import {
  argument,
  defineCommand,
  FORCE_WORD,
  flag,
  forceOption,
  outputOption,
  unflag,
  value,
  yesOption,
} from '../define.ts'
import { print, printJson } from '../output.ts'
import { integer, text } from '../parse.ts'
import {
  confirmOverwrite,
  differenceJson,
  differenceText,
  jobsOption,
  lengthOf,
  lengthOptions,
  namespaceOption,
  PLACES,
  queueOptions,
  resultText,
  withProgress,
} from '../transfer.ts'

export const copy = defineCommand({
  name: 'copy',
  group: 'Data',
  summary: 'Copy a file or device to a file or device',
  details: `${PLACES} A file that is written is made, or emptied first; \`-\` is standard input or output.

A length that is no multiple of the block size arrives exactly: the rest of the last block keeps what it had. \
The copy is on the medium when the command ends. Writing to a real device asks first. A block \
device that the system uses, and a file that another program has locked, are refused.`,
  arguments: {
    source: argument('SRC', text, 'file or device to read'),
    target: argument('DST', text, 'file or device to write'),
  },
  options: {
    slba: value('LBA', integer(), 'first block to read, where SRC is a device (default: 0)', {
      short: 's',
      also: ['--start-block'],
    }),
    dstSlba: value('LBA', integer(), 'first block to write, where DST is a device (default: 0)'),
    ...lengthOptions(),
    verify: flag('read both again afterwards, and compare: of a pipe a checksum is taken on the way'),
    ...queueOptions(),
    jobs: jobsOption(),
    pad: flag('fill the last block with zeroes, rather than keep the rest of it'),
    flush: unflag('end when the device has the data, without waiting for its cache to be written'),
    namespaceId: namespaceOption(),
    output: outputOption(),
    yes: yesOption(),
    force: forceOption(),
  },
  hint: "unvme copy copies between files and devices; nvme-cli's copy within a device is not here: see unvme io-passthru",
  examples: [
    ['copy disk.img 0a:00.0 --verify', 'write an image to a device, and check it'],
    ['copy 0a:00.0 disk.img --nlb 2048', 'read the first 2048 blocks into a file'],
    ['copy 0a:00.0/1 0b:00.0/1 --yes', 'clone a device to another without being asked'],
    ["copy disk.img 'sim:?size=1G'", 'try it without a device'],
  ],
  async run({ args, options, signal }) {
    const { openSource, openTarget } = await import('../../copy/endpoint-spec.ts')
    const { planCopy, transfer } = await import('../../copy/copy.ts')
    const { withChecksum } = await import('../../copy/compare.ts')
    const toOutput = isOutput(args.target)
    const { slba, dstSlba, namespaceId: nsid, flush, pad, chunk, depth, jobs, force } = options
    const source = await openSource(args.source, { slba, nsid, signal, jobs })
    try {
      const target = await openTarget(toOutput ? '-' : args.target, {
        slba: dstSlba,
        nsid,
        signal,
        jobs,
        force,
        forceWord: FORCE_WORD,
      })
      try {
        const bytes = planCopy(source, target, { bytes: lengthOf(options, [source, target]), chunk, depth })
        if (options.verify) checkRereadable(target)
        await confirmOverwrite(target, bytes, options.yes)
        const moving = { chunk, depth, jobs, flush, pad, signal }
        const summed = options.verify && !source.rereadable ? withChecksum(source) : undefined
        const result = await withProgress('copy', bytes, (onProgress) =>
          transfer(summed?.side ?? source, target, bytes, { ...moving, onProgress }),
        )
        const quiet = toOutput || options.output === 'json'
        if (!quiet) print(`${source.name} to ${target.name}: ${resultText(result)}`)
        const check = { bytes: result.bytes, moving, quiet }
        const verified = !options.verify
          ? undefined
          : summed === undefined
            ? await verify(source, target, check)
            : await verifyChecksum(source, summed.sum(), target, check)
        if (options.output === 'json' && !toOutput) {
          printJson({ source: args.source, target: args.target, ...figures(result), ...verified })
        }
        return verified?.equal === false ? 1 : 0
      } finally {
        await target.close()
      }
    } finally {
      await source.close()
    }
  },
})

function checkRereadable({ name, rereadable }: Side): void {
  if (rereadable) return
  throw new UsageError(`--verify reads what was written again, and ${name} can be read only once`)
}

/** What a verification needs to know of the copy. */
interface Check {
  bytes: number
  moving: { chunk: number | undefined; depth: number | undefined; jobs: number; signal: AbortSignal }
  quiet: boolean
}

/** Reads both sides again, the target from the medium on. */
async function verify(source: Side, target: Side, { bytes, moving, quiet }: Check) {
  const { compareSides } = await import('../../copy/compare.ts')
  return withWritten(target, async (written) => {
    const result = await withProgress('verify', bytes, (onProgress) =>
      compareSides(source, written, bytes, { ...moving, onProgress }),
    )
    const { difference } = result
    if (!quiet) print(difference ? differenceText(difference) : `verified: ${resultText(result)}, equal`)
    return { equal: difference === null, ...(difference && { difference: differenceJson(difference) }) }
  })
}

/** Reads the target again, where the source has passed by with checksum `sum`. */
async function verifyChecksum(source: Side, sum: string, target: Side, { bytes, moving, quiet }: Check) {
  const { CHECKSUM, checksumOf } = await import('../../copy/compare.ts')
  return withWritten(target, async (written) => {
    const started = performance.now()
    const found = await withProgress('verify', bytes, (onProgress) =>
      checksumOf(written, bytes, moving, onProgress),
    )
    const result = { bytes: found.bytes, seconds: (performance.now() - started) / 1000 }
    const equal = found.bytes === bytes && found.sum === sum
    if (!quiet && equal) print(`verified: ${resultText(result)}, equal by ${CHECKSUM} ${sum}`)
    if (!quiet && !equal) {
      print(`${source.name} and ${target.name} differ: ${CHECKSUM} ${sum} and ${found.sum}`)
    }
    return { equal, [CHECKSUM]: { source: sum, target: found.sum } }
  })
}

/** Opens what was written for reading. */
async function withWritten<T>(target: Side, work: (written: Side) => Promise<T>): Promise<T> {
  if (target.ns !== null) return work(target)
  const { openSource } = await import('../../copy/endpoint-spec.ts')
  const written = await openSource(target.name)
  try {
    return await work(written)
  } finally {
    await written.close()
  }
}

function figures({ bytes, seconds }: CopyResult) {
  return { bytes, seconds, bytesPerSecond: Math.round(bytes / seconds) }
}
