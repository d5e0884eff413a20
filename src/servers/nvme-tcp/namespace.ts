// One namespace as remote hosts see it: their commands become commands of the device's own queues, each with memory of the
// device. What the device would take for something else is refused here.

import { createHash } from 'node:crypto'
import { CommandTimeoutError, ControllerResetError } from '../../../lib/errors.ts'
import { DSM_RANGE_BYTES } from '../../../lib/nvme/spec/commands.ts'
import { NMIC, NSATTR, ONCS, RESCAP } from '../../../lib/nvme/spec/flags.ts'
import {
  encodeIdentifyNamespace,
  encodeIndependentNamespace,
  encodeNamespaceDescriptors,
  type IdentifyNamespace,
  NAMESPACE_ID_TYPE,
} from '../../../lib/nvme/spec/identify.ts'
import { NVM } from '../../../lib/nvme/spec/opcodes.ts'
import { STATUS } from '../../../lib/nvme/spec/status.ts'
import type { CommandDone } from '../../../lib/nvme/tcp/target/index.ts'
import type { NamespaceController } from '../../controller/device.ts'
import type { BlockIo } from '../../queue/block-io.ts'
import type { IoQueue } from '../../queue/io-queue.ts'
import { KIND, type Operation } from '../../queue/operation.ts'
import type { DataMemory, DmaBlock } from './memory.ts'
import { Reservations } from './reservations.ts'

/** What is served: an open namespace. */
export interface DeviceNamespace extends BlockIo {
  readonly qcount: number
  readonly controller: Pick<
    NamespaceController,
    'identity' | 'maxTransferBytes' | 'admin' | 'identifyNamespace' | 'onEvent' | 'transport'
  >
}

/** Status with Do Not Retry, as completions have it. */
export const DNR = 0x4000
export const ANA_GROUP = 1

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

/** A command that the device has. */
interface InFlight {
  readonly hostid: string
  /** How often it was sent again. */
  attempts: number
  onEnd: (() => void)[] | null
}

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

/** A command as it goes to the device. */
interface Request {
  readonly opcode: number
  readonly cdw10: number
  readonly cdw11: number
  readonly cdw12: number
  readonly cdw13: number
  /** Bytes of data that it has to have. */
  readonly bytes: number
}

export class ServedNamespace {
  readonly nsid: number
  readonly io: DeviceNamespace
  readonly memory: DataMemory
  readonly readOnly: boolean
  readonly reservations = new Reservations()
  /** Identify Namespace, as hosts get it. */
  identify!: Uint8Array
  independent!: Uint8Array
  readonly descriptors: Uint8Array
  #id!: IdentifyNamespace
  // Its format is another one than that which it was opened with.
  #changed = false
  readonly #uuid: string
  readonly #inFlight = new Set<InFlight>()
  // Memory that the device may still write to: of commands that had no answer.
  readonly #lost: (() => void)[] = []
  readonly #counters: IoCounters
  // Taken at the beginning, since the last flush comes when the namespace is being closed already.
  readonly #queues: readonly IoQueue[]
  #nextQueue = 0

  constructor(
    {
      nsid,
      io,
      memory,
      readOnly,
      subnqn,
    }: Pick<ServedNamespace, 'nsid' | 'io' | 'memory' | 'readOnly'> & {
      readonly subnqn: string
    },
    id: IdentifyNamespace,
    counters: IoCounters,
  ) {
    this.nsid = nsid
    this.io = io
    this.memory = memory
    this.readOnly = readOnly
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
    const format = id.lbafs[id.flbas & 0xf]
    this.#id = id
    this.#changed = nsze > 0 && format?.lbads !== geometry.blockshift
    const shared = {
      nmic: NMIC.SHARED,
      rescap: RESCAP.IGNORE_EXISTING_KEY | RESERVATION_TYPES,
      anagrpid: ANA_GROUP,
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
   */
  execute(sqe: Uint32Array, block: DmaBlock | null, hostid: string, done: CommandDone): void {
    const opcode = sqe[0]! & 0xff
    const request = this.#check(opcode, sqe)
    if (typeof request === 'number') {
      done(request | DNR, 0)
      return
    }
    if (this.reservations.conflicts(opcode, hostid)) {
      done(STATUS.RESERVATION_CONFLICT | DNR, 0)
      return
    }
    // The device moves as much as the command says, whatever memory there is.
    const given = block?.bytes.length ?? 0
    // Lists of ranges may be shorter than their buffer, as Linux's are.
    if (request.bytes !== given && (request.bytes > given || !LISTS.has(opcode))) {
      done(STATUS.DATA_SGL_LENGTH_INVALID | DNR, 0)
      return
    }
    this.#begin(request, block, hostid, done)
  }

  /** What a command is to the device, or the status of one that is none. */
  #check(opcode: number, sqe: Uint32Array): Request | number {
    const [cdw10, cdw11, cdw12, cdw13] = [sqe[10]!, sqe[11]!, sqe[12]!, sqe[13]!]
    const { geometry } = this.io
    const { oncs, ocfs } = this.io.controller.identity
    const needed = NEEDS[opcode]
    if (!PASSED.has(opcode) || (needed !== undefined && (oncs & needed) === 0)) return STATUS.INVALID_OPCODE
    if ((sqe[0]! & FUSE_BITS) !== 0) return STATUS.INVALID_FIELD
    if (this.#changed) return STATUS.NAMESPACE_NOT_READY
    if (this.readOnly && !READING.has(opcode)) return STATUS.NAMESPACE_WRITE_PROTECTED
    const range = { opcode, cdw10, cdw11, cdw13: 0, bytes: 0 }
    const flags = cdw12 & FUA_AND_LIMITED_RETRY
    switch (opcode) {
      case NVM.FLUSH:
        return { ...range, cdw10: 0, cdw11: 0, cdw12: 0 }
      case NVM.READ:
      case NVM.WRITE:
      case NVM.COMPARE: {
        // Directives are not offered.
        if ((cdw12 & 0x00f0_0000) !== 0) return STATUS.INVALID_FIELD
        const bytes = ((cdw12 & NLB) + 1) * geometry.blocksize
        const hints = opcode === NVM.COMPARE ? 0 : cdw13 & 0xff
        return { ...range, cdw12: (cdw12 & NLB) | flags | geometry.flags, cdw13: hints, bytes }
      }
      case NVM.WRITE_ZEROES:
        return { ...range, cdw12: (cdw12 & NLB) | flags | (cdw12 & DEALLOCATE_ZEROES) | geometry.flags }
      case NVM.DATASET_MANAGEMENT:
        return {
          ...range,
          cdw10: cdw10 & 0xff,
          cdw11: cdw11 & 7,
          cdw12: 0,
          bytes: ((cdw10 & 0xff) + 1) * DSM_RANGE_BYTES,
        }
      case NVM.COPY: {
        // Other formats name other namespaces, by numbers that are this server's.
        if ((ocfs & 1) === 0 || ((cdw12 >>> 8) & 0xf) !== 0 || geometry.flags !== 0)
          return STATUS.INVALID_FIELD
        return { ...range, cdw12: (cdw12 & 0xff) | flags, bytes: ((cdw12 & 0xff) + 1) * COPY_RANGE_BYTES }
      }
      default:
        return { ...range, cdw12: (cdw12 & NLB) | flags }
    }
  }

  #begin(request: Request, block: DmaBlock | null, hostid: string, done: CommandDone): void {
    const inFlight: InFlight = { hostid, attempts: 0, onEnd: null }
    this.#inFlight.add(inFlight)
    this.#send(request, block, inFlight, done)
  }

  #send(request: Request, block: DmaBlock | null, inFlight: InFlight, done: CommandDone): void {
    const { io } = this
    let op: Operation
    try {
      const queue = this.#queues[this.#nextQueue++ % this.#queues.length]!
      op = queue.operations.take()
      op.slba = 0
      op.nlb = 0
      op.opc = request.opcode
      op.kind = KIND.SINGLE
      op.geometry = io.geometry
      op.buf = null
      op.allocation = block?.allocation ?? null
      op.lo = block?.lo ?? 0
      op.hi = block?.hi ?? 0
      op.bytes = request.bytes
      op.cdw10 = request.cdw10
      op.cdw11 = request.cdw11
      op.cdw12 = request.cdw12
      op.cdw13 = request.cdw13
      op.cdw14 = 0
      op.cdw15 = 0
      op.metadata = null
      op.mptrLo = 0
      op.mptrHi = 0
      // As the device's own promises: what may be repeated is, after a reset of the device.
      op.retry = true
      op.onDone = (op) => this.#ended(op, block, inFlight, request, done)
      queue.request(op)
    } catch (error) {
      this.#finish(inFlight)
      this.#counters.failures++
      done(statusOf(error as Error), 0)
    }
  }

  #ended(
    op: Operation,
    block: DmaBlock | null,
    inFlight: InFlight,
    request: Request,
    done: CommandDone,
  ): void {
    const { opcode, bytes } = request
    const { field, cause, result, queue } = op
    op.onDone = null
    op.takeError()
    queue.operations.give(op)
    // Somebody has reset the controller, with which all that was in flight has ended: hosts need not know.
    if (cause instanceof ControllerResetError && !ONCE.has(opcode) && inFlight.attempts < MOST_ATTEMPTS) {
      const delay = Math.min(MOST_DELAY_MS, FIRST_DELAY_MS * 2 ** inFlight.attempts++)
      setTimeout(() => this.#send(request, block, inFlight, done), delay)
      return
    }
    this.#finish(inFlight)
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
    if (this.#lost.length > 0 && queue.pair.lost === 0) for (const end of this.#lost.splice(0)) end()
    // The device may still write to the memory: the host is answered when it can't, or when it has.
    if (cause instanceof CommandTimeoutError && bytes > 0 && queue.pair.lost > 0) {
      this.#lost.push(() => done(status, result))
    } else done(status, result)
  }

  #finish(inFlight: InFlight): void {
    this.#inFlight.delete(inFlight)
    if (inFlight.onEnd !== null) for (const act of inFlight.onEnd) act()
  }

  /** Flush of the device: resolves with a status. */
  flush(): Promise<number> {
    const request = { opcode: NVM.FLUSH, cdw10: 0, cdw11: 0, cdw12: 0, cdw13: 0, bytes: 0 }
    return new Promise((resolve) => this.#begin(request, null, '', (status) => resolve(status)))
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

  /** Blocks. */
  get size(): number {
    return this.#id.nsze
  }
}

/** What a host is told of a failure that is no status of the device's. */
export function statusOf(cause: Error): number {
  // It may be sent again, by whoever knows whether that does no harm.
  if (cause instanceof ControllerResetError) return STATUS.COMMAND_INTERRUPTED
  return STATUS.INTERNAL_ERROR | DNR
}

/** 32 digits of a UUID made of a name. */
export function uuidOf(name: string): string {
  const bytes = createHash('sha256').update(name).digest().subarray(0, 16)
  bytes[6] = (bytes[6]! & 0xf) | 0x80
  bytes[8] = (bytes[8]! & 0x3f) | 0x80
  return bytes.toString('hex')
}
