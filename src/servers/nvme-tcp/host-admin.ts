// Admin commands of one host: what it may know of the device that all share, and features of its own (NVMe 2.0 base,
// section 5).

import { NvmeError } from '../../../lib/errors.ts'
import { encodeHostIdentifier, FEATURE, FEATURE_SELECT } from '../../../lib/nvme/spec/features.ts'
import {
  CNS,
  encodeControllerList,
  encodeNamespaceList,
  IDENTIFY_BYTES,
} from '../../../lib/nvme/spec/identify.ts'
import {
  decodeGetLbaStatus,
  LBA_STATUS_ACTION,
  LBA_STATUS_HEADER_BYTES,
} from '../../../lib/nvme/spec/lba-status.ts'
import {
  EFFECTS_LOG_BYTES,
  ERROR_LOG_ENTRY_BYTES,
  encodeCommandEffects,
  encodeEffectsLog,
  FIRMWARE_SLOT_LOG_BYTES,
  LOG_PAGE,
  SMART_LOG_BYTES,
} from '../../../lib/nvme/spec/logs.ts'
import { ADMIN, ALL_NAMESPACES, NVM } from '../../../lib/nvme/spec/opcodes.ts'
import { STATUS } from '../../../lib/nvme/spec/status.ts'
import type { CommandDone, ConnectingHost, DataBlock } from '../../../lib/nvme/tcp/target/index.ts'
import { deviceLog } from './devices.ts'
import { HostEvents } from './host-events.ts'
import { DNR, type ServedNamespace, statusOf } from './namespace.ts'
import { RESERVATION_OPCODES } from './reservations.ts'
import { refuse, type Subsystem } from './subsystem.ts'

const RETAIN_EVENT = 0x8000
const GROUPS_ONLY = 1 << 8
const SAVE = 0x8000_0000
const ANA_LOG = LOG_PAGE.ASYMMETRIC_NAMESPACE_ACCESS
const RESERVATION_LOG = LOG_PAGE.RESERVATION_NOTIFICATION

/** Features of which a host has its own value, which changes nothing but what it reads, with the default. */
const OWN_FEATURES: ReadonlyMap<number, number> = new Map([
  [FEATURE.ARBITRATION, 0],
  [FEATURE.TEMPERATURE_THRESHOLD, 0],
  [FEATURE.ERROR_RECOVERY, 0],
  [FEATURE.WRITE_ATOMICITY, 0],
  [FEATURE.ASYNC_EVENT_CONFIGURATION, 0],
  [FEATURE.RESERVATION_NOTIFICATION_MASK, 0],
])
const NOT_OURS = new Set<number>([FEATURE.POWER_MANAGEMENT, FEATURE.VOLATILE_WRITE_CACHE])
const OF_NAMESPACE = 2
const CHANGEABLE = 4

/** Admin commands that go to the device where that is allowed. */
const CHANGING: ReadonlySet<number> = new Set([
  ...[ADMIN.FORMAT_NVM, ADMIN.SANITIZE, ADMIN.FIRMWARE_COMMIT, ADMIN.FIRMWARE_DOWNLOAD],
  ...[ADMIN.DEVICE_SELF_TEST, ADMIN.SECURITY_SEND, ADMIN.SECURITY_RECEIVE],
])
const SERVED_ADMIN = [
  ...[ADMIN.GET_LOG_PAGE, ADMIN.IDENTIFY, ADMIN.ABORT, ADMIN.SET_FEATURES, ADMIN.GET_FEATURES],
  ...[ADMIN.ASYNC_EVENT_REQUEST, ADMIN.KEEP_ALIVE],
]

/** The host that asks: see `HostController`. */
type Host = Pick<ConnectingHost, 'hostid' | 'listener'>

export class HostAdmin {
  readonly events = new HostEvents(() => this.valueOf(FEATURE.ASYNC_EVENT_CONFIGURATION))
  /** I/O queues that the host was granted. */
  granted = 0
  readonly #subsystem: Subsystem
  readonly #host: Host
  readonly #features = new Map<number, number>()

  constructor(subsystem: Subsystem, host: Host) {
    this.#subsystem = subsystem
    this.#host = host
  }

  /** The controller was reset. */
  reset(): void {
    this.granted = 0
    this.#features.clear()
    this.events.reset()
  }

  execute(sqe: Uint32Array, block: DataBlock | null, done: CommandDone): void {
    switch (sqe[0]! & 0xff) {
      case ADMIN.IDENTIFY:
        this.#identify(sqe, block, done)
        break
      case ADMIN.GET_LOG_PAGE:
        void this.#readLog(sqe, block, done)
        break
      case ADMIN.SET_FEATURES:
        this.#setFeature(sqe, done)
        break
      case ADMIN.GET_FEATURES:
        this.#getFeature(sqe, block, done)
        break
      case ADMIN.GET_LBA_STATUS:
        void this.#lbaStatus(sqe, block, done)
        break
      case ADMIN.ABORT:
        // What a device has is not ended for one of its hosts; what it has not, `withdraw` has ended before.
        done(0, 1)
        break
      default:
        void this.#pass(sqe, block, done)
    }
  }

  #identify(sqe: Uint32Array, block: DataBlock | null, done: CommandDone): void {
    if (block === null || block.bytes.length !== IDENTIFY_BYTES) {
      refuse(done, STATUS.DATA_SGL_LENGTH_INVALID)
      return
    }
    const data = this.#identity(sqe[1]!, sqe[10]!, sqe[11]!)
    if (typeof data === 'number') refuse(done, data)
    else {
      block.bytes.set(data)
      done(0, 0)
    }
  }

  /** The data of an Identify command, or a status. */
  #identity(nsid: number, cdw10: number, cdw11: number): Uint8Array | number {
    const { namespaces } = this.#subsystem
    const namespace = namespaces.get(nsid)
    const csi = cdw11 >>> 24
    const after = (from: number) => {
      if (from >= ALL_NAMESPACES - 1) return STATUS.INVALID_NAMESPACE_OR_FORMAT
      return encodeNamespaceList([...namespaces.keys()].filter((id) => id > from).sort((a, b) => a - b))
    }
    const of = (data: (one: ServedNamespace) => Uint8Array) => {
      if (namespace !== undefined) return data(namespace)
      // One that there could be, but is not, is inactive: all zero.
      const possible = nsid > 0 && nsid <= Math.max(...namespaces.keys())
      return possible ? new Uint8Array(IDENTIFY_BYTES) : STATUS.INVALID_NAMESPACE_OR_FORMAT
    }
    switch (cdw10 & 0xff) {
      case CNS.NAMESPACE:
        // What all have in common: no formatting, and so nothing.
        return nsid === ALL_NAMESPACES ? new Uint8Array(IDENTIFY_BYTES) : of(({ identify }) => identify)
      case CNS.CONTROLLER:
        return this.#subsystem.identify()
      case CNS.ACTIVE_NAMESPACES:
        return after(nsid)
      case CNS.NAMESPACE_DESCRIPTORS:
        return namespace === undefined ? STATUS.INVALID_NAMESPACE_OR_FORMAT : namespace.descriptors
      case CNS.COMMAND_SET_NAMESPACE:
        if (csi !== 0) return STATUS.INVALID_FIELD
        return of(() => new Uint8Array(IDENTIFY_BYTES))
      case CNS.COMMAND_SET_CONTROLLER:
        return csi === 0 ? this.#subsystem.identifyCommandSet() : STATUS.INVALID_FIELD
      case CNS.COMMAND_SET_ACTIVE_NAMESPACES:
        return csi === 0 ? after(nsid) : STATUS.INVALID_FIELD
      case CNS.INDEPENDENT_NAMESPACE:
        return of(({ independent }) => independent)
      case CNS.ATTACHED_CONTROLLERS:
      case CNS.CONTROLLERS: {
        const ids = [...this.#subsystem.controllers].map(({ cntlid }) => cntlid)
        return encodeControllerList(ids.filter((id) => id >= cdw10 >>> 16).sort((a, b) => a - b))
      }
      default:
        return STATUS.INVALID_FIELD
    }
  }

  async #readLog(sqe: Uint32Array, block: DataBlock | null, done: CommandDone): Promise<void> {
    const [cdw10, offset] = [sqe[10]!, sqe[12]!]
    const length = ((sqe[11]! & 0xffff) * 0x1_0000 + (cdw10 >>> 16) + 1) * 4
    if (block === null || block.bytes.length !== length) {
      refuse(done, STATUS.DATA_SGL_LENGTH_INVALID)
      return
    }
    const lid = cdw10 & 0xff
    let log: Uint8Array | number
    try {
      log = await this.#log(lid, sqe[1]!, cdw10)
    } catch (error) {
      log = statusOf(error as Error)
    }
    if (typeof log === 'number') refuse(done, log)
    else if (sqe[13] !== 0 || offset > log.length || offset % 4 !== 0) refuse(done, STATUS.INVALID_FIELD)
    else {
      copyInto(block.bytes, log, offset)
      if ((cdw10 & RETAIN_EVENT) === 0) this.events.wasRead(lid)
      done(0, 0)
    }
  }

  #log(lid: number, nsid: number, cdw10: number): Promise<Uint8Array> | Uint8Array | number {
    switch (lid) {
      case LOG_PAGE.ERROR_INFORMATION:
        // Errors of a device are of all of its hosts, and name commands that this one has not sent.
        return new Uint8Array(ERROR_LOG_ENTRY_BYTES)
      case LOG_PAGE.SMART:
        return this.#deviceLog(lid, nsid, SMART_LOG_BYTES)
      case LOG_PAGE.FIRMWARE_SLOT:
        return this.#deviceLog(lid, nsid, FIRMWARE_SLOT_LOG_BYTES)
      case LOG_PAGE.CHANGED_NAMESPACES:
        return this.events.changedNamespaces()
      case LOG_PAGE.COMMAND_EFFECTS:
        return this.#effects()
      case ANA_LOG:
        return this.#subsystem.anaLog(this.#host.listener, (cdw10 & GROUPS_ONLY) !== 0)
      case RESERVATION_LOG:
        return this.events.notice()
      default:
        return STATUS.INVALID_LOG_PAGE
    }
  }

  async #lbaStatus(sqe: Uint32Array, block: DataBlock | null, done: CommandDone): Promise<void> {
    const [cdw10, cdw11, cdw12, cdw13] = [sqe[10]!, sqe[11]!, sqe[12]!, sqe[13]!]
    const request = decodeGetLbaStatus({ cdw10, cdw11, cdw12, cdw13 })
    const namespace = this.#subsystem.namespaces.get(sqe[1]!)
    // MNDW is the most that may come.
    const bytes = Math.min(request.bytes, block?.bytes.length ?? 0)
    if (!this.#subsystem.tellsAllocated) refuse(done, STATUS.INVALID_OPCODE)
    else if (namespace === undefined) refuse(done, STATUS.INVALID_NAMESPACE_OR_FORMAT)
    else if (request.atype !== LBA_STATUS_ACTION.ALLOCATED) refuse(done, STATUS.INVALID_FIELD)
    else if (bytes < LBA_STATUS_HEADER_BYTES) refuse(done, STATUS.DATA_SGL_LENGTH_INVALID)
    else {
      const { buffer, byteOffset } = block!.bytes
      const list = Buffer.from(buffer, byteOffset, bytes - (bytes % 4))
      try {
        refuse(done, await namespace.lbaStatus(request, list))
      } catch (error) {
        done(error instanceof NvmeError ? (error.sct << 8) | error.sc | DNR : statusOf(error as Error), 0)
      }
    }
  }

  // Of the device of a namespace, or of the first one.
  #deviceLog(lid: number, nsid: number, bytes: number): Promise<Uint8Array> {
    const { namespaces, options } = this.#subsystem
    return deviceLog((namespaces.get(nsid) ?? options.namespaces[0]!).io, lid, bytes)
  }

  #effects(): Uint8Array {
    const acs = new Array<number>(256).fill(0)
    const iocs = new Array<number>(256).fill(0)
    for (const opcode of SERVED_ADMIN) acs[opcode] = encodeCommandEffects()
    if (this.#subsystem.tellsAllocated) acs[ADMIN.GET_LBA_STATUS] = encodeCommandEffects()
    if (this.#subsystem.options.allowAdmin) {
      for (const opcode of CHANGING) acs[opcode] = encodeCommandEffects({ lbcc: true, ncc: true, cse: 2 })
    }
    const reading: readonly number[] = [NVM.READ, NVM.COMPARE, NVM.VERIFY, NVM.FLUSH, ...RESERVATION_OPCODES]
    for (const opcode of this.#subsystem.ioOpcodes) {
      iocs[opcode] = encodeCommandEffects({ lbcc: !reading.includes(opcode) })
    }
    return encodeEffectsLog({ acs, iocs }, new Uint8Array(EFFECTS_LOG_BYTES))
  }

  #setFeature(sqe: Uint32Array, done: CommandDone): void {
    const [fid, value] = [sqe[10]! & 0xff, sqe[11]!]
    if ((sqe[10]! & SAVE) !== 0) refuse(done, STATUS.FEATURE_NOT_SAVEABLE)
    else if (fid === FEATURE.NUMBER_OF_QUEUES) this.#grantQueues(value, done)
    else if (fid === FEATURE.RESERVATION_PERSISTENCE) refuse(done, this.#persist(sqe[1]!, (value & 1) !== 0))
    else if (NOT_OURS.has(fid) || fid === FEATURE.HOST_IDENTIFIER) {
      // The device's, for all hosts: one that asks for what there is gets it.
      if (this.valueOf(fid) === value) done(0, 0)
      else refuse(done, STATUS.FEATURE_NOT_CHANGEABLE)
    } else if (!OWN_FEATURES.has(fid)) refuse(done, STATUS.INVALID_FIELD)
    else {
      this.#features.set(fid, value)
      done(0, 0)
      this.events.report()
    }
  }

  #persist(nsid: number, persistent: boolean): number {
    const { namespaces } = this.#subsystem
    const all = nsid === ALL_NAMESPACES ? [...namespaces.values()] : [namespaces.get(nsid)]
    for (const namespace of all) {
      if (namespace === undefined) return STATUS.INVALID_NAMESPACE_OR_FORMAT
      const status = namespace.reservations.persist(persistent)
      if (status !== 0) return status
    }
    return 0
  }

  #getPersistence(nsid: number, select: number, done: CommandDone): void {
    const reservations = this.#subsystem.namespaces.get(nsid)?.reservations
    if (reservations === undefined) refuse(done, STATUS.INVALID_NAMESPACE_OR_FORMAT)
    else if (select === FEATURE_SELECT.SUPPORTED)
      done(0, OF_NAMESPACE | (reservations.mayPersist ? CHANGEABLE : 0))
    else done(0, select === 0 && reservations.persistent ? 1 : 0)
  }

  #grantQueues(value: number, done: CommandDone): void {
    const [sqs, cqs] = [value & 0xffff, value >>> 16]
    if (sqs === 0xffff || cqs === 0xffff) {
      refuse(done, STATUS.INVALID_FIELD)
      return
    }
    this.granted = Math.min(sqs + 1, cqs + 1, this.#subsystem.options.queues)
    const zeroBased = this.granted - 1
    done(0, ((zeroBased << 16) | zeroBased) >>> 0)
  }

  #getFeature(sqe: Uint32Array, block: DataBlock | null, done: CommandDone): void {
    const [fid, select] = [sqe[10]! & 0xff, (sqe[10]! >>> 8) & 7]
    if (fid === FEATURE.RESERVATION_PERSISTENCE) {
      this.#getPersistence(sqe[1]!, select, done)
      return
    }
    const own = OWN_FEATURES.has(fid)
    if (!own && !NOT_OURS.has(fid) && fid !== FEATURE.NUMBER_OF_QUEUES && fid !== FEATURE.HOST_IDENTIFIER) {
      refuse(done, STATUS.INVALID_FIELD)
    } else if (select === FEATURE_SELECT.SUPPORTED)
      done(0, own || fid === FEATURE.NUMBER_OF_QUEUES ? CHANGEABLE : 0)
    else if (fid !== FEATURE.HOST_IDENTIFIER)
      done(0, select === 0 ? this.valueOf(fid) : (OWN_FEATURES.get(fid) ?? this.valueOf(fid)))
    else if ((sqe[11]! & 1) === 0) refuse(done, STATUS.HOST_IDENTIFIER_INCONSISTENT_FORMAT)
    else if (block === null || block.bytes.length < 16) refuse(done, STATUS.DATA_SGL_LENGTH_INVALID)
    else {
      block.bytes.set(encodeHostIdentifier(this.#host.hostid).subarray(0, 16))
      done(0, 0)
    }
  }

  /** A feature as this host has it. */
  valueOf(fid: number): number {
    const own = this.#features.get(fid) ?? OWN_FEATURES.get(fid)
    if (own !== undefined) return own
    if (fid === FEATURE.NUMBER_OF_QUEUES) {
      const { queues } = this.#subsystem.options
      const zeroBased = (this.granted || queues) - 1
      return ((zeroBased << 16) | zeroBased) >>> 0
    }
    if (fid === FEATURE.VOLATILE_WRITE_CACHE) {
      return this.#subsystem.options.namespaces.some(({ io }) => (io.controller.identity.vwc & 1) !== 0)
        ? 1
        : 0
    }
    return 0
  }

  // What changes a device for all hosts.
  async #pass(sqe: Uint32Array, block: DataBlock | null, done: CommandDone): Promise<void> {
    const opcode = sqe[0]! & 0xff
    const { allowAdmin, namespaces } = this.#subsystem.options
    // With several devices, nothing says which one is meant.
    if (!allowAdmin || namespaces.length > 1 || !CHANGING.has(opcode)) {
      refuse(done, STATUS.INVALID_OPCODE)
      return
    }
    const namespace = namespaces[0]!
    // All namespaces of a host are the one that is served, whatever else the device has.
    const own = sqe[1] === namespace.nsid || (opcode === ADMIN.FORMAT_NVM && sqe[1] === ALL_NAMESPACES)
    const nsid = own ? namespace.io.geometry.nsid : sqe[1]!
    if (sqe[1] !== 0 && sqe[1] !== ALL_NAMESPACES && sqe[1] !== namespace.nsid) {
      refuse(done, STATUS.INVALID_NAMESPACE_OR_FORMAT)
      return
    }
    if (namespace.readOnly) {
      refuse(done, STATUS.NAMESPACE_WRITE_PROTECTED)
      return
    }
    if (namespace.reservations.conflicts(NVM.WRITE, this.#host.hostid)) {
      refuse(done, STATUS.RESERVATION_CONFLICT)
      return
    }
    try {
      const [cdw10, cdw11, cdw12, cdw13, cdw14, cdw15] = sqe.subarray(10, 16) as unknown as number[]
      const data = block === null ? {} : { data: block.bytes }
      const { result } = await namespace.io.controller.admin({
        ...{ opcode, nsid, cdw10, cdw11, cdw12, cdw13, cdw14, cdw15, ...data },
      })
      await namespace.known
      done(0, result)
    } catch (error) {
      done(error instanceof NvmeError ? (error.sct << 8) | error.sc | DNR : statusOf(error as Error), 0)
    }
  }
}

/** As much of `from` as there is space for; what is behind its end is 0. */
export function copyInto(target: Uint8Array, from: Uint8Array, offset: number): void {
  const part = from.subarray(offset, offset + target.length)
  target.set(part)
  target.fill(0, part.length)
}
