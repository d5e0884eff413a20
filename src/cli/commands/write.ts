// `unvme write`: a file or standard input to blocks of a device.
// Trade-off: the same as `copy` with a device as its target, for those who think of one device and not of two
// places.

import { UsageError } from '../../../lib/errors.ts'
import { REFUSED_WITH_DATA } from '../admin/ranges.ts'
import {
  argument,
  defineCommand,
  flag,
  optionalArgument,
  unflag,
  value,
  valueOr,
  yesOption,
} from '../define.ts'
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
    data: value('FILE', text, 'file to read, in place of FILE', { short: 'd' }),
    ...queueOptions(),
    pad: flag('fill the last block with zeroes, rather than keep the rest of it'),
    forceUnitAccess: flag('the data is on the medium when the command ends: so it is without this', {
      short: 'f',
    }),
    flush: unflag('end when the device has the data, without waiting for its cache to be written'),
    namespaceId: namespaceOption(),
    yes: yesOption(),
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
    const { isAddress, openTarget } = await import('../../copy/endpoint-spec.ts')
    const { createStandardSide, openSourceFile } = await import('../../copy/file-endpoint.ts')
    const { planCopy, transfer } = await import('../../copy/copy.ts')
    if (!isAddress(args.address)) throw new UsageError(`'${args.address}' is no address of a device`)
    if (options.forceUnitAccess && !options.flush) {
      throw new UsageError(
        '--force-unit-access and --no-flush: the one waits for the medium, and the other does not',
      )
    }
    const file = dataFile(args.file, options.data)
    if (file === undefined) throw new UsageError('FILE says what to write; `-` is standard input')
    const { slba, namespaceId: nsid, chunk, depth, flush, pad } = options
    const source = file === '-' ? createStandardSide('stdin') : await openSourceFile(file)
    try {
      const target = await openTarget(args.address, { slba, nsid, signal })
      try {
        const bytes = planCopy(source, target, { bytes: lengthOf(options, [target]), chunk, depth })
        await confirmOverwrite(target, bytes, options.yes)
        const result = await withProgress('write', bytes, (onProgress) =>
          transfer(source, target, bytes, { chunk, depth, flush, pad, signal, onProgress }),
        )
        print(`${source.name} to ${target.name}: ${resultText(result)}`)
      } finally {
        await target.close()
      }
    } finally {
      await source.close()
    }
  },
})
