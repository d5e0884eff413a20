// docs/performance.md, made from bench/results.json, which keeps the tables of each benchmark's latest run with
// its machine and date. Trade-off: a benchmark can be run alone, and each section says when and where that was;
// what has never been run has no section.

import fs from 'node:fs'
import path from 'node:path'
import { cellText, goalText, isMet, type Table } from './table.ts'

const ROOT = path.resolve(import.meta.dirname, '../..')
const RESULTS = path.join(ROOT, 'bench/results.json')
const PAGE = path.join(ROOT, 'docs/performance.md')

/** A benchmark's latest run. */
export interface Section {
  date: string
  machine: string
  tables: readonly Table[]
}

export type Results = Record<string, Section>

/** Keeps a run, and makes the page anew. `order` has the names of all benchmarks. */
export function keep(name: string, section: Section, order: readonly string[]): void {
  const results: Results = { ...readResults(), [name]: section }
  const kept = order.filter((known) => results[known] !== undefined)
  const ordered = Object.fromEntries(kept.map((known) => [known, results[known]!]))
  fs.writeFileSync(RESULTS, `${JSON.stringify(ordered, null, 2)}\n`)
  fs.writeFileSync(PAGE, pageOf(ordered))
}

function readResults(): Results {
  return fs.existsSync(RESULTS) ? JSON.parse(fs.readFileSync(RESULTS, 'utf8')) : {}
}

/** The page as Markdown. */
export function pageOf(results: Results): string {
  const sections = Object.entries(results)
  return `${[
    '# Performance',
    'Made by `npm run performance`, which measures for some minutes and writes this page; `npm run performance -- NAME` ' +
      'measures one section anew, `npm run bench -- NAME` prints it only. `vm` has to be named. Figures are medians ' +
      'of five rounds, unless a title says otherwise, in which the rows of a table took turns. Compare within a ' +
      'table: machines differ, and so does one from day to day.',
    summary(sections),
    ...sections.flatMap(([name, section]) => sectionText(name, section)),
  ].join('\n\n')}\n`
}

function summary(sections: readonly (readonly [name: string, section: Section])[]): string {
  const goals = sections.flatMap(([name, { tables }]) =>
    tables.flatMap((table) => (table.goals ?? []).map((goal) => ({ name, title: table.title, goal }))),
  )
  const missed = goals.filter(({ goal }) => !isMet(goal))
  const count =
    `${goals.length} figures have a goal that the project has set itself: ` +
    `${goals.length - missed.length} are met, ${missed.length} missed.`
  if (missed.length === 0) return count
  const lines = missed.map(({ name, title, goal }) => `- [${name}](#${name}), ${title}. ${goalText(goal)}`)
  return `${count}\n\n${lines.join('\n')}`
}

function sectionText(name: string, { date, machine, tables }: Section): string[] {
  // Tables that measure the same in different sizes say what it is once.
  const texts = tables.flatMap((table, i) => tableText(table, table.about !== tables[i - 1]?.about))
  return [`## ${name}`, `${date}, ${machine}.`, ...texts]
}

function tableText(
  { title, about, columns, rows, goals = [], notes = [] }: Table,
  withAbout: boolean,
): string[] {
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`
  const lines = [
    line(['', ...columns.map((column) => column.name)]),
    line(['---', ...columns.map(() => '---:')]),
    ...rows.map((row) => line([row.name, ...row.cells.map((cell, i) => cellText(cell, columns[i]!))])),
  ]
  return [
    `### ${title}`,
    ...(withAbout ? [about] : []),
    ...(rows.length > 0 ? [lines.join('\n')] : []),
    ...notes.map((note) => `${note[0]!.toUpperCase()}${note.slice(1)}.`),
    ...(goals.length > 0 ? [goals.map((goal) => `- ${goalText(goal)}`).join('\n')] : []),
  ]
}
