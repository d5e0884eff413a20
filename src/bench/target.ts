// What a benchmark can run on: a device by the driver, or a file or kernel block device by Node's fs.
// One job on a device stays in the main thread, where an inline software controller lives; everything
// else has a thread for each job.

import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import { UsageError } from '../../lib/errors.ts'
import { isAddress } from '../copy/endpoint-spec.ts'
import type { Namespace } from '../namespace/namespace.ts'
import { openController } from '../open.ts'
import { unpackError } from '../shares/protocol.ts'
import { fileIdentity } from '../system/writable.ts'
import type { TaskMessage } from '../threads/spread.ts'
import { spread } from '../threads/spread.ts'
import { createDeviceEngine } from './engine.ts'
import { type FileOptions, openFile } from './file-engine.ts'
import type { FileJob } from './file-worker.ts'
import { type Board, type JobResult, runJob } from './job.ts'
import { type BenchOptions, type JobPlan, type TargetFacts, writes } from './plan.ts'
import { go, stop } from './start.ts'
import type { DeviceJobs } from './worker.ts'

export interface BenchTarget extends TargetFacts {
  /** What does the I/O, as fio's ioengine: `unvme`, `node-fs`, `node-fs (buffered)`. */
  readonly engine: string
  /** Model and serial number, or what kind of file it is. */
  readonly description: string
  /** Identity of the file, or of a software controller's image: see `fileIdentity`. */
  readonly file: string | undefined
  /** True where what is written is lost for somebody: not a software controller's. */
  readonly precious: boolean
  /** Runs one job for each plan. `onStart` is called when all begin. */
  run(plans: readonly JobPlan[], board: Board, onStart: () => void): Promise<JobResult[]>
  close(): Promise<void>
}

export interface TargetOptions
  extends Pick<BenchOptions, 'rw' | 'bs' | 'iodepth' | 'numjobs'>,
    Omit<FileOptions, 'write'> {
  readonly nsid?: number | undefined
}

/**
 * Opens an address, or the path of a file or block device.
 * Throws InUseError for one that is to be written and in use, unless `force`.
 */
export async function openBenchTarget(name: string, options: TargetOptions): Promise<BenchTarget> {
  if (!isAddress(name)) return openPath(name, options)
  if (options.direct === false) {
    throw new UsageError(`${name} has no page cache: --direct=0 is for files and block devices of the kernel`)
  }
  return openDevice(name, options)
}

const DEFAULT_QSIZE = 256

async function openDevice(address: string, options: TargetOptions): Promise<BenchTarget> {
  const { numjobs, iodepth, bs, nsid, force = false } = options
  const how = { threads: numjobs > 1, force, ...(nsid !== undefined && { nsid }) }
  const handle = await openController(address, how)
  try {
    const { cap, maxTransferBytes } = handle.controller
    const commands = iodepth * Math.ceil(bs / maxTransferBytes)
    const qsize = Math.min(cap.mqes, Math.max(DEFAULT_QSIZE, commands + 1))
    const [first] = await handle.namespaces()
    const ns = await handle.openNamespace(handle.nsid ?? first ?? 1, { qcount: numjobs, qsize })
    return deviceTarget(ns)
  } finally {
    await handle.close()
  }
}

function deviceTarget(ns: Namespace): BenchTarget {
  const { kind, emulated, image } = ns.controller.transport
  return {
    name: ns.device,
    bytes: ns.blockcount * ns.blocksize,
    blocksize: ns.blocksize,
    engine: 'unvme',
    description: `namespace ${ns.id} of ${ns.mn}, ${ns.sn}, ${kind}`,
    file: image,
    precious: !emulated,
    run: (plans, board, onStart) =>
      plans.length === 1 ? runHere(ns, plans[0]!, board, onStart) : runSpread(ns, plans, board, onStart),
    close: () => ns.close(),
  }
}

async function runHere(
  ns: Namespace,
  plan: JobPlan,
  board: Board,
  onStart: () => void,
): Promise<JobResult[]> {
  const engine = createDeviceEngine(ns, 0, plan.iodepth, plan.bs)
  onStart()
  const result = await runJob(plan, engine, board)
  // What a command without an answer has can't be given back before the controller is closed.
  if (result.failure === undefined) await engine.close()
  return [result]
}

async function runSpread(
  ns: Namespace,
  plans: readonly JobPlan[],
  board: Board,
  onStart: () => void,
): Promise<JobResult[]> {
  const data: DeviceJobs = { plans, board }
  const { iodepth, bs } = plans[0]!
  return spread<JobResult>(ns, new URL('./worker.js', import.meta.url), {
    jobs: plans.length,
    memory: iodepth * bs,
    data,
    onMessage: whenAllReady(plans.length, board, onStart),
  })
}

/** Called for each job that is ready: with the last of them all begin. */
function whenAllReady(jobs: number, board: Board, onStart: () => void): () => void {
  let ready = 0
  return () => {
    if (++ready < jobs) return
    onStart()
    go(board)
  }
}

async function openPath(path: string, { rw, direct, force, forceWord }: TargetOptions): Promise<BenchTarget> {
  const file = await openFile(path, { write: writes(rw), direct, force, forceWord })
  const kind = file.blockDevice ? 'block device of the kernel' : 'file'
  return {
    name: path,
    bytes: file.bytes,
    blocksize: file.blocksize,
    engine: file.direct ? 'node-fs' : 'node-fs (buffered)',
    description: `${kind}, by fs.read and fs.write${file.direct ? ' past the page cache' : ''}`,
    file: fileIdentity(await file.handle.stat({ bigint: true })),
    precious: true,
    run: (plans, board, onStart) => runOnFile(file.handle.fd, plans, board, onStart),
    close: () => file.handle.close(),
  }
}

async function runOnFile(
  fd: number,
  plans: readonly JobPlan[],
  board: Board,
  onStart: () => void,
): Promise<JobResult[]> {
  const onReady = whenAllReady(plans.length, board, onStart)
  const threads = plans.map((plan) => {
    const workerData: FileJob = { fd, plan, board }
    const worker = new Worker(new URL('./file-worker.js', import.meta.url), { workerData })
    const result = new Promise<JobResult>((resolve, reject) => {
      worker.on('message', (message: TaskMessage) => {
        if (message.kind === 'message') onReady()
        else if (message.kind === 'result') resolve(message.result as JobResult)
        else reject(unpackError(message.error))
      })
      worker.on('error', reject)
    })
    return { result, ended: once(worker, 'exit') }
  })
  const results = Promise.all(threads.map(({ result }) => result))
  // One that fails ends the others.
  results.catch(() => {
    stop(board)
    go(board)
  })
  await Promise.allSettled(threads.map(({ ended }) => ended))
  return results
}
