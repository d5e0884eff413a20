// Several targets of one subsystem in this process, each with an ANA state of its own, on one medium: a double for tests
// without the virtual machine. Admin commands are the software controller's, but for what tells of ANA; reads, writes and
// flushes go to the shared medium here, so that what each path was given can be seen, held, and left behind.

import { ANA_STATE, encodeAnaLog } from '../../lib/nvme/spec/ana.ts'
import { CMIC, OAES } from '../../lib/nvme/spec/flags.ts'
import { CNS } from '../../lib/nvme/spec/identify.ts'
import { LOG_PAGE } from '../../lib/nvme/spec/logs.ts'
import { ADMIN, NVM } from '../../lib/nvme/spec/opcodes.ts'
import { STATUS } from '../../lib/nvme/spec/status.ts'
import type { CommandDone, DataBlock, ServedController } from '../../lib/nvme/tcp/target/index.ts'
import { serveTcp, type TcpTargetServer } from '../../lib/nvme/tcp/target/index.ts'
import { hostCapsules, parseSimAddress } from '../../lib/sim/index.ts'
import { HOST, NQN } from './tcp-target.ts'

const BLOCK = 512
const GROUP = 7
const ANA_EVENT = 0x0c0302
const ANATT = 3
const STATUSES: Readonly<Record<number, number>> = {
  [ANA_STATE.INACCESSIBLE]: STATUS.ANA_INACCESSIBLE,
  [ANA_STATE.PERSISTENT_LOSS]: STATUS.ANA_PERSISTENT_LOSS,
  [ANA_STATE.CHANGE]: STATUS.ANA_TRANSITION,
}

interface Held {
  readonly qid: number
  readonly run: () => void
  readonly done: CommandDone
}

export interface AnaPath {
  readonly server: TcpTargetServer
  /** HOST:PORT. */
  readonly endpoint: string
  /** I/O commands that it was given. */
  readonly seen: { opcode: number; slba: number; nlb: number }[]
  /** Commands that are kept without an answer, while `hold`. */
  readonly held: readonly Held[]
  hold: boolean
  /** A status that every I/O command gets, in place of being executed; 0 none. */
  status: number
  state: number
  setState(state: number): void
  /** Answers what was held. */
  release(): void
  /** Closes the target: its port refuses connections then. */
  stop(): Promise<void>
  /** Listens again at the same port. */
  start(): Promise<void>
}

export interface AnaTarget {
  readonly medium: Buffer
  readonly paths: readonly AnaPath[]
  address(query?: string): string
  close(): Promise<void>
}

export interface AnaOptions {
  /** Of each path; it says how many there are. */
  readonly states?: readonly number[]
  /** Names of subsystems, and devices, where they differ. */
  readonly nqns?: readonly string[]
  readonly devices?: readonly string[]
  /** False: no ANA reporting. */
  readonly reports?: boolean
}

/** The options of every address of these targets. */
export const ANA_QUERY = `${HOST}&kato=20000`

export async function startAnaTarget({
  states = [ANA_STATE.OPTIMIZED, ANA_STATE.OPTIMIZED],
  nqns = [],
  devices = [],
  reports = true,
}: AnaOptions = {}): Promise<AnaTarget> {
  const medium = Buffer.alloc(8 * 2 ** 20)
  const paths = await Promise.all(
    states.map((state, i) => startPath(medium, state, nqns[i] ?? NQN, devices[i] ?? 'sim:?size=8M', reports)),
  )
  return {
    medium,
    paths,
    address: (query = '') =>
      `nvme+tcp://${paths.map(({ endpoint }) => endpoint).join(',')}/${NQN}?${ANA_QUERY}${query && `&${query}`}`,
    async close() {
      await Promise.all(paths.map((path) => path.stop()))
    },
  }
}

async function startPath(
  medium: Buffer,
  first: number,
  nqn: string,
  device: string,
  reports: boolean,
): Promise<AnaPath> {
  const sim = hostCapsules(parseSimAddress(device)) as ServedController
  const waiting: Held[] = []
  let events: CommandDone[] = []
  let asked = 0
  let due = false

  const tell = () => {
    if (!due || (asked & OAES.ANA_CHANGE) === 0 || events.length === 0) return
    due = false
    events.shift()!(0, ANA_EVENT)
  }
  const drop = (which: (one: Held) => boolean) => {
    for (const one of waiting.filter(which)) {
      waiting.splice(waiting.indexOf(one), 1)
      one.done(-1, 0)
    }
  }

  function io(sqe: Uint32Array, block: DataBlock | null): number {
    const refusal = path.status || STATUSES[path.state]
    if (refusal) return refusal
    const opcode = sqe[0]! & 0xff
    const from = sqe[10]! * BLOCK
    const bytes = ((sqe[12]! & 0xffff) + 1) * BLOCK
    if (opcode === NVM.WRITE) medium.set(block!.bytes, from)
    else if (opcode === NVM.READ) block!.bytes.set(medium.subarray(from, from + bytes))
    else if (opcode === NVM.COMPARE) {
      const same = medium.subarray(from, from + bytes).equals(block!.bytes)
      return same ? 0 : STATUS.COMPARE_FAILURE
    } else if (opcode !== NVM.FLUSH) return STATUS.INVALID_OPCODE
    return 0
  }

  function admin(sqe: Uint32Array, block: DataBlock | null, done: CommandDone): void {
    const opcode = sqe[0]! & 0xff
    const low = sqe[10]! & 0xff
    if (opcode === ADMIN.ASYNC_EVENT_REQUEST) {
      events.push(done)
      tell()
    } else if (opcode === ADMIN.SET_FEATURES && low === 0x0b) {
      asked = sqe[11]!
      done(0, 0)
      tell()
    } else if (opcode === ADMIN.GET_FEATURES && low === 0x0b) done(0, asked)
    else if (opcode === ADMIN.GET_LOG_PAGE && low === LOG_PAGE.ASYMMETRIC_NAMESPACE_ACCESS) {
      block!.bytes.fill(0)
      const nsids = ((sqe[10]! >>> 8) & 1) === 0 ? [1] : []
      const page = encodeAnaLog({ groups: [{ grpid: GROUP, state: path.state, nsids }] })
      block!.bytes.set(page.subarray(sqe[12]!, sqe[12]! + block!.bytes.length))
      done(0, 0)
    } else if (opcode === ADMIN.IDENTIFY && reports && (low === CNS.CONTROLLER || low === CNS.NAMESPACE)) {
      sim.submit(0, sqe, block, (status, result) => {
        if (status === 0) patch(block!.bytes, low)
        done(status, result)
      })
    } else sim.submit(0, sqe, block, done)
  }

  const controller: ServedController = {
    maxBytes: sim.maxBytes,
    onGone: null,
    onRoom: null,
    readRegister: sim.readRegister,
    writeRegister: sim.writeRegister,
    alloc: sim.alloc,
    free: sim.free,
    createQueue: sim.createQueue,
    deleteQueue(qid, done) {
      drop((one) => one.qid === qid)
      sim.deleteQueue(qid, done)
    },
    submit(qid, sqe, block, done) {
      if (qid === 0) return admin(sqe, block, done)
      const copy = sqe.slice()
      path.seen.push({ opcode: copy[0]! & 0xff, slba: copy[10]!, nlb: (copy[12]! & 0xffff) + 1 })
      const run = () => done(io(copy, block), 0)
      waiting.push({ qid, run, done })
    },
    withdraw: sim.withdraw,
    idOf: sim.idOf,
    run() {
      sim.run()
      if (!path.hold) path.release()
    },
    reset(ended) {
      drop(() => true)
      for (const done of events) done(-1, 0)
      events = []
      asked = 0
      sim.reset(ended)
    },
    close: sim.close,
  }
  let server = await serveTcp({ subsystems: [{ nqn, controller }] })
  const { port } = server
  const path: AnaPath = {
    get server() {
      return server
    },
    endpoint: `127.0.0.1:${port}`,
    seen: [],
    held: waiting,
    hold: false,
    status: 0,
    state: first,
    setState(state) {
      path.state = state
      due = true
      tell()
    },
    release() {
      for (const { run } of waiting.splice(0)) run()
    },
    stop: () => server.close(),
    async start() {
      server = await serveTcp({ port, subsystems: [{ nqn, controller }] })
    },
  }
  return path
}

function patch(bytes: Uint8Array, cns: number): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  if (cns === CNS.NAMESPACE) {
    view.setUint8(30, 1)
    view.setUint32(92, GROUP, true)
    return
  }
  view.setUint8(76, view.getUint8(76) | CMIC.ANA | 2)
  view.setUint32(92, view.getUint32(92, true) | OAES.ANA_CHANGE, true)
  view.setUint8(342, ANATT)
  view.setUint8(343, 0x1f)
  view.setUint32(344, GROUP, true)
  view.setUint32(348, 1, true)
}
