// One job of a benchmark on a device, on a thread of its own: see run.ts.

import { task } from '../threads/index.ts'
import { createDeviceEngine } from './engine.ts'
import { type Board, runJob } from './job.ts'
import type { JobPlan } from './plan.ts'
import { waitForGo } from './start.ts'

/** What `spread` gives to each. */
export interface DeviceJobs {
  readonly plans: readonly JobPlan[]
  readonly board: Board
}

await task(async ({ ns, index, data, signal, send }) => {
  const { plans, board } = data as DeviceJobs
  const plan = plans[index]!
  const engine = createDeviceEngine(ns, 0, plan.iodepth, plan.bs)
  send('ready')
  await waitForGo(board, signal)
  return runJob(plan, engine, board)
})
