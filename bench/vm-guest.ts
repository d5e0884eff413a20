// Runs in the virtual machine: the null-backed controller goes from VFIO to the kernel's driver and back, and each
// does all works in turn; writes a table of medians as JSON. With an argument it does the work of one stream.
// A new process for each stream, so that none has another's garbage to collect, which takes this machine's
// one processor.

import { execFileSync } from 'node:child_process'
import * as setup from '../src/setup/index.ts'
import { medianOf, type Table } from './measure.ts'
import { RAW, type Rate, rawRates, type Side, STREAMS, streamRate, type Work } from './vm-works.ts'

const NAME = '0000:00:0a.0'
const ROUNDS = Number(process.env.UNVME_BENCH_ROUNDS ?? 5)

async function ratesOf(side: Side): Promise<Rate[]> {
  const rates = await rawRates(side)
  for (const work of STREAMS) {
    const argument = JSON.stringify({ side, work })
    const answer = execFileSync(process.execPath, [import.meta.filename, argument], { encoding: 'utf8' })
    rates.push(JSON.parse(answer))
  }
  return rates
}

async function compareSides(): Promise<Table> {
  const machine = setup.thisMachine()
  const device = () => setup.listDevices(machine).find(({ name }) => name === NAME)!
  const rounds: { mine: Rate[]; theirs: Rate[] }[] = []
  // One round to warm up.
  for (let round = 0; round <= ROUNDS; round++) {
    await setup.perform(machine, [...setup.loadSteps(machine), ...setup.bindSteps(machine, device())])
    const mine = await ratesOf({ address: NAME })
    await setup.perform(machine, setup.resetSteps(machine, device()))
    const block = `/dev/${setup.blockDevices(machine, NAME)[0]}`
    rounds.push({ mine, theirs: await ratesOf({ block, size: device().namespaces[0]!.size }) })
  }
  rounds.shift()
  const rows = [...RAW, ...STREAMS].map(({ name }, i) => {
    const mine = medianOf(rounds.map((round) => round.mine[i]!.rate))
    const theirs = medianOf(rounds.map((round) => round.theirs[i]!.rate))
    const occupancies = rounds.flatMap((round) => round.mine[i]!.occupancy ?? [])
    const occupancy = occupancies.length > 0 ? medianOf(occupancies) : null
    return { name, cells: [mine, theirs, mine / theirs, occupancy] }
  })
  const columns = ['unvme', 'fs', 'ratio', 'occupancy'].map((name, i) => ({ name, digits: [0, 0, 1, 2][i]! }))
  const title = `Transfers a second in the virtual machine, medians of ${ROUNDS} rounds`
  return { title, columns, rows }
}

const [argument] = process.argv.slice(2)
const given: { side: Side; work: Work } | null = argument === undefined ? null : JSON.parse(argument)
const answer = given === null ? await compareSides() : await streamRate(given.side, given.work)
process.stdout.write(JSON.stringify(answer))
