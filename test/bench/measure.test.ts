import test from 'ava'
import { compare, medianOf, medians } from '../../bench/measure.ts'

/** A row that gives one figure after another, the first of which is its warm-up. */
function row(name: string, figures: readonly number[]) {
  let round = 0
  return { name, run: () => [figures[round++]!] }
}

test('compare has median, lowest, highest, and the ratio to the first row, without the round to warm up', async (t) => {
  const { rows, columns } = await compare('rates', { name: 'M/s', digits: 2 }, [
    row('yardstick', [900, 4, 2, 1, 3, 5]),
    row('measured', [0, 6, 6, 6, 12, 1]),
  ])
  t.deepEqual(rows, [
    { name: 'yardstick', cells: [3, 1, 5, 1] },
    { name: 'measured', cells: [6, 1, 12, 2] },
  ])
  t.deepEqual(
    columns.map(({ name }) => name),
    ['M/s', 'lowest', 'highest', 'ratio'],
  )
})

test('medians has the median of each column, of rows that run in turn', async (t) => {
  const order: string[] = []
  let at = 0
  const run = (name: string) => {
    order.push(name)
    return [at++, -at]
  }
  const columns = ['a', 'b'].map((name) => ({ name, digits: 0 }))
  const { rows } = await medians('two', columns, [
    { name: 'x', run: () => run('x') },
    { name: 'y', run: () => run('y') },
  ])
  t.is(order.join(''), 'xy'.repeat(6))
  t.deepEqual(
    rows.map(({ cells }) => cells),
    [
      [6, -7],
      [7, -8],
    ],
  )
})

test('medianOf sorts by number', (t) => {
  t.is(medianOf([10, 9, 100]), 10)
})
