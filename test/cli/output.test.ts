import test from 'ava'
import { fields, table } from '../../src/cli/output.ts'
import { unvme } from './command.ts'

test('tables align their columns and end no line in blanks', (t) => {
  const rows = [
    { name: 'a', size: 5 },
    { name: 'longer', size: 1234 },
  ]
  const text = table(
    [
      { title: 'Size', right: true, text: (row) => String(row.size) },
      { title: 'Name', text: (row) => row.name },
    ],
    rows,
  )
  t.is(text, ['Size  Name', '----  ------', '   5  a', '1234  longer'].join('\n'))
})

test('fields line up as in nvme-cli', (t) => {
  t.is(
    fields([
      ['vid', '0x1b36'],
      ['mdts', 7],
    ]),
    'vid  : 0x1b36\nmdts : 7',
  )
})

test('no colour where nobody looks', async (t) => {
  const { stdout } = await unvme(['list'])
  // biome-ignore lint/suspicious/noControlCharactersInRegex: the escape character is what is looked for
  t.notRegex(stdout, /\u001b/)
})
