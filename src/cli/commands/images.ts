// `unvme bmap` and `unvme wipe`: what comes before an image is written, and after a device has served.

import { UsageError } from '../../../lib/errors.ts'
import { WIPE_METHODS } from '../../copy/choices.ts'
import type { WipeRecord } from '../../copy/wipe.ts'
import { adminCommand, chosenNamespace, namespaceIdOption } from '../admin/command.ts'
import { progressOptions, withReports } from '../copying.ts'
import { openOutput, withOpen } from '../data.ts'
import { argument, choice, defineCommand, optionalArgument, outputOption, value, valueOr } from '../define.ts'
import { bytesText, print, printJson } from '../output.ts'
import { integer, text } from '../parse.ts'
import { type Look, waitUntilOver } from '../progress.ts'
import { PLACES } from '../transfer.ts'

export const blockMap = defineCommand({
  name: 'bmap',
  group: 'Data',
  summary: 'Make the block map of an image, which says what of it has to be written',
  details: `${PLACES} Of a file with holes its data is mapped, of anything else what is not zeroes. The map is one of bmaptool's \
version 2.0, with a checksum for each range; unvme copy and bmaptool heed it beside the image.`,
  arguments: {
    source: argument('SRC', text, 'image or device to read'),
    file: optionalArgument('FILE', text, 'file to write, or `-` (default: SRC.bmap)'),
  },
  options: { ...progressOptions() },
  examples: [
    ['bmap disk.img', 'disk.img.bmap beside it'],
    ['bmap sim:disk.img -', 'of a device, to standard output'],
  ],
  async run({ args, options, signal }) {
    const { isAddress, openSource } = await import('../../copy/endpoint-spec.ts')
    const { makeBlockMap } = await import('../../copy/make-map.ts')
    if (args.file === undefined && (isAddress(args.source) || args.source === '-')) {
      throw new UsageError(`FILE says where to write the map of ${args.source}; \`-\` is standard output`)
    }
    return withOpen(await openSource(args.source, { signal }), (source) =>
      withOpen(source, async () => {
        const file = args.file ?? `${args.source}.bmap`
        const image = { identity: source.file, name: 'the image' }
        await withOpen(await openOutput(file, [image]), async (output) => {
          const map = await withReports('bmap', source.size, options, ({ onReport }) =>
            makeBlockMap(source, { signal, onReport }),
          )
          await output.write(map)
        })
      }),
    )
  },
})

export const wipe = adminCommand({
  name: 'wipe',
  group: 'Data',
  summary: 'Wipe a namespace or a device, and say with what proof',
  details: `auto is Format NVM with a cryptographic erase, or of user data, where the device has that for the namespace alone, \
and else zeroes: written as data, and all read back from the medium. The sanitize methods wipe every namespace of the device, \
also what a format can not reach, and go on by themselves once started. Blocks are marked before, and read afterwards: exit \
code 1 where one still has its mark, or the device says that it failed.`,
  options: {
    namespaceId: namespaceIdOption('namespace (default: the only one)'),
    method: choice(WIPE_METHODS, 'how', { short: 'm' }),
    samples: valueOr('N', integer({ max: 65536 }), 64, 'blocks to mark before and to read afterwards'),
    record: value('FILE', text, 'write what was done to FILE, as JSON'),
    output: outputOption(),
  },
  examples: [
    ['wipe 0a:00.0 --record 0a.json', 'the best way that the device has for the namespace'],
    ['wipe 0a:00.0 -m sanitize-block --yes', 'the whole device, without a question'],
    ['wipe sim:disk.img -m zeroes', 'the software controller, which asks nothing'],
  ],
  async destroys(context) {
    const { planWipe } = await import('../../copy/wipe.ts')
    const { method, scope } = await planWipe(context.handle, context.options.method)
    const which = scope === 'namespace' ? `namespace ${await chosenNamespace(context)}` : scope
    return `Wipe by ${method}: ${which}`
  },
  async run(context) {
    const { wipe } = await import('../../index.ts')
    const { handle, options, signal } = context
    const nsid = await chosenNamespace(context)
    const { method, samples, output } = options
    const run = async (record: { write(data: string): Promise<void> } | undefined) => {
      let share = 0
      let over = false
      const onProgress = (now: number) => {
        share = now
      }
      const wiping = wipe(handle, nsid, { method, samples, signal, onProgress }).finally(() => {
        over = true
      })
      // The one shows how far the other is; what fails is the wiping's.
      const look = async (): Promise<Look> => (over ? 'over' : share)
      const shown = waitUntilOver('Wipe', look, signal).catch(() => {})
      const done = await wiping
        .finally(() => shown)
        .catch(async (error: Error & { record?: WipeRecord }) => {
          if (error.record) await record?.write(`${JSON.stringify(error.record, null, 2)}\n`)
          throw error
        })
      await record?.write(`${JSON.stringify(done, null, 2)}\n`)
      return done
    }
    const done =
      options.record === undefined
        ? await run(undefined)
        : await withOpen(await openOutput(options.record), run)
    if (output === 'json') printJson(done)
    else {
      const { samples: found, seconds, device, reason, overwritten, sanitize, scope } = done
      const size = bytesText(device.blocks * device.blocksize)
      const what = scope === 'namespace' ? `namespace ${device.nsid}, ${size}` : scope
      print(
        `${done.result}: ${device.model}, ${device.serial}, ${what}: ${done.method} in ${seconds.toFixed(2)} s`,
      )
      if (sanitize !== undefined) print(`sanitize: ${sanitize.status}`)
      if (overwritten !== undefined) {
        const { written, verified } = overwritten
        print(`${bytesText(written)} of zeroes written, ${bytesText(verified)} read back as zeroes`)
      }
      print(
        `${found.blocks} blocks were marked: ${found.marked} have their mark, ${found.zeroes} are zeroes, ${found.ones} are FFh, ${found.other} are something else, ${found.unreadable} can not be read`,
      )
      if (reason !== undefined) print(`failed: ${reason}`)
    }
    return done.result === 'wiped' ? 0 : 1
  },
})
