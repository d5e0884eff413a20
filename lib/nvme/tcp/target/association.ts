// A host's hold on a controller (NVMe 2.0 base, section 3.3): its admin queue, its I/O queues, the Keep Alive Timer. It ends
// as a whole: with the admin connection, when Keep Alive is missing, when the controller is gone.

import { logger } from '../../../log/index.ts'
import { FEATURE } from '../../spec/features.ts'
import { CNS, controllerLayout } from '../../spec/identify.ts'
import { ADMIN } from '../../spec/opcodes.ts'
import { CSTS, NSSR_RESET, REGISTER } from '../../spec/registers.ts'
import { STATUS } from '../../spec/status.ts'
import type { CommandDone, DataBlock, ServedController } from './controller.ts'

const log = logger('tcp-target')

/** Keep Alive granularity: 100 ms. */
const KAS = 1
const KAS_MS = 100
/** What a dword has, and what a timer of Node's has: with more it would be over at once. */
const MOST_KATO = 2 ** 32 - 1
const MOST_TIMER_MS = 2 ** 31 - 1
/** SGLs, with an offset in a data block: data within the capsule. */
const SGLS = 0x0010_0001
const MOST_MDTS = 8
/** Most entries of a queue. */
export const MOST_ENTRIES = 1024

/** What an association needs of a connection. */
export interface QueueConnection {
  /** Ends it, once what was written is out. */
  end(): void
  /** What answers a command that its controller has; undefined where there is none. */
  doneOf(cid: number): CommandDone | undefined
  /** Ends a command that its controller does not have yet; false where there is none. */
  withdraw(cid: number): boolean
}

export interface AssociationOptions {
  readonly controller: ServedController
  readonly cntlid: number
  readonly subnqn: string
  readonly hostnqn: string
  readonly hostid: string
  /** Milliseconds; 0 for no Keep Alive Timer. */
  readonly kato: number
  /** Most bytes of data within the capsule of an I/O command. */
  readonly inCapsule: number
  /** Called once, when it has ended. */
  readonly onEnd: () => void
}

/** Answers a command: a status as `CommandDone` has it. */
type Answer = CommandDone

const REFUSED = new Set<number>([
  ADMIN.CREATE_IO_CQ,
  ADMIN.CREATE_IO_SQ,
  ADMIN.DELETE_IO_CQ,
  ADMIN.DELETE_IO_SQ,
  ADMIN.DOORBELL_BUFFER_CONFIG,
])

export class Association {
  readonly options: AssociationOptions
  /** Its admin queue's connection. */
  readonly admin: QueueConnection
  readonly #controller: ServedController
  #kato: number
  #timer: NodeJS.Timeout | undefined
  // Counts Keep Alives.
  #touched = 0
  readonly #queues = new Map<number, QueueConnection>()
  // Commands without memory for their data, in their order: each returns false where there is still none.
  readonly #waiting: (() => boolean)[] = []
  #serving = false
  #ended = false

  constructor(options: AssociationOptions, admin: QueueConnection) {
    this.options = options
    this.admin = admin
    this.#controller = options.controller
    this.#kato = rounded(options.kato)
    this.#queues.set(0, admin)
    this.#controller.onRoom = () => this.#room()
    this.touch()
  }

  get ended(): boolean {
    return this.#ended
  }

  /** Keep Alive has come. */
  touch(): void {
    clearTimeout(this.#timer)
    this.#touched++
    if (this.#kato === 0 || this.#ended) return
    this.#timer = setTimeout(() => this.#expire(), Math.min(this.#kato, MOST_TIMER_MS))
  }

  // A program that had no time for a while looks at its timers before its sockets, which may have a Keep Alive.
  #expire(): void {
    const touched = this.#touched
    setImmediate(() => {
      if (this.#ended || this.#touched !== touched) return
      log('%s: no Keep Alive within %d ms', this.options.hostnqn, this.#kato)
      this.end()
    })
  }

  /**
   * All of its connections are closed, and the controller is as after power on. The admin connection is the last one, when
   * nothing is in flight any more: by its end a host knows that no write of the past comes after those that it sends again.
   */
  end(): void {
    if (this.#ended) return
    this.#ended = true
    clearTimeout(this.#timer)
    this.#queues.delete(0)
    this.#controller.reset(() => {
      this.admin.end()
      this.#controller.onRoom = null
      this.options.onEnd()
    })
    for (const queue of this.#queues.values()) queue.end()
    this.#queues.clear()
    for (const attempt of this.#waiting.splice(0)) attempt()
  }

  /** Calls `attempt` each time there may be memory for a command's data, until it returns true; others wait behind it. */
  waitForRoom(attempt: () => boolean): void {
    this.#waiting.push(attempt)
  }

  /** It waits no more; false where it did not. */
  stopWaiting(attempt: () => boolean): boolean {
    // The first one may be what is being tried now, and is not taken away from under that.
    const at = this.#waiting.indexOf(attempt)
    if (at < 0 || this.#serving) return false
    this.#waiting.splice(at, 1)
    return true
  }

  /** True where commands wait for memory: who comes now waits behind them. */
  get crowded(): boolean {
    return this.#waiting.length > 0
  }

  #room(): void {
    // What an attempt does may give memory back.
    if (this.#serving) return
    this.#serving = true
    while (this.#waiting[0]?.() === true) this.#waiting.shift()
    this.#serving = false
    if (!this.#ended) this.run()
  }

  /** A connection has closed. */
  closed(qid: number, connection: QueueConnection): void {
    if (this.#queues.get(qid) !== connection) return
    if (qid === 0) {
      this.end()
      return
    }
    // Not free for another before the controller has ended what was in flight.
    this.#controller.deleteQueue(qid, () => {
      if (this.#queues.get(qid) === connection) this.#queues.delete(qid)
    })
  }

  // Properties

  /** Null where there is no such property. */
  property(offset: number, bytes: number): [lo: number, hi: number] | null {
    const controller = this.#controller
    if (offset === REGISTER.CAP_LO && bytes === 8) {
      const lo = controller.readRegister(REGISTER.CAP_LO)
      const mqes = Math.min(lo & 0xffff, MOST_ENTRIES - 1)
      // Doorbell stride means nothing here.
      return [((lo & ~0xffff) | mqes) >>> 0, (controller.readRegister(REGISTER.CAP_HI) & ~0xf) >>> 0]
    }
    if (bytes !== 4) return null
    if (offset === REGISTER.NSSR) return [0, 0]
    if (offset !== REGISTER.VS && offset !== REGISTER.CC && offset !== REGISTER.CSTS) return null
    return [controller.readRegister(offset), 0]
  }

  /** Null where there is no such property, or it can't be set; `after` is for when the answer is out. */
  setProperty(offset: number, value: number): { after(): void } | null {
    if (offset !== REGISTER.CC && offset !== REGISTER.NSSR) return null
    this.#controller.writeRegister(offset, value)
    this.#controller.run()
    const reset = offset === REGISTER.NSSR && value === NSSR_RESET
    return {
      after: () => {
        // A controller that is disabled has no I/O queues.
        if (reset) this.end()
        else if (!this.#enabled || !this.ready) this.#closeQueues()
      },
    }
  }

  #closeQueues(): void {
    for (const [qid, queue] of this.#queues) {
      if (qid === 0) continue
      this.#queues.delete(qid)
      queue.end()
    }
  }

  get #enabled(): boolean {
    return (this.#controller.readRegister(REGISTER.CC) & 1) !== 0
  }

  get ready(): boolean {
    const csts = this.#controller.readRegister(REGISTER.CSTS)
    return (csts & CSTS.RDY) !== 0 && (csts & CSTS.CFS) === 0
  }

  // Queues

  has(qid: number): boolean {
    return this.#queues.has(qid)
  }

  createQueue(
    qid: number,
    entries: number,
    connection: QueueConnection,
    done: (status: number) => void,
  ): void {
    this.#queues.set(qid, connection)
    this.#controller.createQueue(qid, entries, (status) => {
      if (status !== 0 && this.#queues.get(qid) === connection) this.#queues.delete(qid)
      done(status)
    })
  }

  // Commands

  /** Takes a command of the admin queue or an I/O queue. */
  submit(qid: number, sqe: Uint32Array, block: DataBlock | null, answer: Answer): void {
    if (qid === 0 && this.#answerHere(sqe, answer)) return
    if (this.#ended) answer(-1, 0)
    else if (!this.ready) answer(STATUS.COMMAND_SEQUENCE_ERROR, 0)
    else if (qid !== 0) this.#controller.submit(qid, sqe, block, answer)
    else this.#submitAdmin(sqe, block, answer)
  }

  #submitAdmin(sqe: Uint32Array, block: DataBlock | null, answer: Answer): void {
    if ((sqe[0]! & 0xff) === ADMIN.ABORT) {
      if (this.#abort(sqe)) {
        answer(0, 0)
        return
      }
    } else if (isIdentifyController(sqe)) {
      this.#controller.submit(0, sqe, block, (status, result) => {
        if (status === 0) this.#completeIdentity(block!.bytes)
        answer(status, result)
      })
      return
    }
    this.#controller.submit(0, sqe, block, answer)
  }

  // What the controller itself knows nothing of.
  #answerHere(sqe: Uint32Array, answer: Answer): boolean {
    const opcode = sqe[0]! & 0xff
    if (opcode === ADMIN.KEEP_ALIVE) {
      this.touch()
      answer(0, 0)
      return true
    }
    if (REFUSED.has(opcode)) {
      answer(STATUS.INVALID_OPCODE, 0)
      return true
    }
    if ((sqe[10]! & 0xff) !== FEATURE.KEEP_ALIVE_TIMER) return false
    if (opcode === ADMIN.SET_FEATURES) {
      this.#kato = rounded(sqe[11]!)
      this.touch()
      answer(0, 0)
      return true
    }
    if (opcode !== ADMIN.GET_FEATURES) return false
    answer(0, this.#kato)
    return true
  }

  /**
   * Ends what is not begun: true. Otherwise it is the controller's to end, by its own identifier in place of the host's; one
   * that is not in flight stays one.
   */
  #abort(sqe: Uint32Array): boolean {
    const [qid, cid] = [sqe[10]! & 0xffff, sqe[10]! >>> 16]
    const queue = this.#queues.get(qid)
    if (queue?.withdraw(cid)) return true
    const done = queue?.doneOf(cid)
    if (done !== undefined && this.#controller.withdraw(done)) return true
    const id = done === undefined ? undefined : this.#controller.idOf(done)
    sqe[10] = (qid | ((id ?? 0xffff) << 16)) >>> 0
    return false
  }

  // What Fabrics adds to Identify Controller.
  #completeIdentity(bytes: Uint8Array): void {
    const { cntlid, subnqn, inCapsule } = this.options
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
    const put = (name: keyof typeof controllerLayout, value: number) => {
      const [at, field] = controllerLayout[name] as unknown as [number, { write: WriteField }]
      field.write(view, at, value, name)
    }
    put('cntlid', cntlid)
    const mdts = bytes[controllerLayout.mdts[0]]!
    put('mdts', mdts === 0 ? MOST_MDTS : Math.min(mdts, MOST_MDTS))
    put('ctratt', view.getUint32(controllerLayout.ctratt[0], true) | 1)
    put('oacs', view.getUint16(controllerLayout.oacs[0], true) & ~0x100)
    put('kas', KAS)
    put('maxcmd', (this.property(REGISTER.CAP_LO, 8)![0] & 0xffff) + 1)
    put('sgls', SGLS)
    put('ioccsz', (64 + inCapsule) / 16)
    put('iorcsz', 1)
    put('msdbd', 1)
    put('ofcs', 1)
    const [at] = controllerLayout.subnqn
    bytes.fill(0, at, at + 256)
    bytes.set(Buffer.from(subnqn), at)
  }

  run(): void {
    this.#controller.run()
    // A host learns of a fatal status by the end of its connections.
    const fatal = (this.#controller.readRegister(REGISTER.CSTS) & CSTS.CFS) !== 0
    if (fatal && !this.#ended) {
      log('%s: the controller is fatal', this.options.subnqn)
      this.end()
    }
  }
}

type WriteField = (view: DataView, at: number, value: number, name: string) => void

function isIdentifyController(sqe: Uint32Array): boolean {
  return (sqe[0]! & 0xff) === ADMIN.IDENTIFY && (sqe[10]! & 0xff) === CNS.CONTROLLER
}

function rounded(kato: number): number {
  return Math.min(Math.ceil(kato / KAS_MS) * KAS_MS, MOST_KATO)
}
