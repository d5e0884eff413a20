// One namespace as remote hosts see it: their commands become commands of the device's own queues, each with memory of the
// device. What the device would take for something else is refused here.

import { createHash } from 'node:crypto'
import { AbortError, ControllerResetError, UnsupportedError, UnvmeError } from '../../../lib/errors.ts'
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
import type { Operation } from '../../queue/operation.ts'
import { CommandEngine, type CommandOwner, usableQueues } from '../command-engine.ts'
import type { Part, ServerMemory } from '../memory.ts'
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
    | 'onFormat'
    | 'addQueueUser'
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

const LISTS: ReadonlySet<number> = new Set([NVM.DATASET_MANAGEMENT, NVM.COPY])

const ignored: CommandDone = () => {}

/** A command of a host: its object is used again. */
class HostedCommand implements CommandOwner {
  hostid = ''
  done: CommandDone = ignored
  /** What it is to the device; null where it is idle. */
  op: Operation | null = null
  readonly onEnd: (() => void)[] = []
  private readonly namespace: ServedNamespace

  constructor(namespace: ServedNamespace) {
    this.namespace = namespace
  }

  onCommand(op: Operation): void {
    this.namespace.end(this, op)
  }
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

export class ServedNamespace {
  readonly nsid: number
  readonly io: DeviceNamespace
  readonly memory: ServerMemory
  readonly readOnly: boolean
  /** Its device tells which blocks are allocated. */
  readonly tellsAllocated: boolean
  readonly reservations: Reservations
  readonly engine: CommandEngine
  /** Identify Namespace, as hosts get it. */
  identify!: Uint8Array
  independent!: Uint8Array
  readonly descriptors: Uint8Array
  #id!: IdentifyNamespace
  // Its format is another one than that which it was opened with; what may give it another one is being done.
  #changed = false
  #formatting = 0
  #known: Promise<void> = Promise.resolve()
  readonly #uuid: string
  readonly #shared: boolean
  readonly #commands: HostedCommand[] = []
  readonly #idle: HostedCommand[] = []
  readonly #counters: IoCounters

  constructor(
    {
      nsid,
      io,
      memory,
      readOnly,
      tellsAllocated,
      subnqn,
      file,
      shared = true,
    }: Pick<ServedNamespace, 'nsid' | 'io' | 'memory' | 'readOnly' | 'tellsAllocated'> & {
      readonly subnqn: string
      /** Where reservations are kept that outlive the server; null: nowhere. */
      readonly file: ReservationFile | null
      /** Several hosts can have it, each by a controller of its own. Default: true. */
      readonly shared?: boolean
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
    this.#shared = shared
    this.engine = new CommandEngine(io, usableQueues(io, 'serve'))
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

  /** Resolves when what may give it another format has ended, and its format is known. */
  get known(): Promise<void> {
    return this.#known
  }

  /** No command of hosts is begun before something has ended that may give it another format, and `look` has looked. */
  reformat(ended: Promise<unknown>, look: () => Promise<void>): void {
    this.#formatting++
    this.#known = ended.then(look).finally(() => {
      this.#formatting--
    })
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
    this.engine.refusal = this.#changed ? new UnsupportedError('the namespace has another format') : null
    const persist = this.reservations.mayPersist ? RESCAP.PERSIST : 0
    const shared = {
      ...(this.#shared && {
        nmic: NMIC.SHARED,
        rescap: RESCAP.IGNORE_EXISTING_KEY | RESERVATION_TYPES | persist,
        // A group of its own: its access may be another one than that of the others.
        anagrpid: this.nsid,
      }),
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
  execute(sqe: Uint32Array, block: Part | null, hostid: string, way: number, done: CommandDone): void {
    const opcode = sqe[0]! & 0xff
    const command = this.#take(opcode, hostid, way)
    const op = command.op!
    let status = this.#check(opcode, sqe, op)
    if (status === 0) {
      if (this.reservations.conflicts(opcode, hostid)) status = STATUS.RESERVATION_CONFLICT
      else {
        // The device moves as much as the command says, whatever memory there is. Lists of ranges may be shorter than their
        // buffer, as Linux's are.
        const given = block === null ? 0 : block.bytes.length
        const { bytes } = op
        if (bytes !== given && (bytes > given || !LISTS.has(opcode))) status = STATUS.DATA_SGL_LENGTH_INVALID
      }
    }
    if (status !== 0) {
      this.#giveBack(command)
      this.engine.discard(op)
      done(status === STATUS.FORMAT_IN_PROGRESS ? status : status | DNR, 0)
      return
    }
    if (block !== null) {
      op.allocation = block.tag.allocation
      op.lo = block.tag.lo
      op.hi = block.tag.hi
    }
    this.#send(command, done)
  }

  #take(opcode: number, hostid: string, way: number): HostedCommand {
    const { queues } = this.engine
    const command = this.#idle.pop() ?? this.#make()
    command.hostid = hostid
    // Always the same of a host's queue, so that what it sends together is sent together.
    command.op = this.engine.prepare(command, queues[way % queues.length]!, opcode)
    return command
  }

  #giveBack(command: HostedCommand): void {
    command.op = null
    command.done = ignored
    this.#idle.push(command)
  }

  #make(): HostedCommand {
    const command = new HostedCommand(this)
    this.#commands.push(command)
    return command
  }

  /** Says what a command is to the device, or gives the status of one that is none. */
  #check(opcode: number, sqe: Uint32Array, op: Operation): number {
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
    op.cdw10 = sqe[10]!
    op.cdw11 = sqe[11]!
    const flags = cdw12 & FUA_AND_LIMITED_RETRY
    switch (opcode) {
      case NVM.READ:
      case NVM.WRITE:
      case NVM.COMPARE:
        // Directives are not offered.
        if ((cdw12 & 0x00f0_0000) !== 0) return STATUS.INVALID_FIELD
        op.bytes = ((cdw12 & NLB) + 1) * geometry.blocksize
        op.cdw12 = (cdw12 & NLB) | flags | geometry.flags
        if (opcode !== NVM.COMPARE) op.cdw13 = sqe[13]! & 0xff
        return 0
      case NVM.WRITE_ZEROES:
        op.cdw12 = (cdw12 & NLB) | flags | (cdw12 & DEALLOCATE_ZEROES) | geometry.flags
        return 0
      case NVM.DATASET_MANAGEMENT:
        op.cdw10 &= 0xff
        op.cdw11 &= 7
        op.bytes = (op.cdw10 + 1) * DSM_RANGE_BYTES
        return 0
      case NVM.COPY:
        // Other formats name other namespaces, by numbers that are this server's.
        if ((ocfs & 1) === 0 || ((cdw12 >>> 8) & 0xf) !== 0 || geometry.flags !== 0)
          return STATUS.INVALID_FIELD
        op.cdw12 = (cdw12 & 0xff) | flags
        op.bytes = ((cdw12 & 0xff) + 1) * COPY_RANGE_BYTES
        return 0
      default:
        op.cdw12 = (cdw12 & NLB) | flags
        return 0
    }
  }

  #send(command: HostedCommand, done: CommandDone): void {
    command.done = done
    this.engine.requests++
    this.engine.send(command.op!)
  }

  /** @internal The device has ended it. */
  end(command: HostedCommand, { opc, bytes, queue, field, cause, result, lost }: Operation): void {
    const { done, onEnd } = command
    const counters = this.#counters
    // A status says more than the error that came of it.
    const status = field !== 0 ? field >>> 1 : cause === null ? 0 : statusOf(cause)
    if (status !== 0) counters.failures++
    else if (opc === NVM.READ) {
      counters.reads++
      counters.bytesRead += bytes
    } else if (opc === NVM.WRITE) {
      counters.writes++
      counters.bytesWritten += bytes
    } else counters.otherCommands++
    this.#giveBack(command)
    if (onEnd.length > 0) for (const act of onEnd.splice(0)) act()
    // The device may still write to the memory: the host is answered when it can't, or when it has.
    if (lost && bytes > 0) this.engine.afterLost(queue as IoQueue, () => done(status, result))
    else done(status, result)
    this.engine.end()
  }

  /** Ends a command that the device does not have: it waits for space in a queue, or to be sent again. False for others. */
  withdraw(done: CommandDone): boolean {
    const op = this.#commands.find((command) => command.done === done)?.op ?? null
    return op !== null && this.engine.withdraw(op)
  }

  /** Flush of the device: resolves with a status. */
  flush(): Promise<number> {
    const command = this.#take(NVM.FLUSH, '', 0)
    return new Promise((resolve) => this.#send(command, resolve))
  }

  /** Resolves when the commands of these hosts that are in flight now have ended. */
  async settle(hostids: readonly string[]): Promise<void> {
    const all = this.#commands.filter(({ op, hostid }) => op !== null && hostids.includes(hostid))
    await Promise.all(all.map(({ onEnd }) => new Promise<void>((resolve) => onEnd.push(resolve))))
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
