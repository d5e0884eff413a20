// Runs in the virtual machine: the null-backed controller stays with the kernel's driver, and three ways to it do all works
// in turn: this driver, fs, and fio's io_uring_cmd engine. Writes a table of medians as JSON.

import fs from 'node:fs'
import * as setup from '../src/setup/index.ts'
import { medianOf, type Table } from './measure.ts'
import { fioRate, RAW, type Rate, rawRates } from './vm-works.ts'

const NAME = '0000:00:0a.0'
const ROUNDS = Number(process.env.UNVME_BENCH_ROUNDS ?? 5)
const FIO_SECONDS = 1

const device = setup.listDevices(setup.thisMachine()).find(({ name }) => name === NAME)!
const { block, generic, size } = device.namespaces[0]!

const FIO = [`--filename=/dev/${generic}`, '--ioengine=io_uring_cmd', '--cmd_type=nvme', '--size=4g']

// So that this takes a second each time, and not half a minute.
fs.writeFileSync('/sys/module/nvme_core/parameters/io_timeout', '1')

// As many transfers as a file of 4 GiB has, whichever way.
const side = { block: `/dev/${block}`, size }
const rounds: Rate[][][] = []
// One round to warm up.
for (let round = 0; round <= ROUNDS; round++) {
  const mine = await rawRates({ address: `/dev/${generic}` })
  const file = await rawRates(side)
  rounds.push([mine, file, RAW.map((work) => fioRate(work, FIO_SECONDS, FIO))])
}
rounds.shift()
const ratesOf = (way: number, work: number) =>
  medianOf(rounds.map((round) => round[way]![work]!.rate).filter((rate) => !Number.isNaN(rate)))
const rows = RAW.map(({ name }, i) => {
  const [mine, file, fio] = [0, 1, 2].map((way) => ratesOf(way, i))
  return { name, cells: [mine!, file!, fio!, mine! / file!, mine! / fio!] }
})
const names = ['unvme', 'fs', 'fio', 'to fs', 'to fio']
const table: Table = {
  title: `Transfers a second through the kernel's driver in the virtual machine, medians of ${ROUNDS} rounds`,
  columns: names.map((name, i) => ({ name, digits: i < 3 ? 0 : 2 })),
  rows,
}
fs.writeSync(1, JSON.stringify(table))
