// Runs in the virtual machine: the null-backed controller stays with the kernel's driver, and three ways to it do all works
// in turn: this driver, fs, and fio's io_uring_cmd engine. Writes a table of medians as JSON.

import { spawnSync } from 'node:child_process'
import fs from 'node:fs'
import * as setup from '../src/setup/index.ts'
import { medianOf, type Table } from './measure.ts'
import { RAW, type Rate, rawRates, type Work } from './vm-works.ts'

const NAME = '0000:00:0a.0'
const ROUNDS = Number(process.env.UNVME_BENCH_ROUNDS ?? 5)
const FIO_SECONDS = 1

const device = setup.listDevices(setup.thisMachine()).find(({ name }) => name === NAME)!
const { block, generic, size } = device.namespaces[0]!

/** As many in flight, sent and taken in batches as large as there are. */
function fioRate({ write, bytes, depth, name }: Work): Rate {
  const pattern = name.includes('random') ? `rand${write ? 'write' : 'read'}` : write ? 'write' : 'read'
  const words = [
    ...['--name=one', `--filename=/dev/${generic}`, '--ioengine=io_uring_cmd', '--cmd_type=nvme', '--thread'],
    ...[`--rw=${pattern}`, `--bs=${bytes}`, `--iodepth=${depth}`, '--norandommap', '--size=4g'],
    ...[`--iodepth_batch_submit=${depth}`, `--iodepth_batch_complete_max=${depth}`],
    ...['--time_based', `--runtime=${FIO_SECONDS}`, '--output-format=json'],
  ]
  const { status, stdout } = spawnSync('fio', words, { encoding: 'utf8' })
  // The emulated controller loses a command now and then; the kernel cancels it, and fio ends.
  if (status !== 0) return { rate: Number.NaN }
  const [job] = JSON.parse(stdout.slice(stdout.indexOf('{'))).jobs
  return { rate: (write ? job.write : job.read).iops }
}

// So that this takes a second each time, and not half a minute.
fs.writeFileSync('/sys/module/nvme_core/parameters/io_timeout', '1')

// As many transfers as a file of 4 GiB has, whichever way.
const side = { block: `/dev/${block}`, size }
const rounds: Rate[][][] = []
// One round to warm up.
for (let round = 0; round <= ROUNDS; round++) {
  const mine = await rawRates({ address: `/dev/${generic}` })
  const file = await rawRates(side)
  rounds.push([mine, file, RAW.map(fioRate)])
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
