// One side of the benchmark in the virtual machine: a process that does all works for each message it gets, on the
// device by this driver, or on the block device by fs, and answers with the rates.
// Trade-off: it lives through all rounds, so that its code is compiled once; nothing is given up between them.

import { open } from '../src/index.ts'
import { driverRate } from './vm-driver.ts'
import { kernelRate } from './vm-kernel.ts'
import { type Rate, WORKS, type Work } from './vm-work.ts'

export type Round = { side: 'driver'; address: string } | { side: 'kernel'; path: string; size: number }

const RAW_MS = 1_000
// A stream's steps are long, and its code is compiled twice here, by V8 and by the emulator.
const STREAM_MS = 3_000

const timeFor = ({ kind }: Work): number => (kind === 'raw' ? RAW_MS : STREAM_MS)

async function driverRates(address: string): Promise<Rate[]> {
  await using ns = await open(address, { qsize: 256 })
  const rates: Rate[] = []
  for (const work of WORKS) rates.push(await driverRate(ns, work, timeFor(work)))
  return rates
}

async function kernelRates(path: string, size: number): Promise<Rate[]> {
  const rates: Rate[] = []
  for (const work of WORKS) rates.push(await kernelRate(path, size, work, timeFor(work)))
  return rates
}

process.on('message', async (round: Round) => {
  process.send!(
    round.side === 'driver' ? await driverRates(round.address) : await kernelRates(round.path, round.size),
  )
})
