// Reads a few blocks and prints them as a hex dump; with --write it fills them with a pattern before.
//
//   node dist/examples/unvme/rw.js ADDR [--lba LBA] [--nlb N] [--write PATTERN]

import { printDump } from './support/dump.ts'
import { integer, print, program, value, valueOr } from './support/program.ts'
import { fillWords, word } from './support/words.ts'

await program({
  name: 'rw',
  summary: 'Read a few blocks, or write and read them, and print them in hex',
  options: {
    write: value('PATTERN', word, 'write this 64-bit word over and over, and read it back', 'w'),
    lba: valueOr('LBA', integer(), 0, 'first block', 'a'),
    nlb: valueOr('N', integer({ min: 1, max: 65536 }), 1, 'blocks', 'n'),
  },
  examples: [
    ['0a:00.0 -n 2', 'the first two blocks'],
    ['sim:disk.img -a 8 -w 0xdeadbeef', 'write a block, and look at it'],
  ],
  quiet: true,
  overwrites: ({ write, nlb }, ns) => (write === undefined ? 0 : nlb * ns.blocksize),
  async run({ ns, options }) {
    const { lba, nlb, write } = options
    const buf = ns.alloc(nlb * ns.blocksize)
    if (write !== undefined) {
      ns.write(0, fillWords(buf, { first: write, increment: 0n }, 0), lba, nlb)
      print(`${nlb} blocks written from LBA ${lba} on`)
    }
    ns.read(0, buf.fill(0), lba, nlb)
    printDump(buf, lba * ns.blocksize)
    ns.free(buf)
  },
})
