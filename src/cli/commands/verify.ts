// `unvme verify`: compares files and devices, and shows the first difference.
// Trade-off: it stops at the first: that is where a copy went wrong.

import { argument, defineCommand, outputOption, value } from '../define.ts'
import { print, printJson } from '../output.ts'
import { integer, text } from '../parse.ts'
import {
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
    const { compareSides, compareTotal, planCompare } = await import('../../copy/compare.ts')
    const { slba, dstSlba, namespaceId: nsid, chunk, depth, jobs } = options
    const a = await openSource(args.a, { slba, nsid, signal, jobs })
    try {
      const b = await openSource(args.b, { slba: dstSlba, nsid, signal, jobs })
      try {
        const bytes = planCompare(a, b, { bytes: lengthOf(options, [a, b]), chunk, depth })
        const { difference, ...result } = await withProgress(
          'verify',
          compareTotal(a, b, bytes),
          (onProgress) => compareSides(a, b, bytes, { chunk, depth, jobs, signal, onProgress }),
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
      } finally {
        await b.close()
      }
    } finally {
      await a.close()
    }
  },
})
