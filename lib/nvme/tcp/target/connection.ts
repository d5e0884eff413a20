// One connection of a target: PDUs in and out, data to and from commands, and Connect, which gives it to an association.

import { Buffer } from 'node:buffer'
import type net from 'node:net'
import { DecodeError } from '../../../errors.ts'
import { logger } from '../../../log/index.ts'
import { readInto } from '../../../sys/read-into.ts'
import { STATUS } from '../../spec/status.ts'
import { crc32c } from '../crc32c.ts'
import {
  AUTHENTICATION_PROTOCOL,
  AUTHREQ,
  CONNECT_BYTES,
  CONNECT_DATA_FIELD,
  CONNECT_FIELD,
  type ConnectData,
  decodeConnectData,
  FABRICS_OPCODE,
  FABRICS_STATUS,
  FCTYPE,
  PSDT_SGL,
  SGL,
} from '../fabrics.ts'
import {
  type Agreement,
  DGST,
  decodeIcReq,
  describeTermReq,
  encodeIcResp,
  encodeTermReq,
  FES,
  FLAG,
  isViolation,
  PDU,
  typeSet,
  violation,
  writeCommon,
} from '../pdu.ts'
import { type PduHandler, Receiver } from '../receiver.ts'
import type { Association } from './association.ts'
import { Authentication, type TargetDhchap } from './authentication.ts'
import type { CommandDone, DataBlock } from './controller.ts'
import { MOST_COPIED, Outbox } from './outbox.ts'

const log = logger('tcp-target')

const ADMIN_IN_CAPSULE = 8192
const MOST_ADMIN_SQSIZE = 63
const DNR = 0x4000
const TO_TARGET = 1
const TO_HOST = 2
const TERMINATE_MS = 1000
/** What is written is waited for after the end: hosts that read nothing are not. */
const LINGER_MS = 5000
/** Bytes that wait to be sent, from which on nothing more is taken of the host. */
const MOST_UNSENT = 8 * 2 ** 20
/** Bytes that wait to be sent, from which on data is not copied behind them: memory of its controller is what limits a host. */
const MOST_COPIES = 256 * 1024
/** Bytes of data in capsules that may wait for memory of their controllers, of all connections together. */
const MOST_HELD = 32 * 2 ** 20

export interface ConnectionLimits {
  /** Most bytes of data within the capsule of an I/O command: a multiple of 16, 0 for none. */
  readonly inCapsule: number
  /** Most bytes of data in one H2CData, and of one R2T. */
  readonly maxH2cData: number
  readonly maxR2t: number
  /** Most bytes of data in one C2HData. */
  readonly maxC2hData: number
  /** Reads that succeed end with their last C2HData, without a response. */
  readonly success: boolean
  /** What the target is ready for. */
  readonly hdgst: boolean
  readonly ddgst: boolean
}

/** What a connection asks of its target. */
export interface ConnectionTarget {
  readonly limits: ConnectionLimits
  /** Hosts have to prove who they are. */
  readonly dhchap: TargetDhchap | undefined
  /** Milliseconds that a host has for Connect, and to prove who it is. */
  readonly helloMs: number
  /** Of data in capsules that wait for memory, in bytes. */
  readonly held: { bytes: number }
  /** False where it is known that its host is another, or wants another subsystem. */
  admits(connect: ConnectData): boolean
  /** A new association, or why there is none: a status, and dword 0. */
  associate(connect: ConnectCommand, connection: Connection): { readonly association: Association } | Refusal
  /** The association of an I/O queue's Connect. */
  find(cntlid: number): Association | undefined
  closed(connection: Connection): void
}

/** Connect, as it came. */
export interface ConnectCommand extends ConnectData {
  readonly qid: number
  readonly sqsize: number
  readonly kato: number
}

/** A command of the host: its object is used again when it has been answered and its data sent. */
interface Command {
  cid: number
  readonly sqe: Uint32Array
  length: number
  direction: number
  block: DataBlock | null
  /** Memory of Connect's data, which no controller gives. */
  data: Buffer | null
  /** Of data that is fetched: what has come, and the end of what was asked for. */
  received: number
  asked: number
  ttag: number
  corrupt: boolean
  // Made once with the object.
  /** Answers it. */
  readonly done: CommandDone
  /** Tries to get memory for it; false where there is none. */
  readonly attempt: () => boolean
  /** Its data is out. */
  readonly sent: () => void
}

/** Where its data goes. */
const targetOf = ({ data, block }: Command) => (data === null ? block : { bytes: data })

/** Why there is no association, or no queue: dword 0 says more. */
export interface Refusal {
  readonly status: number
  readonly result: number
}

/** Invalid parameters of Connect: dword 0 says where. */
const invalid = (at: number, inData = false): Refusal => ({
  status: FABRICS_STATUS.CONNECT_INVALID_PARAMETERS | DNR,
  result: at | (inData ? 0x1_0000 : 0),
})

// What sockets bring, of all connections in turn: none of it is kept where it is. As large as two writes of 128 KiB.
const RECEIVED = Buffer.allocUnsafeSlow(256 * 1024)

export class Connection implements PduHandler {
  accepted = typeSet(PDU.IC_REQ)
  readonly mostData: number
  /** Its socket is closed. */
  readonly closed: Promise<void>
  readonly #target: ConnectionTarget
  readonly #socket: net.Socket
  readonly #outbox: Outbox
  readonly #receiver = new Receiver(this)
  readonly #greeting: NodeJS.Timeout
  #agreement: Agreement = { hdgst: false, ddgst: false }
  #pda = 4
  #association: Association | null = null
  #qid = 0
  // Before it is done, no other command is taken.
  #authentication: Authentication | null = null
  // Commands that may be outstanding: before there is a queue, Connect alone.
  #most = 1
  readonly #commands = new Map<number, Command>()
  // Objects that can be used again.
  readonly #idle: Command[] = []
  // By transfer tag.
  readonly #transfers = new Map<number, Command>()
  #nextTag = 1
  // Whose data is being received.
  #receiving: Command | null = null
  #refusal = 0
  #ended = false
  #over = false
  // What is gathered leaves at the end of what goes on now.
  #flushing = false
  #taking = true
  #dataPdus = 0
  #seen = { dataPdus: 0, written: 0, read: 0, transferring: false, receiving: false, unsent: false }

  constructor(target: ConnectionTarget, socket: net.Socket) {
    const { inCapsule, maxH2cData } = target.limits
    this.#target = target
    const bytesCame = (buffer: Buffer, bytes: number) => this.#feed(buffer, bytes)
    this.#socket = readInto(socket, RECEIVED, bytesCame)
    this.#outbox = new Outbox(this.#socket)
    this.mostData = Math.max(ADMIN_IN_CAPSULE, inCapsule, maxH2cData)
    this.#greeting = setTimeout(() => this.end(), target.helloMs)
    this.closed = this.#listen(this.#socket)
  }

  #listen(socket: net.Socket): Promise<void> {
    socket.setNoDelay(true)
    socket.on('error', (error) => log('%s', error.message))
    socket.on('end', () => this.#closed())
    socket.on('drain', () => this.#taking && socket.resume())
    socket.resume()
    return new Promise((resolve) => {
      socket.on('close', () => {
        this.#closed()
        resolve()
      })
    })
  }

  /** Ends it, once what was written is out. */
  end(): void {
    if (this.#ended) return
    this.#ended = true
    this.#receiver.end()
    this.#outbox.flush()
    this.#socket.destroySoon()
    setTimeout(() => this.#socket.destroy(), LINGER_MS).unref()
  }

  doneOf(cid: number): CommandDone | undefined {
    return this.#commands.get(cid)?.done
  }

  /** A command that waits for memory. */
  withdraw(cid: number): boolean {
    const command = this.#commands.get(cid)
    if (command === undefined || this.#association?.stopWaiting(command.attempt) !== true) return false
    this.#answer(command, STATUS.ABORT_REQUESTED, 0)
    return true
  }

  /** Takes nothing more of the host; what is in flight is answered. */
  quiesce(): void {
    this.#taking = false
    this.#socket.pause()
  }

  /** Bytes that the host has not taken yet. */
  get unsent(): number {
    return this.#outbox.length
  }

  /** Ends it where its host has neither sent data that was asked for, nor taken what there is, since the last look. */
  look(): void {
    const dataPdus = this.#dataPdus
    const written = this.#socket.bytesWritten - this.unsent
    const seen = this.#seen
    const silent = this.#transfers.size > 0 && seen.transferring && seen.dataPdus === dataPdus
    const read = this.#socket.bytesRead
    const receiving = this.#receiving !== null
    // In the middle of a PDU.
    const stuck = receiving && seen.receiving && seen.read === read
    const deaf = this.unsent > 0 && seen.unsent && seen.written === written
    const transferring = this.#transfers.size > 0
    this.#seen = { dataPdus, written, read, transferring, receiving, unsent: this.unsent > 0 }
    if (this.#ended || !(silent || stuck || deaf)) return
    log('queue %d: the host %s', this.#qid, deaf ? 'takes nothing' : 'sends no data')
    this.end()
    this.#socket.destroy()
  }

  // By its host, or altogether.
  #closed(): void {
    if (this.#over) return
    this.#over = true
    this.end()
    clearTimeout(this.#greeting)
    this.#association?.closed(this.#qid, this)
    // What the controller still has is given back when it ends.
    if (this.#receiving !== null) this.#release(this.#receiving)
    for (const command of this.#transfers.values()) this.#release(command)
    this.#transfers.clear()
    for (const command of this.#commands.values()) this.#dropHeld(command)
    this.#target.closed(this)
  }

  #feed(buffer: Buffer, bytes: number): void {
    if (this.#ended) return
    // What is answered at once leaves together.
    this.#flushing = true
    try {
      this.#receiver.feed(buffer, bytes)
    } catch (error) {
      if (!isViolation(error)) throw error
      this.#terminate(error)
    }
    this.#association?.run()
    this.#flush()
    if (this.unsent > MOST_UNSENT) this.#socket.pause()
  }

  #terminate(error: Parameters<typeof encodeTermReq>[1]): void {
    const { head, filled } = this.#receiver
    log('%s', error.message)
    this.#receiver.end()
    this.#ended = true
    this.#outbox.write(encodeTermReq(PDU.C2H_TERM_REQ, error, head.subarray(0, filled)))
    this.#outbox.flush()
    this.#socket.end()
    setTimeout(() => this.#socket.destroy(), TERMINATE_MS).unref()
  }

  readonly #flush = (): void => {
    this.#flushing = false
    this.#outbox.flush()
  }

  // What ends in one turn leaves together.
  #flushSoon(): void {
    if (this.#flushing) return
    this.#flushing = true
    queueMicrotask(this.#flush)
  }

  // What comes

  onHeader(receiver: Receiver): void {
    const { head, words, layout } = receiver
    if (head[0] === PDU.CAPSULE_CMD) this.#takeCommand(words, layout.data)
    else if (head[0] === PDU.H2C_DATA) this.#takeData(head[1]!, words, layout.data)
  }

  onPdu({ head }: Receiver, intact: boolean): void {
    switch (head[0]) {
      case PDU.IC_REQ:
        this.#greet(head)
        break
      case PDU.CAPSULE_CMD:
        this.#began(intact)
        break
      case PDU.H2C_DATA:
        this.#dataCame(intact)
        break
      default:
        log('the host ends the connection: %s', describeTermReq(head))
        this.end()
    }
  }

  #greet(head: Buffer): void {
    const { pfv, hpda, dgst } = decodeIcReq(head)
    const field = (fei: number, what: string) => violation(FES.INVALID_HEADER_FIELD, fei, `ICReq: ${what}`)
    if (pfv !== 0) throw field(8, `PFV is ${pfv}, 0 is needed`)
    if (hpda > 31) throw field(10, `HPDA is ${hpda}, 0 to 31 are possible`)
    const { hdgst, ddgst, maxH2cData } = this.#target.limits
    this.#pda = (hpda + 1) * 4
    this.#agreement = { hdgst: hdgst && (dgst & DGST.HEADER) !== 0, ddgst: ddgst && (dgst & DGST.DATA) !== 0 }
    const agreed = (this.#agreement.hdgst ? DGST.HEADER : 0) | (this.#agreement.ddgst ? DGST.DATA : 0)
    this.#outbox.write(encodeIcResp({ pfv: 0, cpda: 0, dgst: agreed, maxh2cdata: maxH2cData }))
    this.#flushSoon()
    this.accepted = typeSet(PDU.CAPSULE_CMD, PDU.H2C_DATA, PDU.H2C_TERM_REQ)
    this.#receiver.handOver(this, this.#agreement)
  }

  // A capsule's header: where its data goes, or why it is refused.
  #takeCommand(words: Uint32Array, data: number): void {
    const command = this.#idle.pop() ?? this.#makeCommand()
    const { sqe } = command
    for (let i = 0; i < 16; i++) sqe[i] = words[2 + i]!
    const fabrics = (sqe[0]! & 0xff) === FABRICS_OPCODE
    command.cid = sqe[0]! >>> 16
    command.length = sqe[8]!
    command.direction = command.length === 0 ? 0 : (fabrics ? sqe[1]! : sqe[0]!) & 3
    command.received = command.asked = command.ttag = 0
    command.corrupt = false
    this.#receiving = command
    this.#refusal = this.#placeData(command, sqe[9]! >>> 24, data, fabrics)
    // What is refused is received all the same, and dropped.
    if (this.#refusal !== 0 || data === 0) return
    this.#receiver.store(targetOf(command), 0)
    command.received = data
  }

  #makeCommand(): Command {
    const command: Command = {
      ...{ cid: 0, sqe: new Uint32Array(16), length: 0, direction: 0, block: null, data: null },
      ...{ received: 0, asked: 0, ttag: 0, corrupt: false },
      done: (status, result) => this.#answer(command, status, result),
      attempt: () => this.#provide(command),
      sent: () => this.#finish(command),
    }
    return command
  }

  // Nothing of it is needed any more.
  #finish(command: Command): void {
    this.#release(command)
    command.data = null
    this.#idle.push(command)
  }

  #placeData(command: Command, type: number, data: number, fabrics: boolean): number {
    const { sqe, length, cid } = command
    if (this.#commands.has(cid)) return STATUS.COMMAND_ID_CONFLICT | DNR
    if (((sqe[0]! >>> 8) & 0xc0) !== PSDT_SGL) return STATUS.INVALID_FIELD | DNR
    // However nothing is described: SPDK has it in the capsule where a command might carry data.
    if (length === 0 && data === 0) return 0
    const limit = this.#qid === 0 || fabrics ? ADMIN_IN_CAPSULE : this.#target.limits.inCapsule
    if (type === SGL.IN_CAPSULE) {
      if (sqe[6] !== 0 || sqe[7] !== 0) return STATUS.SGL_OFFSET_INVALID | DNR
      if (length !== data || data > limit) return STATUS.DATA_SGL_LENGTH_INVALID | DNR
      if (command.direction !== TO_TARGET) return STATUS.INVALID_FIELD | DNR
    } else if (data !== 0) return STATUS.DATA_SGL_LENGTH_INVALID | DNR
    else if (type !== SGL.TRANSPORT) return STATUS.SGL_DESCRIPTOR_TYPE_INVALID | DNR
    if (fabrics) {
      if (length > ADMIN_IN_CAPSULE) return STATUS.DATA_SGL_LENGTH_INVALID | DNR
      command.data = Buffer.alloc(length)
      return 0
    }
    const association = this.#association
    if (association === null) return STATUS.COMMAND_SEQUENCE_ERROR | DNR
    const { controller } = association.options
    if (length > controller.maxBytes) return STATUS.INVALID_FIELD | DNR
    // Without data in the capsule, memory is not needed before all of it has come.
    if (data === 0) return 0
    if (!association.crowded) command.block = controller.alloc(length, this.#qid, sqe[1]!)
    if (command.block !== null) return 0
    const { held } = this.#target
    if (held.bytes + length > MOST_HELD) return STATUS.COMMAND_INTERRUPTED
    held.bytes += length
    command.data = Buffer.allocUnsafe(length)
    return 0
  }

  // Gives a command memory of its controller, and goes on with it; false where there is none now.
  #provide(command: Command): boolean {
    if (this.#ended) {
      this.#finish(command)
      return true
    }
    const { length, sqe, data } = command
    command.block = this.#association!.options.controller.alloc(length, this.#qid, sqe[1]!)
    if (command.block === null) return false
    if (data !== null) {
      command.block.bytes.set(data)
      this.#dropHeld(command)
    }
    this.#proceed(command)
    return true
  }

  #dropHeld(command: Command): void {
    if (command.data === null || (command.sqe[0]! & 0xff) === FABRICS_OPCODE) return
    this.#target.held.bytes -= command.length
    command.data = null
  }

  // All of a capsule has come.
  #began(intact: boolean): void {
    const command = this.#receiving!
    const { cid, sqe } = command
    // It stays the one that is received, with its memory, where the connection ends for it.
    if (this.#refusal === 0 && this.#commands.size >= this.#most) {
      throw violation(
        FES.SEQUENCE_ERROR,
        0,
        `CapsuleCmd: more than ${this.#most} commands on queue ${this.#qid}`,
      )
    }
    this.#receiving = null
    if (this.#refusal !== 0) {
      this.#respond(cid, this.#refusal, 0, 0)
      this.#finish(command)
      return
    }
    this.#commands.set(cid, command)
    command.corrupt = !intact
    const association = this.#association
    const needsRoom = association !== null && command.length > 0 && command.block === null
    if ((sqe[0]! & 0xff) === FABRICS_OPCODE || !needsRoom) {
      this.#proceed(command)
      return
    }
    if (association.crowded || !this.#provide(command)) association.waitForRoom(command.attempt)
  }

  // With memory for its data.
  #proceed(command: Command): void {
    if (command.direction === TO_TARGET && command.received < command.length) this.#ask(command)
    else if ((command.sqe[0]! & 0xff) === FABRICS_OPCODE) this.#executeFabrics(command)
    else this.#execute(command)
  }

  #ask(command: Command): void {
    const bytes = Math.min(this.#target.limits.maxR2t, command.length - command.received)
    command.asked = command.received + bytes
    if (command.ttag === 0) {
      while (this.#transfers.has(this.#nextTag) || this.#nextTag === 0)
        this.#nextTag = (this.#nextTag + 1) & 0xffff
      command.ttag = this.#nextTag
      this.#nextTag = (this.#nextTag + 1) & 0xffff
      this.#transfers.set(command.ttag, command)
    }
    const at = this.#header(PDU.R2T, 0, 0, 24)
    const pdu = this.#outbox.bytes
    pdu.writeUInt16LE(command.cid, at + 8)
    pdu.writeUInt16LE(command.ttag, at + 10)
    pdu.writeUInt32LE(command.received, at + 12)
    pdu.writeUInt32LE(bytes, at + 16)
    this.#seal(at)
  }

  #takeData(flags: number, words: Uint32Array, data: number): void {
    const ttag = words[2]! >>> 16
    const command = this.#transfers.get(ttag)
    const field = (fes: number, fei: number, what: string) => violation(fes, fei, `H2CData: ${what}`)
    if (command === undefined) {
      throw field(FES.INVALID_HEADER_FIELD, 10, `TTAG is ${ttag}, no transfer that was asked for`)
    }
    if ((words[2]! & 0xffff) !== command.cid) {
      throw field(
        FES.INVALID_HEADER_FIELD,
        8,
        `CCCID is ${words[2]! & 0xffff}, TTAG ${ttag} is of ${command.cid}`,
      )
    }
    const [offset, bytes] = [words[3]!, words[4]!]
    if (bytes !== data) throw field(FES.INVALID_HEADER_FIELD, 16, `DATAL is ${bytes}, PLEN leaves ${data}`)
    if (bytes > this.#target.limits.maxH2cData) {
      throw field(FES.LIMIT_EXCEEDED, 16, `DATAL is ${bytes}, above MAXH2CDATA`)
    }
    if (offset !== command.received) {
      throw field(FES.DATA_OUT_OF_RANGE, 12, `DATAO is ${offset}, ${command.received} is the next byte`)
    }
    if (offset + bytes > command.asked) {
      throw field(
        FES.DATA_OUT_OF_RANGE,
        16,
        `DATAL is ${bytes}, ${command.asked - offset} are left of the R2T`,
      )
    }
    if (((flags & FLAG.LAST) !== 0) !== (offset + bytes === command.asked)) {
      throw field(FES.INVALID_HEADER_FIELD, 1, 'LAST_PDU is not where the R2T is complete')
    }
    this.#receiving = command
    this.#receiver.store(targetOf(command), offset)
    command.received = offset + bytes
  }

  #dataCame(intact: boolean): void {
    const command = this.#receiving!
    this.#receiving = null
    this.#dataPdus++
    if (!intact) command.corrupt = true
    if (command.received < command.asked) return
    if (command.received < command.length) {
      this.#ask(command)
      return
    }
    this.#transfers.delete(command.ttag)
    if ((command.sqe[0]! & 0xff) === FABRICS_OPCODE) this.#executeFabrics(command)
    else this.#execute(command)
  }

  // Commands

  #execute(command: Command): void {
    const association = this.#association
    if (association === null) {
      this.#answer(command, STATUS.COMMAND_SEQUENCE_ERROR | DNR, 0)
      return
    }
    if (command.corrupt) {
      this.#answer(command, STATUS.TRANSIENT_TRANSPORT_ERROR, 0)
      return
    }
    if (this.#authentication?.done === false) {
      this.#answer(command, FABRICS_STATUS.AUTHENTICATION_REQUIRED | DNR, 0)
      return
    }
    association.submit(this.#qid, command.sqe, command.block, command.done)
  }

  #executeFabrics(command: Command): void {
    const { sqe } = command
    const fctype = sqe[1]! & 0xff
    const association = this.#association
    if (command.corrupt) this.#answer(command, STATUS.TRANSIENT_TRANSPORT_ERROR, 0)
    else if (fctype === FCTYPE.CONNECT) this.#connect(command)
    else if (association === null) this.#answer(command, STATUS.COMMAND_SEQUENCE_ERROR | DNR, 0)
    else if (fctype === FCTYPE.AUTHENTICATION_SEND) this.#takeMessage(command)
    else if (fctype === FCTYPE.AUTHENTICATION_RECEIVE) this.#giveMessage(command)
    else if (this.#authentication?.done === false) {
      this.#answer(command, FABRICS_STATUS.AUTHENTICATION_REQUIRED | DNR, 0)
    } else if (fctype === FCTYPE.PROPERTY_GET && this.#qid === 0) {
      const value = association.property(sqe[11]!, (sqe[10]! & 7) === 1 ? 8 : 4)
      if (value === null) this.#answer(command, STATUS.INVALID_FIELD | DNR, 0)
      else this.#answer(command, 0, ...value)
    } else if (fctype === FCTYPE.PROPERTY_SET && this.#qid === 0) {
      const set = (sqe[10]! & 7) === 0 ? association.setProperty(sqe[11]!, sqe[12]!) : null
      this.#answer(command, set === null ? STATUS.INVALID_FIELD | DNR : 0, 0)
      set?.after()
    } else if (fctype === FCTYPE.DISCONNECT && this.#qid !== 0) {
      this.#answer(command, (sqe[10]! & 0xffff) === 0 ? 0 : FABRICS_STATUS.INCOMPATIBLE_FORMAT | DNR, 0)
      this.end()
    } else this.#answer(command, STATUS.INVALID_OPCODE | DNR, 0)
  }

  // Of DH-HMAC-CHAP.
  #takeMessage(command: Command): void {
    const { sqe, data, length } = command
    const authentication = this.#authentication
    const fits = sqe[10] === AUTHENTICATION_PROTOCOL && sqe[11] === length && data !== null
    if (authentication === null || !fits) {
      this.#answer(command, STATUS.INVALID_FIELD | DNR, 0)
      return
    }
    authentication.send(data)
    if (authentication.done) clearTimeout(this.#greeting)
    this.#answer(command, 0, 0)
    if (authentication.over) this.end()
  }

  #giveMessage(command: Command): void {
    const { sqe, data, length } = command
    const authentication = this.#authentication
    const fits = sqe[10] === AUTHENTICATION_PROTOCOL && sqe[11] === length && data !== null
    if (authentication === null || !fits) {
      this.#answer(command, STATUS.INVALID_FIELD | DNR, 0)
      return
    }
    const message = authentication.receive()
    if (message === null || message.length > length) {
      this.#answer(command, STATUS.COMMAND_SEQUENCE_ERROR | DNR, 0)
      return
    }
    data.set(message)
    this.#sendData(command.cid, data, length, false, undefined)
    this.#answer(command, 0, 0)
    // What failed is not tried again on this connection.
    if (authentication.over) this.end()
  }

  #connect(command: Command): void {
    const refusal = this.#admit(command)
    if (refusal !== null) this.#answer(command, refusal.status, refusal.result)
  }

  // Why there is no queue for a Connect; null where it is answered when there is one.
  #admit(command: Command): Refusal | null {
    const { sqe, data, length } = command
    if (this.#association !== null) return { status: STATUS.COMMAND_SEQUENCE_ERROR | DNR, result: 0 }
    if ((sqe[10]! & 0xffff) !== 0) return { status: FABRICS_STATUS.INCOMPATIBLE_FORMAT | DNR, result: 0 }
    if (data === null || length !== CONNECT_BYTES) {
      return { status: STATUS.DATA_SGL_LENGTH_INVALID | DNR, result: 0 }
    }
    let decoded: ConnectData
    try {
      decoded = decodeConnectData(data)
    } catch (error) {
      if (!(error instanceof DecodeError)) throw error
      return invalid(CONNECT_DATA_FIELD.SUBNQN, true)
    }
    const qid = sqe[10]! >>> 16
    const sqsize = sqe[11]! & 0xffff
    if (sqsize === 0 || (qid === 0 && sqsize > MOST_ADMIN_SQSIZE)) return invalid(CONNECT_FIELD.SQSIZE)
    const connect = { ...decoded, qid, sqsize, kato: sqe[12]! }
    if (!this.#target.admits(connect)) {
      return { status: FABRICS_STATUS.CONNECT_INVALID_HOST | DNR, result: 0 }
    }
    return qid === 0 ? this.#associate(command, connect) : this.#addQueue(command, connect)
  }

  #associate(command: Command, connect: ConnectCommand): Refusal | null {
    const made = this.#target.associate(connect, this)
    if ('status' in made) return made
    this.#join(made.association, 0, connect.sqsize)
    this.#answer(command, 0, made.association.options.cntlid | this.#authreq)
    return null
  }

  #addQueue(command: Command, { qid, sqsize, cntlid, ...named }: ConnectCommand): Refusal | null {
    const association = this.#target.find(cntlid)
    if (association === undefined || association.ended) return invalid(CONNECT_DATA_FIELD.CNTLID, true)
    const { hostnqn, hostid, subnqn } = association.options
    if (subnqn !== named.subnqn) return invalid(CONNECT_DATA_FIELD.SUBNQN, true)
    if (hostnqn !== named.hostnqn) return invalid(CONNECT_DATA_FIELD.HOSTNQN, true)
    if (hostid !== Buffer.from(named.hostid).toString('hex')) return invalid(CONNECT_DATA_FIELD.HOSTID, true)
    if (!association.ready || association.has(qid)) {
      return { status: STATUS.COMMAND_SEQUENCE_ERROR | DNR, result: 0 }
    }
    const mqes = (association.property(0, 8)![0] & 0xffff) + 1
    if (sqsize >= mqes) return invalid(CONNECT_FIELD.SQSIZE)
    this.#join(association, qid, sqsize)
    association.createQueue(qid, sqsize + 1, this, (status) => {
      if (status !== 0) this.#association = null
      const { result } = status === 0 ? { result: cntlid | this.#authreq } : invalid(CONNECT_FIELD.QID)
      this.#answer(command, status === 0 ? 0 : invalid(CONNECT_FIELD.QID).status, result)
    })
    return null
  }

  #join(association: Association, qid: number, sqsize: number): void {
    this.#association = association
    this.#qid = qid
    // One less is right (NVMe 1.4 base, section 4.1.2), and needs no less memory; but SPDK 20.07 fills the last entry, too.
    this.#most = sqsize + 1
    const { dhchap } = this.#target
    if (dhchap === undefined) {
      clearTimeout(this.#greeting)
      return
    }
    const { hostnqn, subnqn } = association.options
    this.#authentication = new Authentication(dhchap, hostnqn, subnqn)
  }

  /** Of dword 0 of Connect's answer. */
  get #authreq(): number {
    return this.#authentication === null ? 0 : AUTHREQ.ATR
  }

  // Answers

  #answer(command: Command, status: number, result: number, resultHigh = 0): void {
    const { block, direction, length, cid } = command
    this.#commands.delete(cid)
    // One that is never answered: its controller was reset.
    if (status < 0 || this.#ended) {
      this.#finish(command)
      return
    }
    if (status !== 0 || (direction & TO_HOST) === 0 || block === null) {
      this.#respond(cid, status, result, resultHigh)
      this.#finish(command)
      return
    }
    const alone = this.#target.limits.success && this.#qid !== 0 && result === 0
    const copied = length <= MOST_COPIED && this.#outbox.length < MOST_COPIES
    this.#sendData(cid, block.bytes, length, alone, copied ? undefined : command.sent)
    if (!alone) this.#respond(cid, status, result, resultHigh)
    if (copied) this.#finish(command)
  }

  #release(command: Command): void {
    this.#dropHeld(command)
    if (command.block === null) return
    this.#association?.options.controller.free(command.block)
    command.block = null
  }

  #respond(cid: number, status: number, result: number, resultHigh: number): void {
    const at = this.#header(PDU.CAPSULE_RESP, 0, 0, 24)
    const pdu = this.#outbox.bytes
    pdu.writeUInt32LE(result >>> 0, at + 8)
    pdu.writeUInt32LE(resultHigh >>> 0, at + 12)
    pdu.writeUInt16LE(cid, at + 20)
    pdu.writeUInt16LE(status << 1, at + 22)
    this.#seal(at)
  }

  /** @param sent called when the memory is needed no more; undefined for what is copied, up to MOST_COPIED */
  #sendData(
    cid: number,
    bytes: Uint8Array,
    length: number,
    success: boolean,
    sent: (() => void) | undefined,
  ): void {
    const { maxC2hData } = this.#target.limits
    const { hdgst, ddgst } = this.#agreement
    const least = 24 + (hdgst ? 4 : 0)
    const pdo = Math.ceil(least / this.#pda) * this.#pda
    for (let from = 0; from < length; from += maxC2hData) {
      const n = Math.min(maxC2hData, length - from)
      const last = from + n === length
      const flags = (ddgst ? FLAG.DDGST : 0) | (last ? FLAG.LAST | (success ? FLAG.SUCCESS : 0) : 0)
      const at = this.#header(PDU.C2H_DATA, flags, pdo, pdo + n + (ddgst ? 4 : 0))
      const pdu = this.#outbox.bytes
      pdu.writeUInt16LE(cid, at + 8)
      pdu.writeUInt32LE(from, at + 12)
      pdu.writeUInt32LE(n, at + 16)
      this.#seal(at)
      const data = n === bytes.length ? bytes : bytes.subarray(from, from + n)
      if (sent !== undefined) this.#outbox.write(data, last ? sent : undefined)
      else {
        const to = this.#outbox.reserve(n)
        this.#outbox.bytes.set(data, to)
      }
      if (!ddgst) continue
      const digest = this.#outbox.reserve(4)
      this.#outbox.bytes.writeUInt32LE(crc32c(data), digest)
    }
  }

  /** Where in the outbox a PDU is, up to its data, with its header but for what is of its type. */
  #header(type: number, flags: number, pdo: number, plen: number): number {
    const hdgst = this.#agreement.hdgst ? 4 : 0
    const bytes = Math.max(pdo, 24 + hdgst)
    const at = this.#outbox.reserve(bytes)
    const pdu = this.#outbox.bytes
    pdu.fill(0, at, at + bytes)
    writeCommon(
      pdu,
      at,
      type,
      flags | (hdgst === 0 ? 0 : FLAG.HDGST),
      24,
      pdo,
      plen === 24 ? 24 + hdgst : plen,
    )
    return at
  }

  // Its header is complete.
  #seal(at: number): void {
    const { bytes } = this.#outbox
    if (this.#agreement.hdgst) bytes.writeUInt32LE(crc32c(bytes, at, at + 24), at + 24)
    this.#flushSoon()
  }
}
