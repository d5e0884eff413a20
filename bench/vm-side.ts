// A part of one side of the benchmark in the virtual machine: a process that does its works for each message it gets, on
// the device by this driver, or on the block device by fs, and answers with the rates.
// Trade-off: raw works are done by one that lives through all rounds, so that its code is compiled once; a stream by a
// new one each time, as in a program that does nothing else, and it runs for a while before it counts.

import { open } from '../src/index.ts'
import { driverRate } from './vm-driver.ts'
import { kernelRate } from './vm-kernel.ts'
import { type Part, partOf, type Rate, WORKS, type Work } from './vm-work.ts'

export type Round = { side: 'driver'; address: string } | { side: 'kernel'; path: string; size: number }

export type Message = Round & { part: Part }

// A stream's steps are long, and its code is compiled twice here, by V8 and by the emulator: that takes some seconds.
const TIMES = { raw: { warmMs: 0, ms: 1_000 }, stream: { warmMs: 6_000, ms: 3_000 } } as const

/** Does the work, for a while without counting it. */
async function warmly(work: Work, rate: (ms: number) => Promise<Rate> | Rate): Promise<Rate> {
  const { warmMs, ms } = TIMES[work.kind]
  if (warmMs > 0) await rate(warmMs)
  return await rate(ms)
}

async function driverRates(works: readonly Work[], address: string): Promise<Rate[]> {
  await using ns = await open(address, { qsize: 256 })
  const rates: Rate[] = []
  for (const work of works) rates.push(await warmly(work, (ms) => driverRate(ns, work, ms)))
  return rates
}

async function kernelRates(works: readonly Work[], path: string, size: number): Promise<Rate[]> {
  const rates: Rate[] = []
  for (const work of works) rates.push(await warmly(work, (ms) => kernelRate(path, size, work, ms)))
  return rates
}

process.on('message', async (message: Message) => {
  const works = WORKS.filter((work) => partOf(work) === message.part)
  process.send!(
    message.side === 'driver'
      ? await driverRates(works, message.address)
      : await kernelRates(works, message.path, message.size),
  )
})
