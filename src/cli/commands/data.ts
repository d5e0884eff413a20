// `unvme read`, `write`, `copy` and `verify`: what moves and compares data of files and devices. Everything that can be
// found wrong is found before the first write; what is ended half-way leaves what it wrote. Bytes that are no text never go to
// a terminal.

import { UsageError } from '../../../lib/errors.ts'
import type { CopyResult, Endpoint } from '../../copy/endpoint.ts'
import { REFUSED_WITH_DATA } from '../admin/ranges.ts'
import { hexDump, isOutput, isStandardOutput, withOpen } from '../data.ts'
import {
  argument,
  defineCommand,
  FORCE_WORD,
  flag,
  forceOption,
  optionalArgument,
  outputOption,
  unflag,
  value,
  valueOr,
  yesOption,
} from '../define.ts'
import { print, printJson } from '../output.ts'
import { integer, text } from '../parse.ts'
import {
  confirmOverwrite,
  dataFile,
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

export const read = defineCommand({
  name: 'read',
  group: 'Data',
  summary: 'Read blocks of a device to a file or to standard output',
  details: `Writing to a block device asks first; one that the system uses, and a file that another program has locked, \
are refused.`,
  arguments: {
    address: argument('ADDR', text, 'address of the device'),
    file: optionalArgument('FILE', text, 'file to write (default: standard output)'),
  },
  options: {
    slba: valueOr('LBA', integer(), 0, 'first block', { short: 's', also: ['--start-block'] }),
    ...lengthOptions(),
    data: value('FILE', text, 'file to write, in place of FILE', 'd'),
    hex: flag('print a hex dump, rows that repeat as `*`', 'x'),
    ...queueOptions(),
    namespaceId: namespaceOption(),
    yes: yesOption(),
    force: forceOption(),
  },
  refused: {
    ...REFUSED_WITH_DATA,
    '-l, --limited-retry': 'unvme reads with full effort: see unvme io-passthru',
    '-f, --force-unit-access': 'unvme reads as the device sees fit: see unvme io-passthru',
  },
  ignored: ['-t, --latency'],
  examples: [
    ['read 0a:00.0 --nlb 1 --hex', 'look at the first block'],
    ['read 0a:00.0 --slba 2048 --nlb 256 part.bin', 'blocks 2048 to 2303 into a file'],
    ['read sim:disk.img | sha256sum', 'everything, to another program'],
  ],
  async run({ args, options, signal }) {
    const file = dataFile(args.file, options.data) ?? '-'
    const { mayBeDevice, openSource } = await import('../../copy/endpoint-spec.ts')
    const { openStandardOutput, openTargetFile } = await import('../../copy/file-endpoint.ts')
    const toOutput = isStandardOutput(file)
    if (toOutput && !options.hex && process.stdout.isTTY) {
      throw new UsageError('blocks may hold anything, and are not written to a terminal: give FILE or --hex')
    }
    const { counted, planCopy, transfer } = await import('../../copy/copy.ts')
    if (!mayBeDevice(args.address)) throw new UsageError(`'${args.address}' is no address of a device`)
    const { slba, namespaceId: nsid, chunk, depth } = options
    return withOpen(
      await openSource(args.address, { slba, nsid, signal, isDevice: true }),
      async (source) => {
        const writing = { force: options.force, forceWord: FORCE_WORD }
        return withOpen(
          await (toOutput ? openStandardOutput(writing) : openTargetFile(file, writing)),
          async (target) => {
            const bytes = planCopy(source, target, { bytes: lengthOf(options, [source]), chunk, depth })!
            await confirmOverwrite(target, options.hex ? undefined : bytes, options.yes)
            const started = performance.now()
            await withProgress('read', bytes, async (onProgress) => {
              const how = { chunk, depth, signal }
              if (!options.hex) return transfer(source, target, bytes, { ...how, onProgress })
              const chunks = counted(source.read(bytes, how), onProgress)
              return target.write(hexDump(chunks, slba * source.blocksize), undefined, { signal })
            })
            const seconds = (performance.now() - started) / 1000
            if (!toOutput) print(`${args.address} to ${file}: ${resultText({ bytes, seconds })}`)
          },
        )
      },
    )
  },
})

export const write = defineCommand({
  name: 'write',
  group: 'Data',
  summary: 'Write a file or standard input to blocks of a device',
  details: `A length that is no multiple of the block size is written exactly: the rest of the last block keeps \
what it had. The data is on the medium when the command ends. Writing to a real device asks first.`,
  arguments: {
    address: argument('ADDR', text, 'address of the device'),
    file: optionalArgument('FILE', text, 'file to read, or `-` for standard input'),
  },
  options: {
    slba: valueOr('LBA', integer(), 0, 'first block', { short: 's', also: ['--start-block'] }),
    ...lengthOptions(),
    data: value('FILE', text, 'file to read, in place of FILE', 'd'),
    ...queueOptions(),
    pad: flag('fill the last block with zeroes, rather than keep the rest of it'),
    forceUnitAccess: flag('the data is on the medium when the command ends: so it is without this', 'f'),
    flush: unflag('end when the device has the data, without waiting for its cache to be written'),
    namespaceId: namespaceOption(),
    yes: yesOption(),
    force: forceOption(),
  },
  refused: {
    ...REFUSED_WITH_DATA,
    '-l, --limited-retry': 'unvme writes with full effort: see unvme io-passthru',
  },
  ignored: ['-t, --latency'],
  examples: [
    ['write 0a:00.0 boot.bin --slba 2048', 'a file to block 2048 and those after it'],
    ["write 'sim:disk.img?size=1G' -", 'standard input to a disk image'],
  ],
  async run({ args, options, signal }) {
    const { mayBeDevice, openTarget } = await import('../../copy/endpoint-spec.ts')
    const { createStandardEndpoint, openSourceFile } = await import('../../copy/file-endpoint.ts')
    const { planCopy, transfer } = await import('../../copy/copy.ts')
    if (!mayBeDevice(args.address)) throw new UsageError(`'${args.address}' is no address of a device`)
    if (options.forceUnitAccess && !options.flush) {
      throw new UsageError(
        '--force-unit-access and --no-flush: the one waits for the medium, and the other does not',
      )
    }
    const file = dataFile(args.file, options.data)
    if (file === undefined) throw new UsageError('FILE says what to write; `-` is standard input')
    const { slba, namespaceId: nsid, chunk, depth, flush, pad, force } = options
    const how = { slba, nsid, signal, force, isDevice: true }
    return withOpen(
      file === '-' ? createStandardEndpoint('stdin') : await openSourceFile(file),
      async (source) => {
        return withOpen(await openTarget(args.address, how), async (target) => {
          const bytes = planCopy(source, target, { bytes: lengthOf(options, [target]), chunk, depth })
          await confirmOverwrite(target, bytes, options.yes)
          const result = await withProgress('write', bytes, (onProgress) =>
            transfer(source, target, bytes, { chunk, depth, flush, pad, signal, onProgress }),
          )
          print(`${source.name} to ${target.name}: ${resultText(result)}`)
        })
      },
    )
  },
})

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
    return withOpen(await openSource(args.source, { slba, nsid, signal, jobs }), async (source) => {
      return withOpen(
        await openTarget(toOutput ? '-' : args.target, {
          slba: dstSlba,
          nsid,
          signal,
          jobs,
          force,
          forceWord: FORCE_WORD,
        }),
        async (target) => {
          const bytes = planCopy(source, target, { bytes: lengthOf(options, [source, target]), chunk, depth })
          if (options.verify) checkRereadable(target)
          await confirmOverwrite(target, bytes, options.yes)
          const moving = { chunk, depth, jobs, flush, pad, signal }
          const summed = options.verify && !source.rereadable ? withChecksum(source) : undefined
          const result = await withProgress('copy', bytes, (onProgress) =>
            transfer(summed?.endpoint ?? source, target, bytes, { ...moving, onProgress }),
          )
          const quiet = toOutput || options.output === 'json'
          if (!quiet) print(`${source.name} to ${target.name}: ${resultText(result)}`)
          const check = { bytes: result.bytes, moving, quiet }
          const verified = !options.verify
            ? undefined
            : summed === undefined
              ? await verifyCopy(source, target, check)
              : await verifyChecksum(source, summed.sum(), target, check)
          if (options.output === 'json' && !toOutput) {
            printJson({ source: args.source, target: args.target, ...figures(result), ...verified })
          }
          return verified?.equal === false ? 1 : 0
        },
      )
    })
  },
})

function checkRereadable({ name, rereadable }: Endpoint): void {
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
async function verifyCopy(source: Endpoint, target: Endpoint, { bytes, moving, quiet }: Check) {
  const { compareEndpoints } = await import('../../copy/compare.ts')
  return withWritten(target, async (written) => {
    const result = await withProgress('verify', bytes, (onProgress) =>
      compareEndpoints(source, written, bytes, { ...moving, onProgress }),
    )
    const { difference } = result
    if (!quiet) print(difference ? differenceText(difference) : `verified: ${resultText(result)}, equal`)
    return { equal: difference === null, ...(difference && { difference: differenceJson(difference) }) }
  })
}

/** Reads the target again, where the source has passed by with checksum `sum`. */
async function verifyChecksum(
  source: Endpoint,
  sum: string,
  target: Endpoint,
  { bytes, moving, quiet }: Check,
) {
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
async function withWritten<T>(target: Endpoint, work: (written: Endpoint) => Promise<T>): Promise<T> {
  if (target.ns !== null) return work(target)
  const { openSource } = await import('../../copy/endpoint-spec.ts')
  return withOpen(await openSource(target.name), async (written) => {
    return await work(written)
  })
}

function figures({ bytes, seconds }: CopyResult) {
  return { bytes, seconds, bytesPerSecond: Math.round(bytes / seconds) }
}

export const verify = defineCommand({
  name: 'verify',
  group: 'Data',
  summary: 'Compare two files or devices, and show the first byte that differs',
  details: `${PLACES}

A file, or a pipe, and a device are compared in the file's length, two devices in the first one's. Exit code 1: they \
differ.`,
  arguments: {
    a: argument('A', text, 'file or device'),
    b: argument('B', text, 'file or device to compare it with'),
  },
  options: {
    slba: value('LBA', integer(), 'first block of A, where it is a device (default: 0)', {
      short: 's',
      also: ['--start-block'],
    }),
    dstSlba: value('LBA', integer(), 'first block of B, where it is a device (default: 0)'),
    ...lengthOptions(),
    ...queueOptions(),
    jobs: jobsOption(),
    namespaceId: namespaceOption(),
    output: outputOption(),
  },
  hint: "unvme verify compares two places; nvme-cli's verify is unvme verify-blocks",
  examples: [
    ['verify disk.img 0a:00.0', 'is the image on the device?'],
    ['verify 0a:00.0 0b:00.0 --nlb 2048 -o json', 'the first blocks of two devices, for programs'],
  ],
  async run({ args, options, signal }) {
    const { openSource } = await import('../../copy/endpoint-spec.ts')
    const { compareEndpoints, compareTotal, planCompare } = await import('../../copy/compare.ts')
    const { slba, dstSlba, namespaceId: nsid, chunk, depth, jobs } = options
    return withOpen(await openSource(args.a, { slba, nsid, signal, jobs }), async (a) => {
      return withOpen(await openSource(args.b, { slba: dstSlba, nsid, signal, jobs }), async (b) => {
        const bytes = planCompare(a, b, { bytes: lengthOf(options, [a, b]), chunk, depth })
        const { difference, ...result } = await withProgress(
          'verify',
          compareTotal(a, b, bytes),
          (onProgress) => compareEndpoints(a, b, bytes, { chunk, depth, jobs, signal, onProgress }),
        )
        if (options.output === 'json') {
          const found = difference && { difference: differenceJson(difference) }
          printJson({ equal: difference === null, ...result, ...found })
        } else {
          const nothing = result.bytes === 0 ? ': nothing was compared' : ''
          const equal = `${a.name} and ${b.name} are equal: ${resultText(result)}${nothing}`
          print(difference ? differenceText(difference) : equal)
        }
        return difference ? 1 : 0
      })
    })
  },
})
