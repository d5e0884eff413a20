// The controller that one host has of a server, for as long as its association lasts: its registers, its memory, its
// commands in flight on the namespaces that all hosts share (NVMe 2.0 base, section 3).

import { FEATURE } from '../../../lib/nvme/spec/features.ts'
import { ADMIN, ALL_NAMESPACES, NVM } from '../../../lib/nvme/spec/opcodes.ts'
import { CSTS, encodeCapabilities, REGISTER, SHST } from '../../../lib/nvme/spec/registers.ts'
import { STATUS } from '../../../lib/nvme/spec/status.ts'
import type {
  CommandDone,
  ConnectingHost,
  DataBlock,
  ServedController,
} from '../../../lib/nvme/tcp/target/index.ts'
import type { MemoryUser, Part } from '../memory.ts'
import { copyInto, HostAdmin } from './host-admin.ts'
import type { HostEvents } from './host-events.ts'
import { DNR, PASSED, type ServedNamespace } from './namespace.ts'
import { RESERVATION_OPCODES } from './reservations.ts'
import { refuse, type Subsystem, type SubsystemController, type WaitingCommand } from './subsystem.ts'

const VERSION = 0x0001_0400
const CC_EN = 1
const CC_SHN = 0xc000
/** Bytes of data of admin commands that one host may have at a time. */
const MOST_ADMIN_BYTES = 2 ** 20
/** Memory of an admin command is plain; that of a command to a namespace the device's. */
type Block = DataBlock | Part
const isDma = (block: Block): block is Part => 'memory' in block

const ignored: CommandDone = () => {}

/** A command that is being done: its object is used again. */
interface HostCommand {
  qid: number
  generation: number
  /** Answers the host. */
  done: CommandDone
  /** Calls that. */
  readonly end: CommandDone
}

export class HostController implements ServedController<Block>, MemoryUser, SubsystemController {
  readonly maxBytes: number
  onGone: (() => void) | null = null
  onRoom: (() => void) | null = null
  readonly hostid: string
  readonly cntlid: number
  readonly listener: number
  readonly #subsystem: Subsystem
  readonly #cap: readonly [lo: number, hi: number]
  #cc = 0
  #shutdown: number = SHST.NORMAL
  // Counts resets: what was sent before one is not answered after it.
  #generation = 0
  #inFlight = 0
  // Commands in flight of before the last reset.
  #past = 0
  // Commands in flight of each I/O queue, and whom to tell when one that is deleted has none any more.
  readonly #byQueue: Uint32Array
  readonly #idle: HostCommand[] = []
  // All that there are, idle or not: for Abort.
  readonly #all: HostCommand[] = []
  readonly #emptied = new Map<number, () => void>()
  #ended: (() => void) | null = null
  #adminHeld = 0
  #adminFull = false
  readonly #admin: HostAdmin
  readonly #events: HostEvents

  constructor(subsystem: Subsystem, host: ConnectingHost) {
    this.#subsystem = subsystem
    this.cntlid = host.cntlid
    this.hostid = host.hostid
    this.listener = host.listener
    this.#admin = new HostAdmin(subsystem, host)
    this.#events = this.#admin.events
    this.maxBytes = subsystem.maxBytes
    this.#byQueue = new Uint32Array(subsystem.options.queues + 1)
    this.#cap = encodeCapabilities({
      ...{ mqes: subsystem.options.entries, cqr: true, ams: 0, to: 30_000, dstrd: 4, nssrs: false, css: 1 },
      ...{ bps: false, mpsmin: 4096, mpsmax: 4096, pmrs: false, cmbs: false },
    })
    subsystem.controllers.add(this)
  }

  // Registers

  readRegister(offset: number): number {
    switch (offset) {
      case REGISTER.CAP_LO:
        return this.#cap[0]
      case REGISTER.CAP_HI:
        return this.#cap[1]
      case REGISTER.VS:
        return VERSION
      case REGISTER.CC:
        return this.#cc
      case REGISTER.CSTS:
        return (this.#isReady ? CSTS.RDY : 0) | this.#shutdown
      default:
        return 0
    }
  }

  // A controller that is disabled is ready until nothing of it is in flight any more.
  get #isReady(): boolean {
    return this.#isEnabled || this.#past > 0
  }

  get #isEnabled(): boolean {
    return (this.#cc & CC_EN) !== 0
  }

  writeRegister(offset: number, value: number): void {
    if (offset !== REGISTER.CC) return
    const before = this.#cc
    this.#cc = value
    if ((before & CC_EN) !== 0 && !this.#isEnabled) this.#disable()
    if ((value & CC_SHN) === 0) this.#shutdown = SHST.NORMAL
    else if ((before & CC_SHN) === 0) this.#shutDown()
  }

  #shutDown(): void {
    const generation = this.#generation
    this.#shutdown = SHST.PROCESSING
    const end = () => {
      if (generation === this.#generation) this.#shutdown = SHST.COMPLETE
    }
    this.#subsystem.flush().then(end, end)
  }

  #disable(): void {
    this.#generation++
    this.#subsystem.addGhosts(this.hostid, this.#inFlight)
    this.#past += this.#inFlight
    this.#inFlight = 0
    this.#byQueue.fill(0)
    for (const emptied of this.#emptied.values()) emptied()
    this.#emptied.clear()
    this.#admin.reset()
  }

  reset(ended: () => void): void {
    this.#disable()
    this.#cc = 0
    this.#shutdown = SHST.NORMAL
    if (this.#past > 0) this.#ended = ended
    else ended()
  }

  close(): void {
    this.#subsystem.controllers.delete(this)
    this.onRoom = null
    for (const { memory } of this.#subsystem.namespaces.values()) memory.forgetUser(this)
  }

  run(): void {}

  idOf(): undefined {
    return undefined
  }

  // Memory

  alloc(bytes: number, qid: number, nsid: number): Block | null {
    const namespace = qid === 0 ? undefined : this.#subsystem.namespaces.get(nsid)
    if (namespace !== undefined) return namespace.memory.take(bytes, this)
    if (this.#adminHeld > 0 && this.#adminHeld + bytes > MOST_ADMIN_BYTES) {
      this.#adminFull = true
      return null
    }
    this.#adminHeld += bytes
    return { bytes: Buffer.alloc(bytes) }
  }

  free(block: Block): void {
    if (isDma(block)) {
      block.memory.give(block, this)
      return
    }
    this.#adminHeld -= block.bytes.length
    if (!this.#adminFull) return
    this.#adminFull = false
    this.onRoom?.()
  }

  // Queues

  createQueue(qid: number, _entries: number, done: (status: number) => void): void {
    done(qid > this.#admin.granted ? STATUS.INVALID_QUEUE_IDENTIFIER | DNR : 0)
  }

  deleteQueue(qid: number, done: () => void): void {
    this.#subsystem.dropWaiting(this, qid)
    if ((this.#byQueue[qid] ?? 0) === 0) done()
    else this.#emptied.set(qid, done)
  }

  // Commands

  submit(qid: number, sqe: Uint32Array, block: Block | null, done: CommandDone): void {
    if (qid === 0 && (sqe[0]! & 0xff) === ADMIN.ASYNC_EVENT_REQUEST) {
      // It waits for ever, and is nothing that is in flight.
      this.#events.request(done)
      return
    }
    if (qid !== 0 && this.#subsystem.hasGhosts(this.hostid)) this.#wait(qid, sqe, block, done)
    else this.#begin(qid, sqe, block, done)
  }

  // What waits is not in flight yet, and is not begun once its controller is no more.
  #wait(qid: number, sqe: Uint32Array, block: Block | null, done: CommandDone): void {
    const generation = this.#generation
    const waiting: WaitingCommand = {
      ...{ cntlid: this.cntlid, qid, done },
      act: () => {
        if (generation === this.#generation) this.#begin(qid, sqe, block, done)
        else done(-1, 0)
      },
    }
    this.#subsystem.waitForGhosts(this.hostid, waiting)
  }

  #begin(qid: number, sqe: Uint32Array, block: Block | null, done: CommandDone): void {
    const command = this.#idle.pop() ?? this.#makeCommand()
    command.qid = qid
    command.generation = this.#generation
    command.done = done
    this.#inFlight++
    this.#byQueue[qid]!++
    if (qid === 0) this.#admin.execute(sqe, block, command.end)
    else this.#executeIo(qid, sqe, block, command.end)
  }

  #makeCommand(): HostCommand {
    const command: HostCommand = {
      ...{ qid: 0, generation: 0, done: ignored },
      end: (status, result) => this.#end(command, status, result),
    }
    this.#all.push(command)
    return command
  }

  #end(command: HostCommand, status: number, result: number): void {
    const { qid, generation, done } = command
    command.done = ignored
    this.#idle.push(command)
    if (generation === this.#generation) {
      this.#inFlight--
      done(status, result)
      // Unless the host's answer ended its controller.
      if (generation === this.#generation) this.#leave(qid)
      return
    }
    this.#past--
    this.#subsystem.endGhost(this.hostid)
    done(-1, 0)
    if (this.#past === 0) this.#endPast()
  }

  withdraw(done: CommandDone): boolean {
    if (!this.#events.withdraw(done) && !this.#subsystem.withdrawWaiting(this.hostid, done)) {
      return this.#withdrawSent(done)
    }
    done(STATUS.ABORT_REQUESTED, 0)
    return true
  }

  #withdrawSent(done: CommandDone): boolean {
    const command = this.#all.find((one) => one.done === done)
    if (command === undefined) return false
    return [...this.#subsystem.namespaces.values()].some((namespace) => namespace.withdraw(command.end))
  }

  #leave(qid: number): void {
    const left = --this.#byQueue[qid]!
    if (left > 0 || this.#emptied.size === 0) return
    const emptied = this.#emptied.get(qid)
    if (emptied === undefined) return
    this.#emptied.delete(qid)
    emptied()
  }

  #endPast(): void {
    const ended = this.#ended
    this.#ended = null
    ended?.()
  }

  #executeIo(qid: number, sqe: Uint32Array, block: Block | null, done: CommandDone): void {
    const opcode = sqe[0]! & 0xff
    const nsid = sqe[1]!
    const refusal = this.#subsystem.anaRefusal(this.listener, nsid)
    if (opcode === NVM.FLUSH && nsid === ALL_NAMESPACES) {
      if (refusal !== 0) done(refusal, 0)
      else void this.#subsystem.flush().then((status) => done(status, 0))
      return
    }
    const namespace = this.#subsystem.namespaces.get(nsid)
    if (namespace === undefined) refuse(done, STATUS.INVALID_NAMESPACE_OR_FORMAT)
    else if (!PASSED.has(opcode) && !RESERVATION_OPCODES.has(opcode)) refuse(done, STATUS.INVALID_OPCODE)
    else if (refusal !== 0) done(refusal, 0)
    else if (RESERVATION_OPCODES.has(opcode)) this.#reserve(namespace, sqe, block, done)
    else namespace.execute(sqe, block as Part | null, this.hostid, this.cntlid + qid, done)
  }

  #reserve(namespace: ServedNamespace, sqe: Uint32Array, block: Block | null, done: CommandDone): void {
    const opcode = sqe[0]! & 0xff
    const bytes = block?.bytes.length ?? 0
    if (opcode === NVM.RESERVATION_REPORT) {
      const length = (sqe[10]! + 1) * 4
      if (block === null || bytes !== length) refuse(done, STATUS.DATA_SGL_LENGTH_INVALID)
      // Identifiers have 128 bits here, and a report with shorter ones can't name hosts.
      else if ((sqe[11]! & 1) === 0) refuse(done, STATUS.HOST_IDENTIFIER_INCONSISTENT_FORMAT)
      else {
        copyInto(block.bytes, namespace.reservations.report(), 0)
        done(0, 0)
      }
      return
    }
    const needed = opcode === NVM.RESERVATION_RELEASE ? 8 : 16
    if (block === null || bytes < needed) {
      refuse(done, STATUS.DATA_SGL_LENGTH_INVALID)
      return
    }
    const data = Buffer.from(block.bytes.subarray(0, needed))
    const by = { hostid: this.hostid, cntlid: this.cntlid }
    void this.#subsystem.reserve(namespace, by, opcode, sqe[10]!, data).then((status) => refuse(done, status))
  }

  // Events

  anaChanged(): void {
    if (this.#isEnabled) this.#events.add('ana')
  }

  namespaceChanged(nsid: number): void {
    this.#events.addChangedNamespace(nsid)
    if (this.#isEnabled) this.#events.add('namespace')
  }

  notifyReservation(type: number, nsid: number): void {
    const mask = this.#admin.valueOf(FEATURE.RESERVATION_NOTIFICATION_MASK)
    if (((mask >>> type) & 1) !== 0) return
    this.#events.addNotice({ page: this.#subsystem.nextReservationNotice(), type, nsid })
    if (this.#isEnabled) this.#events.add('reservation')
  }
}
