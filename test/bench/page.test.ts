import fs from 'node:fs'
import test from 'ava'
import { pageOf, type Results } from '../../bench/page.ts'
import { atLeast, atMost, goalText } from '../../bench/table.ts'

test('docs/performance.md is what bench/results.json says', (t) => {
  const results = JSON.parse(fs.readFileSync('bench/results.json', 'utf8')) as Results
  t.is(fs.readFileSync('docs/performance.md', 'utf8'), pageOf(results))
})

test('a goal is met or missed by its figure', (t) => {
  t.is(goalText(atLeast('rate', 1.699, 1.7, 'x')), 'rate: 1.699 x, asked at least 1.7 x: missed')
  t.is(goalText(atLeast('rate', 1.7, 1.7, 'x')), 'rate: 1.7 x, asked at least 1.7 x: met')
  t.is(goalText(atMost('delay', 12.346, 5, 'ms')), 'delay: 12.35 ms, asked at most 5 ms: missed')
  t.is(goalText(atMost('scavenges', 0, 0)), 'scavenges: 0, asked at most 0: met')
})

test('a page has the machine, each table and the goals that were missed', (t) => {
  const table = {
    title: 'Rates',
    about: 'How fast.',
    columns: [{ name: 'M/s', digits: 1 }],
    rows: [
      { name: 'one', cells: [1.25] },
      { name: 'two', cells: [null] },
    ],
    goals: [atLeast('one', 1.25, 2, 'M/s'), atLeast('two', 3, 2)],
    notes: ['something was left out'],
  }
  const page = pageOf({ rates: { date: '2026-01-02', machine: 'a machine', tables: [table] } })
  for (const part of [
    '2 figures have a goal that the project has set itself: 1 are met, 1 missed.',
    '- [rates](#rates), Rates. one: 1.25 M/s, asked at least 2 M/s: missed',
    '## rates\n\n2026-01-02, a machine.\n\n### Rates\n\nHow fast.',
    '|  | M/s |\n| --- | ---: |\n| one | 1.3 |\n| two |  |',
    'Something was left out.',
  ]) {
    t.true(page.includes(part), `${part} in\n${page}`)
  }
})
