// Runs in the virtual machine: on the null-backed controller under VFIO, this driver and SPDK's perf do all works in turn,
// each a second at a time. Argument: the program. Writes a table of medians as JSON.
// A processor of the machine is all that either has, and both poll: where this driver finds nothing at many of its
// polls, the emulated controller is the limit, and the ratio says no more than that both keep up with it.

import fs from 'node:fs'
import { open } from '../src/index.ts'
import { medianOf, type Table } from './measure.ts'
import { rawRate, SPDK, spdkRate } from './vm-works.ts'

const NAME = '0000:00:0a.0'
const ROUNDS = Number(process.env.UNVME_BENCH_ROUNDS ?? 5)
// Of 2 MiB: for 8 commands of 1 MiB, and what SPDK keeps beside them.
const HUGE_PAGES = 100

const [program] = process.argv.slice(2)
fs.writeFileSync('/proc/sys/vm/nr_hugepages', String(HUGE_PAGES))

const rounds: { mine: number; theirs: number; empty: number }[][] = []
// One round to warm up.
for (let round = 0; round <= ROUNDS; round++) {
  const figures = []
  for (const work of SPDK) {
    const theirs = spdkRate(program!, `trtype:PCIe traddr:${NAME}`, work)
    await using ns = await open(NAME, { qsize: 256 })
    const { rate } = rawRate(ns, work)
    const { polls, emptyPolls } = ns.stats
    figures.push({ mine: rate, theirs, empty: emptyPolls / polls })
  }
  rounds.push(figures)
}
rounds.shift()
const rows = SPDK.map(({ name }, i) => {
  const of = (figure: 'mine' | 'theirs' | 'empty') => medianOf(rounds.map((round) => round[i]![figure]))
  const [mine, theirs] = [of('mine'), of('theirs')]
  return { name, cells: [mine, theirs, mine / theirs, of('empty')] }
})
const names = ['unvme', 'SPDK', 'ratio', 'empty polls']
const table: Table = {
  title: `Transfers a second in the virtual machine, beside SPDK, medians of ${ROUNDS} rounds`,
  columns: names.map((name, i) => ({ name, digits: i < 2 ? 0 : 2 })),
  rows,
}
fs.writeSync(1, JSON.stringify(table))
