// One namespace as remote hosts see it: their commands become commands of the device's own queues, each with memory of the
// device. What the device would take for something else is refused here.

import { createHash } from 'node:crypto'
import { AbortError, ControllerResetError, UnvmeError } from '../../../lib/errors.ts'
import { readLbaStatus } from '../../../lib/nvme/host/lba-status.ts'
import { DSM_RANGE_BYTES } from '../../../lib/nvme/spec/commands.ts'
import { NMIC, NSATTR, ONCS, RESCAP } from '../../../lib/nvme/spec/flags.ts'
import {
  encodeIdentifyNamespace,
  encodeIndependentNamespace,
  encodeNamespaceDescriptors,
  type IdentifyNamespace,
  NAMESPACE_ID_TYPE,
} from '../../../lib/nvme/spec/identify.ts'
import {
  encodeLbaStatusList,
  LBA_RANGE_STATUS,
  LBA_STATUS_BYTES,
  LBA_STATUS_END,
  LBA_STATUS_HEADER_BYTES,
  type LbaStatusRequest,
} from '../../../lib/nvme/spec/lba-status.ts'
import { NVM } from '../../../lib/nvme/spec/opcodes.ts'
import { STATUS } from '../../../lib/nvme/spec/status.ts'
import type { CommandDone } from '../../../lib/nvme/tcp/target/index.ts'
import type { NamespaceController } from '../../controller/device.ts'
import type { BlockIo } from '../../queue/block-io.ts'
import { type Geometry, geometryOf } from '../../queue/geometry.ts'
import type { IoQueue } from '../../queue/io-queue.ts'
import { KIND, type Operation } from '../../queue/operation.ts'
import type { DataMemory, DmaBlock } from './memory.ts'
import type { ReservationFile } from './reservation-file.ts'
import { Reservations } from './reservations.ts'

/** What is served: an open namespace. */
export interface DeviceNamespace extends BlockIo {
  readonly qcount: number
  readonly closed: boolean
  readonly controller: Pick<
    NamespaceController,
    | 'identity'
    | 'cap'
    | 'maxTransferBytes'
    | 'admin'
    | 'identify'
    | 'identifyNamespace'
    | 'onEvent'
    | 'transport'
  >
}

/** Status with Do Not Retry, as completions have it. */
export const DNR = 0x4000

const FUA_AND_LIMITED_RETRY = 0xc000_0000
const DEALLOCATE_ZEROES = 0x0200_0000
const NLB = 0xffff
// Of the device's features: thin provisioning, atomic units of the namespace, errors of deallocated blocks, optimal sizes.
const NSFEAT_PASSED = 0b10111
const COPY_RANGE_BYTES = 32
const FUSE_BITS = 0x300
const RESERVATION_TYPES = 0x7e

/** Which bit of ONCS an optional command needs. */
export const NEEDS: Readonly<Record<number, number>> = {
  [NVM.COMPARE]: ONCS.COMPARE,
  [NVM.WRITE_UNCORRECTABLE]: ONCS.WRITE_UNCORRECTABLE,
  [NVM.DATASET_MANAGEMENT]: ONCS.DATASET_MANAGEMENT,
  [NVM.WRITE_ZEROES]: ONCS.WRITE_ZEROES,
  [NVM.VERIFY]: ONCS.VERIFY,
  [NVM.COPY]: ONCS.COPY,
}
/** I/O commands that go to the device, where it has them. */
export const PASSED: ReadonlySet<number> = new Set([
  NVM.FLUSH,
  NVM.WRITE,
  NVM.READ,
  ...Object.keys(NEEDS).map(Number),
])
/** Those that change nothing. */
const READING: ReadonlySet<number> = new Set([NVM.READ, NVM.COMPARE, NVM.VERIFY, NVM.FLUSH])

// What is sent once only: what it does, or says, is about the moment.
const ONCE: ReadonlySet<number> = new Set([NVM.COMPARE, NVM.COPY])
const MOST_ATTEMPTS = 12
const FIRST_DELAY_MS = 10
const MOST_DELAY_MS = 1000
const LISTS: ReadonlySet<number> = new Set([NVM.DATASET_MANAGEMENT, NVM.COPY])

/** A command that the device has, or gets again: its object is used again. */
interface InFlight {
  hostid: string
  /** Which of the device's queues: always the same of a host's queue, so that what it sends together is sent together. */
  queue: IoQueue
  opcode: number
  cdw10: number
  cdw11: number
  cdw12: number
  cdw13: number
  /** Bytes of data that it has to have. */
  bytes: number
  block: DmaBlock | null
  done: CommandDone
  /** With which it is sent, or waits for that. */
  op: Operation | null
  /** How often it was sent again, and the timer that will do so. */
  attempts: number
  timer: NodeJS.Timeout | null
  onEnd: (() => void)[] | null
}

const ignored: CommandDone = () => {}

/** What the namespaces of a server have done. */
export interface IoCounters {
  reads: number
  writes: number
  bytesRead: number
  bytesWritten: number
  otherCommands: number
  /** Commands that ended with an error. */
  failures: number
}

export class ServedNamespace {
  readonly nsid: number
  readonly io: DeviceNamespace
  readonly memory: DataMemory
  readonly readOnly: boolean
  /** Its device tells which blocks are allocated. */
  readonly tellsAllocated: boolean
  readonly reservations: Reservations
  /** Identify Namespace, as hosts get it. */
  identify!: Uint8Array
  independent!: Uint8Array
  readonly descriptors: Uint8Array
  #id!: IdentifyNamespace
  // Its format is another one than that which it was opened with; what may give it another one is being done.
  #changed = false
  #formatting = 0
  readonly #uuid: string
  readonly #inFlight = new Set<InFlight>()
  readonly #idle: InFlight[] = []
  // Answers of commands that had none from the device: it may still write to their memory.
  readonly #lost = new Set<() => void>()
  readonly #counters: IoCounters
  // Taken at the beginning, since the last flush comes when the namespace is being closed already.
  readonly #queues: readonly IoQueue[]

  constructor(
    {
      nsid,
      io,
      memory,
      readOnly,
      tellsAllocated,
      subnqn,
      file,
    }: Pick<ServedNamespace, 'nsid' | 'io' | 'memory' | 'readOnly' | 'tellsAllocated'> & {
      readonly subnqn: string
      /** Where reservations are kept that outlive the server; null: nowhere. */
      readonly file: ReservationFile | null
    },
    id: IdentifyNamespace,
    counters: IoCounters,
  ) {
    this.nsid = nsid
    this.io = io
    this.memory = memory
    this.readOnly = readOnly
    this.tellsAllocated = tellsAllocated
    this.#counters = counters
    this.#queues = Array.from({ length: io.qcount }, (_, qid) => io.queue(qid, 'serve'))
    const { sn, mn } = io.controller.identity
    // Its own, and the same after a restart: hosts that also have the device by another way do not take them for one.
    this.#uuid = uuidOf(`${subnqn}/${nsid}/${mn}/${sn}/${io.geometry.nsid}`)
    this.descriptors = encodeNamespaceDescriptors([
      { nidt: NAMESPACE_ID_TYPE.UUID, nid: this.#uuid },
      { nidt: NAMESPACE_ID_TYPE.NGUID, nid: this.#uuid },
      { nidt: NAMESPACE_ID_TYPE.CSI, nid: '00' },
    ])
    this.reservations = new Reservations(file === null ? null : file.of(this.#uuid))
    this.#describe(id)
  }

  /** Bytes of data that the largest command may carry. */
  get maxBytes(): number {
    const { maxbpio, blockshift } = this.io.geometry
    return maxbpio * 2 ** blockshift
  }

  /** Commands that the device has now. */
  get inFlight(): number {
    return this.#inFlight.size
  }

  /** Does what may give it another format: no command of hosts is begun before that is known. */
  async reformat<T>(act: () => Promise<T>): Promise<T> {
    this.#formatting++
    try {
      return await act()
    } finally {
      this.#formatting--
    }
  }

  /** Reads Identify Namespace again; true where hosts have to know. */
  async refresh(): Promise<boolean> {
    const { io } = this
    const before = Buffer.from(this.identify)
    this.#describe(await io.controller.identifyNamespace(io.geometry.nsid))
    // Blocks in use may change at any time, and are no attribute.
    before.set(this.identify.subarray(16, 24), 16)
    return !before.equals(this.identify)
  }

  #describe(id: IdentifyNamespace): void {
    const { geometry } = this.io
    const { nsze, ncap, nuse, dlfeat, noiob, npwg, npwa, npdg, npda, nows, mssrl, mcl, msrc, nvmcap } = id
    const { nawun, nawupf, nacwu, nabsn, nabo, nabspf } = id
    this.#id = id
    this.#changed = nsze > 0 && !hasFormat(id, geometry)
    const shared = {
      nmic: NMIC.SHARED,
      rescap:
        RESCAP.IGNORE_EXISTING_KEY | RESERVATION_TYPES | (this.reservations.mayPersist ? RESCAP.PERSIST : 0),
      // A group of its own: its access may be another one than that of the others.
      anagrpid: this.nsid,
      nsattr: this.readOnly || (id.nsattr & 1) !== 0 ? NSATTR.WRITE_PROTECTED : 0,
    }
    this.identify = encodeIdentifyNamespace({
      ...{ nsze, ncap, nuse, nsfeat: id.nsfeat & NSFEAT_PASSED, dlfeat: dlfeat & 0xf, noiob, ...shared },
      ...{ npwg, npwa, npdg, npda, nows, mssrl, mcl, msrc, nvmcap },
      ...{ nawun, nawupf, nacwu, nabsn, nabo, nabspf, nguid: this.#uuid },
      lbafs: [{ ms: 0, lbads: geometry.blockshift, rp: 0 }],
    })
    this.independent = encodeIndependentNamespace({ ...shared, nstat: 1 })
  }

  /**
   * Executes an I/O command of a host, but for those of reservations.
   * @param sqe its sixteen dwords
   * @param way a number of the host's queue
   */
  execute(sqe: Uint32Array, block: DmaBlock | null, hostid: string, way: number, done: CommandDone): void {
    const opcode = sqe[0]! & 0xff
    const command = this.#take(opcode, hostid, way)
    let status = this.#check(opcode, sqe, command)
    if (status === 0) {
      if (this.reservations.conflicts(opcode, hostid)) status = STATUS.RESERVATION_CONFLICT
      else {
        // The device moves as much as the command says, whatever memory there is. Lists of ranges may be shorter than their
        // buffer, as Linux's are.
        const given = block === null ? 0 : block.bytes.length
        const { bytes } = command
        if (bytes !== given && (bytes > given || !LISTS.has(opcode))) status = STATUS.DATA_SGL_LENGTH_INVALID
      }
    }
    if (status !== 0) {
      this.#idle.push(command)
      done(status === STATUS.FORMAT_IN_PROGRESS ? status : status | DNR, 0)
      return
    }
    command.block = block
    command.done = done
    this.#inFlight.add(command)
    this.#send(command)
  }

  #take(opcode: number, hostid: string, way: number): InFlight {
    const queue = this.#queues[way % this.#queues.length]!
    const command = this.#idle.pop()
    if (command === undefined) {
      return {
        ...{ hostid, queue, opcode, cdw10: 0, cdw11: 0, cdw12: 0, cdw13: 0, bytes: 0, block: null },
        ...{ done: ignored, op: null, attempts: 0, timer: null, onEnd: null },
      }
    }
    command.hostid = hostid
    command.queue = queue
    command.opcode = opcode
    command.cdw10 = command.cdw11 = command.cdw12 = command.cdw13 = command.bytes = command.attempts = 0
    return command
  }

  /** Says what a command is to the device, or gives the status of one that is none. */
  #check(opcode: number, sqe: Uint32Array, command: InFlight): number {
    const cdw12 = sqe[12]!
    const { geometry } = this.io
    const { oncs, ocfs } = this.io.controller.identity
    if (opcode !== NVM.READ && opcode !== NVM.WRITE) {
      const needed = NEEDS[opcode]
      if (!PASSED.has(opcode) || (needed !== undefined && (oncs & needed) === 0)) return STATUS.INVALID_OPCODE
    }
    if ((sqe[0]! & FUSE_BITS) !== 0) return STATUS.INVALID_FIELD
    if (this.#formatting > 0) return STATUS.FORMAT_IN_PROGRESS
    if (this.#changed) return STATUS.NAMESPACE_NOT_READY
    if (this.readOnly && !READING.has(opcode)) return STATUS.NAMESPACE_WRITE_PROTECTED
    if (opcode === NVM.FLUSH) return 0
    command.cdw10 = sqe[10]!
    command.cdw11 = sqe[11]!
    const flags = cdw12 & FUA_AND_LIMITED_RETRY
    switch (opcode) {
      case NVM.READ:
      case NVM.WRITE:
      case NVM.COMPARE:
        // Directives are not offered.
        if ((cdw12 & 0x00f0_0000) !== 0) return STATUS.INVALID_FIELD
        command.bytes = ((cdw12 & NLB) + 1) * geometry.blocksize
        command.cdw12 = (cdw12 & NLB) | flags | geometry.flags
        if (opcode !== NVM.COMPARE) command.cdw13 = sqe[13]! & 0xff
        return 0
      case NVM.WRITE_ZEROES:
        command.cdw12 = (cdw12 & NLB) | flags | (cdw12 & DEALLOCATE_ZEROES) | geometry.flags
        return 0
      case NVM.DATASET_MANAGEMENT:
        command.cdw10 &= 0xff
        command.cdw11 &= 7
        command.bytes = (command.cdw10 + 1) * DSM_RANGE_BYTES
        return 0
      case NVM.COPY:
        // Other formats name other namespaces, by numbers that are this server's.
        if ((ocfs & 1) === 0 || ((cdw12 >>> 8) & 0xf) !== 0 || geometry.flags !== 0)
          return STATUS.INVALID_FIELD
        command.cdw12 = (cdw12 & 0xff) | flags
        command.bytes = ((cdw12 & 0xff) + 1) * COPY_RANGE_BYTES
        return 0
      default:
        command.cdw12 = (cdw12 & NLB) | flags
        return 0
    }
  }

  #send(command: InFlight): void {
    const { queue, block } = command
    try {
      const op = queue.operations.take()
      op.slba = 0
      op.nlb = 0
      op.opc = command.opcode
      op.kind = KIND.SINGLE
      op.geometry = this.io.geometry
      op.buf = null
      op.allocation = block === null ? null : block.allocation
      op.lo = block === null ? 0 : block.lo
      op.hi = block === null ? 0 : block.hi
      op.bytes = command.bytes
      op.cdw10 = command.cdw10
      op.cdw11 = command.cdw11
      op.cdw12 = command.cdw12
      op.cdw13 = command.cdw13
      op.cdw14 = 0
      op.cdw15 = 0
      op.metadata = null
      op.mptrLo = 0
      op.mptrHi = 0
      // As the device's own promises: what may be repeated is, after a reset of the device.
      op.retry = true
      op.context = command
      command.op = op
      op.onDone = this.#ended
      queue.request(op)
    } catch (error) {
      this.#counters.failures++
      this.#finish(command, statusOf(error as Error), 0)
    }
  }

  readonly #ended = (op: Operation): void => {
    const { field, cause, result, lost } = op
    const command = op.context as InFlight
    const { opcode, bytes, queue } = command
    op.onDone = null
    op.context = null
    command.op = null
    if (field !== 0 || cause !== null) op.takeError()
    queue.operations.give(op)
    // Somebody has reset the controller, with which all that was in flight has ended: hosts need not know.
    if (cause instanceof ControllerResetError && !ONCE.has(opcode) && command.attempts < MOST_ATTEMPTS) {
      const delay = Math.min(MOST_DELAY_MS, FIRST_DELAY_MS * 2 ** command.attempts++)
      command.timer = setTimeout(() => {
        command.timer = null
        if (this.#changed) this.#finish(command, STATUS.NAMESPACE_NOT_READY | DNR, 0)
        else this.#send(command)
      }, delay)
      return
    }
    const counters = this.#counters
    // A status says more than the error that came of it.
    const status = field !== 0 ? field >>> 1 : cause === null ? 0 : statusOf(cause)
    if (status !== 0) counters.failures++
    else if (opcode === NVM.READ) {
      counters.reads++
      counters.bytesRead += bytes
    } else if (opcode === NVM.WRITE) {
      counters.writes++
      counters.bytesWritten += bytes
    } else counters.otherCommands++
    // The device may still write to the memory: the host is answered when it can't, or when it has.
    if (lost && bytes > 0) {
      const { done } = command
      command.done = ignored
      const answer = () => {
        if (this.#lost.delete(answer)) done(status, result)
      }
      this.#lost.add(answer)
      queue.afterLost(answer)
    }
    this.#finish(command, status, result)
  }

  /** Answers hosts for commands that had no answer from the device, whose memory must go to no other any more. */
  endLost(): void {
    for (const answer of this.#lost) answer()
  }

  #finish(command: InFlight, status: number, result: number): void {
    const { done, onEnd } = command
    this.#inFlight.delete(command)
    command.block = null
    command.done = ignored
    command.onEnd = null
    this.#idle.push(command)
    if (onEnd !== null) for (const act of onEnd) act()
    done(status, result)
  }

  /** Ends a command that the device does not have: it waits for space in a queue, or to be sent again. False for others. */
  withdraw(done: CommandDone): boolean {
    for (const command of this.#inFlight) {
      if (command.done !== done) continue
      const { queue, op, timer } = command
      if (timer === null) return op !== null && queue.withdraw(op, new AbortError('by Abort'))
      clearTimeout(timer)
      command.timer = null
      this.#finish(command, STATUS.ABORT_REQUESTED, 0)
      return true
    }
    return false
  }

  /** Flush of the device: resolves with a status. */
  flush(): Promise<number> {
    const command = this.#take(NVM.FLUSH, '', 0)
    this.#inFlight.add(command)
    return new Promise((resolve) => {
      command.done = resolve
      this.#send(command)
    })
  }

  /** Resolves when the commands of these hosts that are in flight now have ended; of all where there are none named. */
  async settle(hostids?: readonly string[]): Promise<void> {
    const all = [...this.#inFlight].filter(({ hostid }) => hostids?.includes(hostid) ?? true)
    await Promise.all(
      all.map(
        (inFlight) =>
          new Promise<void>((resolve) => {
            inFlight.onEnd ??= []
            inFlight.onEnd.push(resolve)
          }),
      ),
    )
  }

  /** Get LBA Status of allocated blocks into `data`. All are, where the device does not say. Returns a status. */
  async lbaStatus({ slba, rl }: LbaStatusRequest, data: Buffer): Promise<number> {
    const { controller, geometry } = this.io
    if (slba >= this.size || slba + rl > this.size) return STATUS.LBA_OUT_OF_RANGE
    const range = { slba, nlb: rl, bytes: data.length }
    if (this.tellsAllocated) {
      data.set(await readLbaStatus(controller, geometry.nsid, range))
      return 0
    }
    const nlb = Math.min(rl || this.size - slba, 2 ** 32)
    const isWhole = nlb === (rl || this.size - slba)
    const descriptors = [{ dslba: slba, nlb, lbars: LBA_RANGE_STATUS.ALLOCATED }]
    const { COMPLETE, INCOMPLETE } = LBA_STATUS_END
    const room = data.length >= LBA_STATUS_HEADER_BYTES + LBA_STATUS_BYTES
    encodeLbaStatusList(
      room ? { cmpc: isWhole ? COMPLETE : INCOMPLETE, descriptors } : { cmpc: INCOMPLETE, descriptors: [] },
      data,
    )
    return 0
  }

  /** Blocks. */
  get size(): number {
    return this.#id.nsze
  }
}

// Blocks of the same size, with metadata of the same kind: or the device would move more than there is memory for.
function hasFormat(id: IdentifyNamespace, geometry: Geometry): boolean {
  try {
    const { blockshift, separateBytes, interleavedBytes, flags } = geometryOf(geometry.nsid, id, 0)
    return (
      blockshift === geometry.blockshift &&
      separateBytes === geometry.separateBytes &&
      interleavedBytes === geometry.interleavedBytes &&
      flags === geometry.flags
    )
  } catch (error) {
    if (error instanceof UnvmeError) return false
    throw error
  }
}

/** What a host gets for a failure that is no status of the device's. */
export function statusOf(cause: Error): number {
  // It may be sent again, by whoever knows whether that does no harm.
  if (cause instanceof ControllerResetError) return STATUS.COMMAND_INTERRUPTED
  if (cause instanceof AbortError) return STATUS.ABORT_REQUESTED
  return STATUS.INTERNAL_ERROR | DNR
}

/** 32 digits of a UUID made of a name. */
export function uuidOf(name: string): string {
  const bytes = createHash('sha256').update(name).digest().subarray(0, 16)
  bytes[6] = (bytes[6]! & 0xf) | 0x80
  bytes[8] = (bytes[8]! & 0x3f) | 0x80
  return bytes.toString('hex')
}
