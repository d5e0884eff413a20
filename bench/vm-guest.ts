// Runs in the virtual machine: the null-backed controller goes from VFIO to the kernel's driver and back, and each
// has all works in turn; prints medians and their ratios. Trade-off: one process for both sides, so that the
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
import { driverRate } from './vm-driver.ts'
import { kernelRate } from './vm-kernel.ts'
import { type Rate, WORKS } from './vm-work.ts'

const NAME = '0000:00:0a.0'
const ROUNDS = Number(process.env.UNVME_BENCH_ROUNDS ?? 3)
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

const median = (rates: readonly number[]) => [...rates].sort((a, b) => a - b)[rates.length >> 1]!
const perSecond = (rate: number) => Math.round(rate).toString().padStart(9)

function print(driver: readonly Rate[][], kernel: readonly Rate[][]): void {
  const width = Math.max(...WORKS.map(({ name }) => name.length))
  const title = 'Transfers a second on the null-backed controller of the virtual machine'
  console.log(`\n${title}, medians of ${driver.length} rounds`)
  console.log(`  ${''.padEnd(width)}     unvme        fs   ratio`)
  for (const [i, { name }] of WORKS.entries()) {
    const ours = driver.map((round) => round[i]!)
    const theirs = kernel.map((round) => round[i]!)
    const [a, b] = [median(ours.map(({ rate }) => rate)), median(theirs.map(({ rate }) => rate))]
    const occupancies = ours.flatMap(({ occupancy }) => (occupancy === undefined ? [] : [occupancy]))
    const stalls = theirs.filter(({ stalled }) => stalled).length
    const notes = [
      ...(occupancies.length > 0 ? [`occupancy ${median(occupancies).toFixed(2)}`] : []),
      ...(stalls > 0 ? [`the kernel's driver stalled in ${stalls}`] : []),
    ]
    const ratio = `${(a / b).toFixed(1)} x`.padStart(8)
    console.log(
      `  ${name.padEnd(width)} ${perSecond(a)} ${perSecond(b)}${ratio}  ${notes.join(', ')}`.trimEnd(),
    )
  }
}

const driver: Rate[][] = []
const kernel: Rate[][] = []
// One round of each to warm up.
for (let round = 0; round <= ROUNDS; round++) {
  driver.push(await driverRound())
  kernel.push(await kernelRound())
}
print(driver.slice(1), kernel.slice(1))
