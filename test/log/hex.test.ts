import test from 'ava'
import fc from 'fast-check'
import { hexDump, hexDumper, hexRow } from '../../lib/log/index.ts'

test('a row that is not full keeps its columns', (t) => {
  t.is(
    hexRow(0x1234, Buffer.from('short ~\x7f\x80', 'latin1')),
    '00001234  73 68 6f 72 74 20 7e 7f  80                       |short ~..|',
  )
  t.is(hexRow(2 ** 40, Buffer.from([0])).split(' ')[0], '10000000000')
})

// What `hexdump -C` of util-linux prints.
const zeroes = '00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|'
const dumps: [title: string, data: Buffer, text: string][] = [
  ['nothing', Buffer.alloc(0), '00000000\n'],
  [
    'one byte',
    Buffer.from('x'),
    '00000000  78                                                |x|\n00000001\n',
  ],
  [
    'rows that repeat, and a part of one',
    Buffer.alloc(100),
    `00000000  ${zeroes}\n*\n00000060  00 00 00 00                                       |....|\n00000064\n`,
  ],
  [
    'a row among those that repeat',
    Buffer.concat([Buffer.alloc(48), Buffer.from('0123456789abcdef'), Buffer.alloc(32)]),
    `00000000  ${zeroes}\n*\n00000030  30 31 32 33 34 35 36 37  38 39 61 62 63 64 65 66  |0123456789abcdef|\n` +
      `00000040  ${zeroes}\n*\n00000060\n`,
  ],
]
for (const [title, data, text] of dumps) {
  test(`the dump of ${title}`, (t) => t.is(hexDump(data), text))
}

test('it begins at a position', (t) => {
  t.is(hexDump(Buffer.from('A'), 0x200).split('\n')[1], '00000201')
})

test('the same dump however the bytes are cut', (t) => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ max: 50, maxLength: 50 })), (parts) => {
      const dumper = hexDumper(0)
      const lines = parts.map((part) => dumper.add(part)).join('') + dumper.end()
      t.is(lines, hexDump(Buffer.concat(parts)))
    }),
  )
})
