// `unvme read`: blocks of a device to a file or to standard output, as they are or as a hex dump.
// Trade-off: bytes that are no text never go to a terminal.

import { UsageError } from '../../../lib/errors.ts'
import { REFUSED_WITH_DATA } from '../admin/ranges.ts'
import { isStandardOutput } from '../data.ts'
import {
  argument,
  defineCommand,
  FORCE_WORD,
  flag,
  forceOption,
  optionalArgument,
  value,
  valueOr,
  yesOption,
} from '../define.ts'
import { hexDump } from '../hex.ts'
import { print } from '../output.ts'
import { integer, text } from '../parse.ts'
import {
  confirmOverwrite,
  dataFile,
  lengthOf,
  lengthOptions,
  namespaceOption,
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
    data: value('FILE', text, 'file to write, in place of FILE', { short: 'd' }),
    hex: flag('print a hex dump, rows that repeat as `*`', { short: 'x' }),
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
    const { isAddress, openSource } = await import('../../copy/endpoint-spec.ts')
    const { openStandardOutput, openTargetFile } = await import('../../copy/file-endpoint.ts')
    const toOutput = isStandardOutput(file)
    if (toOutput && !options.hex && process.stdout.isTTY) {
      throw new UsageError('blocks may hold anything, and are not written to a terminal: give FILE or --hex')
    }
    const { counted, planCopy, transfer } = await import('../../copy/copy.ts')
    if (!isAddress(args.address)) throw new UsageError(`'${args.address}' is no address of a device`)
    const { slba, namespaceId: nsid, chunk, depth } = options
    const source = await openSource(args.address, { slba, nsid, signal })
    try {
      const writing = { force: options.force, forceWord: FORCE_WORD }
      const target = await (toOutput ? openStandardOutput(writing) : openTargetFile(file, writing))
      try {
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
      } finally {
        await target.close()
      }
    } finally {
      await source.close()
    }
  },
})
