// `unvme flush`, `write-zeroes`, `dsm`, `compare` and `verify-blocks`: I/O commands by nvme-cli's names.
// Counts of blocks are one-based, as in all of unvme, where nvme-cli has them zero-based; help says so.

import { UsageError } from '../../../lib/errors.ts'
import { DSM_MAX_RANGES, encodeDsmAttributes, encodeDsmRanges } from '../../../lib/nvme/spec/commands.ts'
import { NVM } from '../../../lib/nvme/spec/opcodes.ts'
import {
  type AdminContext,
  adminCommand,
  chosenNamespace,
  namespaceIdOption,
  withNamespace,
} from '../admin/command.ts'
import {
  accessBits,
  accessOptions,
  checkFits,
  compareRange,
  NO_METADATA,
  type Range,
  REFUSED_WITH_DATA,
  REFUSED_WITHOUT_DATA,
  rangeOptions,
  rangeText,
  sendRange,
} from '../admin/ranges.ts'
import { openData, withOpen } from '../data.ts'
import { flag, type Specs, value, valueOr } from '../define.ts'
import { print } from '../output.ts'
import { blockCount, dword, integer, listOf, size, text } from '../parse.ts'

const group = 'Data'

const flush = adminCommand({
  name: 'flush',
  group,
  summary: "Write the device's cache to the medium",
  options: { namespaceId: namespaceIdOption('namespace; 0xffffffff: all (default: the only one)') },
  examples: [['flush 0a:00.0', 'what was written before is on the medium when it ends']],
  async run(context) {
    await withNamespace(context, (ns, nsid) => ns.promises.cmd({ opcode: NVM.FLUSH, nsid }))
    print('NVMe Flush: success')
  },
})

const writeZeroes = adminCommand({
  name: 'write-zeroes',
  group,
  summary: 'Overwrite blocks with zeroes, without sending any',
  options: {
    namespaceId: namespaceIdOption(),
    ...rangeOptions(),
    deac: flag('deallocate the blocks, where they read zeroes then', 'd'),
    ...accessOptions(),
  },
  refused: REFUSED_WITHOUT_DATA,
  examples: [['write-zeroes 0a:00.0 -s 2048 -c 100', '100 blocks from block 2048 on']],
  async destroys(context) {
    return `Overwrite with zeroes ${rangeText(rangeOf(context.options))}: namespace ${await chosenNamespace(context)}`
  },
  async run(context) {
    const range = rangeOf(context.options)
    const { options, signal } = context
    const how = { what: 'write-zeroes', bits: accessBits(options), signal }
    await withNamespace(context, (ns) => sendRange(ns, NVM.WRITE_ZEROES, range, how))
    print(`NVMe Write Zeroes Success: ${rangeText(range)}`)
  },
})

const verifyBlocks = adminCommand({
  name: 'verify-blocks',
  group,
  summary: 'Let the device check whether it can read blocks, without reading them',
  details: `nvme-cli calls it verify; unvme verify compares files and devices. The device answers Unrecovered Read \
Error for blocks that it can't read.`,
  options: { namespaceId: namespaceIdOption(), ...rangeOptions(), ...accessOptions() },
  refused: REFUSED_WITHOUT_DATA,
  examples: [['verify-blocks 0a:00.0 -c 1000000', 'the first million blocks']],
  async run(context) {
    const range = rangeOf(context.options)
    const { options, signal } = context
    const how = { what: 'verify-blocks', bits: accessBits(options), signal }
    await withNamespace(context, (ns) => sendRange(ns, NVM.VERIFY, range, how))
    print(`NVMe Verify Success: ${rangeText(range)}`)
  },
})

const compare = adminCommand({
  name: 'compare',
  group,
  summary: 'Let the device compare blocks with the content of a file',
  details: `The device says only that they differ, and in which command; unvme verify finds the byte. \
Exit code 1: they differ.`,
  options: {
    namespaceId: namespaceIdOption(),
    startBlock: rangeOptions().startBlock,
    blockCount: value(
      'N',
      blockCount,
      'number of blocks (one-based, where nvme-cli has 0 for one block; default: as many as the data has)',
      { short: 'c', also: ['--nlb'] },
    ),
    dataSize: value('SIZE', size({ min: 1 }), 'bytes of data to compare (default: all)', {
      short: 'z',
      also: ['--bytes'],
    }),
    data: valueOr('FILE', text, '-', 'file with the data, or `-` for standard input', {
      short: 'd',
      fallbackText: 'standard input',
    }),
    ...accessOptions(),
  },
  refused: { ...REFUSED_WITH_DATA, '-y <SIZE>': NO_METADATA },
  ignored: ['-t, --latency', '--force'],
  examples: [['compare 0a:00.0 -s 2048 -d boot.bin', 'is the file at block 2048?']],
  async run(context) {
    const { options, signal } = context
    const { startBlock, blockCount, dataSize } = options
    return withOpen(await openData(options.data, signal), async (data) => {
      await withNamespace(context, async (ns) => {
        const counted = blockCount === undefined ? undefined : blockCount * ns.blocksize
        if (counted !== undefined && dataSize !== undefined && counted !== dataSize) {
          throw new UsageError(`--block-count is ${counted} bytes, --data-size ${dataSize}`)
        }
        const length = { bytes: dataSize ?? counted, whole: dataSize === undefined }
        const how = { what: 'compare', bits: accessBits(options), signal }
        const range = await compareRange(ns, startBlock, data, length, how)
        print(`NVMe Compare Success: ${rangeText(range)}`)
      })
    })
  },
})

type DsmOptions = { slbs: number[] | undefined; blocks: number[] | undefined; ctxAttrs: number[] | undefined }

const dsm = adminCommand({
  name: 'dsm',
  group,
  summary: 'Tell the device that blocks are not needed (deallocate), or how they will be used',
  details: 'Up to 256 ranges, as lists with commas: the Nth of --slbs with the Nth of --blocks.',
  options: {
    namespaceId: namespaceIdOption(),
    slbs: value('LBAS', listOf(integer()), 'first block of each range', 's'),
    blocks: value(
      'COUNTS',
      listOf(integer({ min: 1, max: 0xffff_ffff })),
      'number of blocks of each range',
      'b',
    ),
    ctxAttrs: value('DWORDS', listOf(dword), 'context attributes of each range', 'a'),
    ad: flag('deallocate: what the blocks hold is not needed any more', 'd'),
    idw: flag('the ranges will be written as a whole', 'w'),
    idr: flag('the ranges will be read as a whole', 'r'),
    cdw11: value('DWORD', dword, 'dword 11, in place of -d, -w and -r', 'c'),
  },
  examples: [['dsm 0a:00.0 -d -s 0,4096 -b 8,1024', 'deallocate 8 blocks at 0, and 1024 at 4096']],
  async destroys(context) {
    const ranges = dsmRanges(context.options)
    if ((attributesOf(context) & DEALLOCATE) === 0) return undefined
    const which = ranges.length > 4 ? `${ranges.length} ranges` : ranges.map(rangeText).join(', ')
    return `Deallocate ${which}: namespace ${await chosenNamespace(context)}`
  },
  async run(context) {
    const ranges = dsmRanges(context.options)
    const cdw11 = attributesOf(context)
    await withNamespace(context, async (ns) => {
      for (const range of ranges) checkFits(ns, range)
      const data = encodeDsmRanges(ranges)
      const buf = ns.alloc(data.length)
      buf.set(data)
      await ns.promises.cmd({
        opcode: NVM.DATASET_MANAGEMENT,
        buf: buf.subarray(0, data.length),
        cdw10: ranges.length - 1,
        cdw11,
      })
    })
    print(`NVMe DSM: success, ${ranges.length} ${ranges.length === 1 ? 'range' : 'ranges'}`)
  },
})

const DEALLOCATE = encodeDsmAttributes({ ad: true })

function attributesOf({ options }: AdminContext<Specs>): number {
  const { ad, idw, idr, cdw11 } = options as {
    ad: boolean
    idw: boolean
    idr: boolean
    cdw11: number | undefined
  }
  const given = ad || idw || idr
  if (cdw11 !== undefined && given) throw new UsageError('--cdw11 stands in place of -d, -w and -r: give one')
  if (cdw11 === undefined && !given) throw new UsageError('-d, -w or -r says what the ranges are for')
  return cdw11 ?? encodeDsmAttributes({ ad, idw, idr })
}

function dsmRanges({ slbs = [], blocks = [], ctxAttrs }: DsmOptions): (Range & { cattr: number })[] {
  if (slbs.length === 0) throw new UsageError('--slbs and --blocks say which ranges')
  if (slbs.length > DSM_MAX_RANGES)
    throw new UsageError(`${slbs.length} ranges: ${DSM_MAX_RANGES} are the most`)
  if (blocks.length !== slbs.length || (ctxAttrs && ctxAttrs.length !== slbs.length)) {
    throw new UsageError('--slbs, --blocks and --ctx-attrs need as many values each')
  }
  return slbs.map((slba, i) => ({ slba, nlb: blocks[i]!, cattr: ctxAttrs?.[i] ?? 0 }))
}

function rangeOf({ startBlock, blockCount }: { startBlock: number; blockCount: number }): Range {
  return { slba: startBlock, nlb: blockCount }
}

export const ioCommands = [flush, writeZeroes, dsm, compare, verifyBlocks]
