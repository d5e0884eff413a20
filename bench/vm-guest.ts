// Runs in the virtual machine: the null-backed controller goes from VFIO to the kernel's driver and back, and each
// has all works in turn; writes a table of medians as JSON. Trade-off: one process for both sides, so that the
// compiler has seen both as often.

import { open } from '../src/index.ts'
import {
  bindSteps,
  blockDevices,
  listDevices,
  loadSteps,
  perform,
  resetSteps,
  thisMachine,
} from '../src/setup/index.ts'
import { medianOf } from './measure.ts'
import { atLeast, type Table } from './table.ts'
import { driverRate } from './vm-driver.ts'
import { kernelRate } from './vm-kernel.ts'
import { type Rate, WORKS } from './vm-work.ts'

const NAME = '0000:00:0a.0'
const ROUNDS = Number(process.env.UNVME_BENCH_ROUNDS ?? 5)
const RAW_MS = 1_000

const machine = thisMachine()
const device = () => listDevices(machine).find(({ name }) => name === NAME)!

async function driverRound(): Promise<Rate[]> {
  await perform(machine, [...loadSteps(machine), ...bindSteps(machine, device())])
  await using ns = await open(NAME, { qsize: 256 })
  const rates: Rate[] = []
  for (const work of WORKS) rates.push(await driverRate(ns, work, RAW_MS))
  return rates
}

async function kernelRound(): Promise<Rate[]> {
  await perform(machine, resetSteps(machine, device()))
  const [block] = blockDevices(machine, NAME)
  const { size } = device().namespaces[0]!
  const rates: Rate[] = []
  for (const work of WORKS) rates.push(await kernelRate(`/dev/${block}`, size, work, RAW_MS))
  return rates
}

const ABOUT =
  "This driver beside Node's own way, fs on the block device of the kernel's driver, on the same emulated " +
  'controller, which stores nothing and reads zeroes. fs.read and fs.write go past the page cache, with as many ' +
  'in flight; fs.createReadStream and fs.createWriteStream go through it. The machine is emulated: ratios count.'

function tableOf(driver: readonly Rate[][], kernel: readonly Rate[][]): Table {
  const notes: string[] = []
  const rows = WORKS.map(({ name }, i) => {
    const ours = driver.map((round) => round[i]!)
    const theirs = kernel.map((round) => round[i]!)
    const [a, b] = [medianOf(ours.map(({ rate }) => rate)), medianOf(theirs.map(({ rate }) => rate))]
    const occupancies = ours.flatMap(({ occupancy }) => (occupancy === undefined ? [] : [occupancy]))
    const stalls = theirs.filter(({ stalled }) => stalled).length
    if (stalls > 0) notes.push(`${name}: the kernel's driver stalled in ${stalls} of ${theirs.length} rounds`)
    return { name, cells: [a, b, a / b, occupancies.length > 0 ? medianOf(occupancies) : null] }
  })
  return {
    title: `Transfers a second in the virtual machine, medians of ${driver.length} rounds`,
    about: ABOUT,
    columns: [
      { name: 'unvme', digits: 0 },
      { name: 'fs', digits: 0 },
      { name: 'ratio', digits: 1 },
      { name: 'occupancy', digits: 2 },
    ],
    rows,
    goals: WORKS.flatMap(({ name, goal }, i) =>
      goal === undefined ? [] : [atLeast(name, rows[i]!.cells[2]!, goal, 'x')],
    ),
    notes,
  }
}

const driver: Rate[][] = []
const kernel: Rate[][] = []
// One round of each to warm up.
for (let round = 0; round <= ROUNDS; round++) {
  driver.push(await driverRound())
  kernel.push(await kernelRound())
}
process.stdout.write(JSON.stringify(tableOf(driver.slice(1), kernel.slice(1))))
