// One job of a benchmark on a file or a kernel block device, on a thread of its own: see run.ts.
// It uses the descriptor of the thread that opened the file, who alone can have a block device for itself.

import { parentPort, workerData } from 'node:worker_threads'
import { packError } from '../shares/protocol.ts'
import type { TaskMessage } from '../threads/spread.ts'
import { createFileEngine } from './file-engine.ts'
import { type Board, runJob } from './job.ts'
import type { JobPlan } from './plan.ts'
import { waitForGo } from './start.ts'

export interface FileJob {
  readonly fd: number
  readonly plan: JobPlan
  readonly board: Board
}

const post = (message: TaskMessage) => parentPort!.postMessage(message)
const { fd, plan, board } = workerData as FileJob
try {
  const engine = createFileEngine(fd, plan.iodepth, plan.bs)
  post({ kind: 'message', message: 'ready' })
  await waitForGo(board)
  const result = await runJob(plan, engine, board)
  await engine.close()
  post({ kind: 'result', result })
} catch (error) {
  post({ kind: 'error', error: packError(error) })
}
