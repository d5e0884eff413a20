// `unvme read`, `write`, `copy` and `verify`: what moves and compares data of files and devices. Everything that can be
// found wrong is found before the first write; what is ended half-way leaves what it wrote. Bytes that are no text never go to
// a terminal.

import { UsageError } from '../../../lib/errors.ts'
import { HOLES, ON_ERROR } from '../../copy/choices.ts'
import type { CopyReport, CopyResult, Endpoint } from '../../copy/endpoint.ts'
import { REFUSED_WITH_DATA } from '../admin/ranges.ts'
import {
  badTexts,
  besideOption,
  CONTENT,
  compressOption,
  copiedText,
  copyJson,
  EXIT_BAD_BLOCKS,
  mapsBeside,
  noteBeside,
  noteEnd,
  noteFailed,
  progressOptions,
  rawOption,
  sourceText,
  sparseOption,
  targetText,
  withReports,
} from '../copying.ts'
import { hexDump, isOutput, isStandardOutput, withOpen } from '../data.ts'
import {
  argument,
  choice,
  defineCommand,
  FORCE_WORD,
  flag,
  forceOption,
  optionalArgument,
  outputOption,
  unflag,
  value,
  valueOr,
  variadicArgument,
  yesOption,
} from '../define.ts'
import { print, printJson, print as printLine } from '../output.ts'
import { integer, size, text } from '../parse.ts'
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
    sparse: sparseOption(),
    compress: compressOption(),
    ...progressOptions(),
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
    if (options.hex && options.compress) throw new UsageError('--hex and --compress: give one of them')
    const { prepareCopy } = await import('../../copy/copy.ts')
    if (!mayBeDevice(args.address)) throw new UsageError(`'${args.address}' is no address of a device`)
    const { slba, namespaceId: nsid, chunk, depth, sparse, compress } = options
    const opened = await openSource(args.address, { slba, nsid, signal, isDevice: true })
    return withOpen(opened, async (source) => {
      const writing = { force: options.force, forceWord: FORCE_WORD }
      return withOpen(
        await (toOutput ? openStandardOutput(writing) : openTargetFile(file, writing)),
        async (target) => {
          const bytes = lengthOf(options, [source])
          const planned = await prepareCopy(source, [target], {
            bytes,
            chunk,
            depth,
            sparse,
            compress,
            signal,
          })
          const length = planned.bytes!
          await confirmOverwrite(target, options.hex ? undefined : length, options.yes)
          const started = performance.now()
          const result = await withReports('read', length, options, async (how) => {
            if (!options.hex) return planned.run(how)
            const chunks = source.read(length, { chunk, depth, signal })
            await target.write(hexDump(chunks, slba * source.blocksize), undefined, { signal })
            return undefined
          })
          const seconds = (performance.now() - started) / 1000
          if (!toOutput) {
            print(`${args.address} to ${file}: ${copiedText(result ?? { bytes: length, seconds })}`)
          }
        },
      )
    })
  },
})

export const write = defineCommand({
  name: 'write',
  group: 'Data',
  summary: 'Write a file or standard input to blocks of a device',
  details: `A length that is no multiple of the block size is written exactly: the rest of the last block keeps \
what it had. The data is on the medium when the command ends. Writing to a real device asks first. ${CONTENT}`,
  arguments: {
    address: argument('ADDR', text, 'address of the device'),
    file: optionalArgument('FILE', text, 'file to read, or `-` for standard input'),
  },
  options: {
    slba: valueOr('LBA', integer(), 0, 'first block', { short: 's', also: ['--start-block'] }),
    ...lengthOptions(),
    data: value('FILE', text, 'file to read, in place of FILE', 'd'),
    ...queueOptions(),
    sparse: sparseOption(),
    raw: rawOption(),
    beside: besideOption(),
    ...progressOptions(),
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
    const { prepareCopy } = await import('../../copy/copy.ts')
    if (!mayBeDevice(args.address)) throw new UsageError(`'${args.address}' is no address of a device`)
    if (options.forceUnitAccess && !options.flush) {
      throw new UsageError(
        '--force-unit-access and --no-flush: the one waits for the medium, and the other does not',
      )
    }
    const file = dataFile(args.file, options.data)
    if (file === undefined) throw new UsageError('FILE says what to write; `-` is standard input')
    const { slba, namespaceId: nsid, chunk, depth, flush, pad, force, sparse, raw, beside } = options
    const how = { slba, nsid, signal, force, isDevice: true }
    return withOpen(
      file === '-' ? createStandardEndpoint('stdin') : await openSourceFile(file),
      async (source) => {
        return withOpen(await openTarget(args.address, how), async (target) => {
          const moving = { bytes: lengthOf(options, [target]), chunk, depth, flush, pad, sparse, raw, beside }
          const planned = await prepareCopy(source, [target], { ...moving, signal })
          return withOpen(planned.source, async () => {
            await confirmOverwrite(target, planned.bytes, options.yes)
            noteBeside(planned, options.quiet)
            const result = await withReports('write', planned.bytes, options, planned.run)
            print(`${sourceText(planned)} to ${target.name}: ${copiedText(result)}`)
          })
        })
      },
    )
  },
})

export const copy = defineCommand({
  name: 'copy',
  group: 'Data',
  summary: 'Copy a file or device to a file or device, or to several at once',
  details: `${PLACES} A file that is written is made, or emptied first; \`-\` is standard input or output.

A length that is no multiple of the block size arrives exactly: the rest of the last block keeps what it had. \
The copy is on the medium when the command ends. Writing to a real device asks first. A block \
device that the system uses, and a file that another program has locked, are refused.

${CONTENT} Of several targets each goes at its own pace, the source is read once, and one that fails does not stop \
the others. What Ctrl-C or an error ends is written down beside the target (TARGET.unvme-map; of a device in the current \
folder), and --resume goes on with it. Exit code 3: there were blocks that could not be read or written.`,
  arguments: {
    source: argument('SRC', text, 'file or device to read'),
    target: argument('DST', text, 'file or device to write'),
    more: variadicArgument('DST', text, 'more of them'),
  },
  options: {
    slba: value('LBA', integer(), 'first block to read, where SRC is a device (default: 0)', {
      short: 's',
      also: ['--start-block'],
    }),
    dstSlba: value('LBA', integer(), 'first block to write, where DST is a device (default: 0)'),
    ...lengthOptions(),
    skip: value('SIZE', size(), 'bytes of SRC to leave out at its start'),
    seek: value('SIZE', size(), 'bytes of DST to leave as they are at its start; a file is not emptied then'),
    sparse: sparseOption(),
    targetIsZero: flag('all of DST reads as zeroes already: those of SRC are left out'),
    verify: flag('read back what is written, while the copy goes on, and compare: a device reads its medium'),
    hash: flag('print the SHA-256 of what was read'),
    sha256: value('HEX', text, 'SHA-256 that SRC must have'),
    raw: rawOption(),
    compress: compressOption(),
    beside: besideOption(),
    bmap: value('FILE', text, 'block map of SRC (default: the one beside it)'),
    holes: choice(
      HOLES,
      'blocks that a block map leaves out: they read as zeroes then, or keep what they have',
    ),
    onError: choice(
      ON_ERROR,
      'blocks that fail: stop, or go on, and leave them as they are, or fill with zeroes',
    ),
    retries: valueOr('N', integer({ max: 1000 }), 0, 'how often a block that fails is tried again'),
    map: value(
      'FILE',
      text,
      "write what is done and bad to FILE (of several DST: FILE.1, …), in ddrescue's format",
      {
        also: ['--journal'],
      },
    ),
    resume: flag('go on with a copy that was ended, by its map'),
    ...queueOptions(),
    jobs: jobsOption(),
    pad: flag('fill the last block with zeroes, rather than keep the rest of it'),
    flush: unflag('end when the device has the data, without waiting for its cache to be written'),
    ...progressOptions(),
    namespaceId: namespaceOption(),
    output: choice(['normal', 'json', 'jsonl'], 'how to print; jsonl: progress, too, an object in a line', {
      short: 'o',
      also: ['--output-format'],
    }),
    yes: yesOption(),
    force: forceOption(),
  },
  hint: "unvme copy copies between files and devices; nvme-cli's copy within a device is not here: see unvme io-passthru",
  examples: [
    ['copy disk.img 0a:00.0 --verify', 'write an image to a device, and check it'],
    ['copy disk.img.xz 0a:00.0', 'a compressed one, whatever it is called'],
    ['copy 0a:00.0 disk.img --nlb 2048', 'read the first 2048 blocks into a file'],
    ['copy 0a:00.0/1 0b:00.0/1 --yes', 'clone a device to another without being asked'],
    ['copy disk.img 0a:00.0 0b:00.0 0c:00.0 --verify', 'several at once'],
    [
      'copy 0a:00.0 disk.img --on-error fill --retries 3 --map disk.map',
      'what can be read of a device that fails',
    ],
    ["copy disk.img 'sim:?size=1G'", 'try it without a device'],
  ],
  async run({ args, options, signal }) {
    const { openSource, openTarget } = await import('../../copy/endpoint-spec.ts')
    const { prepareCopy } = await import('../../copy/copy.ts')
    const names = [args.target, ...args.more]
    const toOutput = names.map((name) => isOutput(name))
    const outputs = toOutput.filter(Boolean).length
    if (outputs > 1) throw new UsageError('standard output is one target: give it once')
    const { slba, dstSlba, namespaceId: nsid, flush, pad, chunk, depth, jobs, force, output, yes } = options
    const { skip, seek, sparse, targetIsZero, sha256, raw, compress, beside, bmap, holes, onError } = options
    const { retries, resume, quiet } = options
    const print = outputs > 0 || output !== 'normal' ? () => {} : printLine
    return withOpen(await openSource(args.source, { slba, nsid, signal, jobs }), async (source) => {
      const how = { slba: dstSlba, nsid, signal, jobs, force, forceWord: FORCE_WORD }
      const targets: Endpoint[] = []
      try {
        for (const [at, name] of names.entries())
          targets.push(await openTarget(toOutput[at] ? '-' : name, how))
        if (options.verify) for (const target of targets) checkRereadable(target)
        const map =
          options.map === undefined || targets.length === 1
            ? (options.map ?? mapsBeside(targets))
            : targets.map((_, at) => `${options.map}.${at + 1}`)
        if (resume && map === undefined) throw new UsageError('--resume: --map says which copy is to go on')
        const planned = await prepareCopy(source, targets, {
          ...{
            bytes: lengthOf(options, [source, ...targets]),
            chunk,
            depth,
            jobs,
            flush,
            pad,
            skip,
            seek,
            sparse,
          },
          ...{
            targetIsZero,
            sha256,
            raw,
            compress,
            beside,
            bmap,
            holes,
            onError,
            retries,
            resume,
            signal,
            map,
          },
          verify: options.verify && jobs === 1,
          // Of a pipe it is all that is left.
          hash: options.hash || (options.verify && !source.rereadable),
          keepMap: options.map !== undefined,
        })
        return await withOpen(planned.source, async () => {
          for (const target of targets) await confirmOverwrite(target, planned.bytes, yes)
          noteBeside(planned, quiet)
          const maps = [map].flat()
          let report: CopyReport | undefined
          const result = await withReports('copy', planned.bytes, options, ({ onReport }) =>
            planned.run({
              onReport(now) {
                report = now
                onReport(now)
              },
            }),
          ).catch((error) => {
            if (!quiet) noteEnd(planned, maps, error, report)
            throw error
          })
          if (!quiet) noteFailed(result, maps)
          if (targets.length === 1) {
            print(`${sourceText(planned)} to ${targets[0]!.name}: ${copiedText(result)}`)
          } else {
            print(`${sourceText(planned)} to ${targets.length} targets: ${copiedText(result)}`)
            for (const target of result.targets) print(`  ${targetText(target)}`)
          }
          if (options.hash) print(`sha256: ${result.sha256 ?? 'none, since there are bad blocks'}`)
          const verified = !options.verify
            ? undefined
            : jobs === 1
              ? readBack(result, source.rereadable, print)
              : await verifyCopy(source, targets[0]!, result.bytes, { chunk, depth, jobs, signal }, print)
          for (const line of badTexts(result, planned.source)) print(line)
          if (output !== 'normal' && outputs === 0) {
            const shown = { source: args.source, target: args.target, ...copyJson(result), ...verified }
            if (output === 'json') printJson(shown)
            else printLine(JSON.stringify({ type: 'result', ...shown }))
          }
          if (verified?.equal === false || result.targets.some(({ error }) => error !== undefined)) return 1
          return result.bad.length > 0 ? EXIT_BAD_BLOCKS : 0
        })
      } finally {
        for (const target of targets.reverse()) await target.close()
      }
    })
  },
})

function checkRereadable({ name, rereadable }: Endpoint): void {
  if (rereadable) return
  throw new UsageError(`--verify reads what was written again, and ${name} can be read only once`)
}

/** What was read back while the copy went on. */
function readBack(result: CopyResult, rereadable: boolean, print: (line: string) => void) {
  const { sha256, targets } = result
  const different = targets.find(({ difference }) => difference !== undefined)?.difference
  if (different !== undefined) {
    print(differenceText(different))
    return { equal: false, difference: differenceJson(different) }
  }
  const by = rereadable || sha256 === undefined ? '' : ` by sha256 ${sha256}`
  const bytes = Math.min(
    ...targets.filter(({ error }) => error === undefined).map(({ verified }) => verified),
  )
  print(`verified: ${resultText({ bytes, seconds: result.seconds })}, equal${by}`)
  return { equal: true, ...(by && { sha256 }) }
}

/** Reads both ends again: of a copy by several threads. */
async function verifyCopy(
  source: Endpoint,
  target: Endpoint,
  bytes: number,
  moving: { chunk: number | undefined; depth: number | undefined; jobs: number; signal: AbortSignal },
  print: (line: string) => void,
) {
  const { compareEndpoints } = await import('../../copy/compare.ts')
  const { openSource } = await import('../../copy/endpoint-spec.ts')
  const written = target.ns === null ? await openSource(target.name) : target
  try {
    const result = await withProgress('verify', bytes, (onProgress) =>
      compareEndpoints(source, written, bytes, { ...moving, onProgress }),
    )
    const { difference } = result
    print(difference ? differenceText(difference) : `verified: ${resultText(result)}, equal`)
    return { equal: difference === null, ...(difference && { difference: differenceJson(difference) }) }
  } finally {
    if (written !== target) await written.close()
  }
}

export const verify = defineCommand({
  name: 'verify',
  group: 'Data',
  summary: 'Compare two files or devices, and show the first byte that differs',
  details: `${PLACES}

A file, or a pipe, and a device are compared in the file's length, two devices in the first one's. Exit code 1: they \
differ. A compressed file is decompressed where the other is a device.`,
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
    sparse: choice(
      ['auto', 'never'],
      'auto: blocks that a device says are holes are not read; never: all are',
    ),
    raw: flag('compare a compressed file as the bytes that it is'),
    namespaceId: namespaceOption(),
    output: outputOption(),
  },
  hint: "unvme verify compares two places; nvme-cli's verify is unvme verify-blocks",
  examples: [
    ['verify disk.img 0a:00.0', 'is the image on the device?'],
    ['verify disk.img.xz 0a:00.0', 'the same of a compressed one'],
    ['verify 0a:00.0 0b:00.0 --nlb 2048 -o json', 'the first blocks of two devices, for programs'],
  ],
  async run({ args, options, signal }) {
    const { openSource } = await import('../../copy/endpoint-spec.ts')
    const { compareEndpoints, compareTotal, planCompare, unpackedPair } = await import(
      '../../copy/compare.ts'
    )
    const { slba, dstSlba, namespaceId: nsid, chunk, depth, jobs, sparse } = options
    return withOpen(await openSource(args.a, { slba, nsid, signal, jobs }), async (first) => {
      return withOpen(await openSource(args.b, { slba: dstSlba, nsid, signal, jobs }), async (second) => {
        const [a, b] = await unpackedPair(first, second, { raw: options.raw, jobs, signal })
        const bytes = planCompare(a, b, { bytes: lengthOf(options, [a, b]), chunk, depth })
        const { difference, ...result } = await withProgress(
          'verify',
          compareTotal(a, b, bytes),
          (onProgress) => compareEndpoints(a, b, bytes, { chunk, depth, jobs, sparse, signal, onProgress }),
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
