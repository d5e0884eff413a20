// Reservations of one namespace (NVMe 2.0 base, section 8.19), held in the server for all hosts: who is registered, who
// holds the reservation, and what each host may do. They live as long as the server, or longer where a host asks for that and
// there is a file for it.

import { logger } from '../../../lib/log/index.ts'
import { NVM } from '../../../lib/nvme/spec/opcodes.ts'
import { STATUS } from '../../../lib/nvme/spec/status.ts'
import { MOST_REGISTRANTS, type ReservationStore, type SavedReservations } from './reservation-file.ts'

const log = logger('serve')

/** Commands of reservations. */
export const RESERVATION_OPCODES: ReadonlySet<number> = new Set([
  ...[NVM.RESERVATION_REGISTER, NVM.RESERVATION_REPORT, NVM.RESERVATION_ACQUIRE, NVM.RESERVATION_RELEASE],
])

/** Types of reservation. */
export const RESERVATION = {
  NONE: 0,
  WRITE_EXCLUSIVE: 1,
  EXCLUSIVE_ACCESS: 2,
  WRITE_EXCLUSIVE_REGISTRANTS: 3,
  EXCLUSIVE_ACCESS_REGISTRANTS: 4,
  WRITE_EXCLUSIVE_ALL: 5,
  EXCLUSIVE_ACCESS_ALL: 6,
} as const

/** Types of notification in log page 80h; bit 1, 2 and 3 of the mask keep each away. */
export const NOTIFICATION = {
  REGISTRATION_PREEMPTED: 1,
  RESERVATION_RELEASED: 2,
  RESERVATION_PREEMPTED: 3,
} as const

const READS: ReadonlySet<number> = new Set([NVM.READ, NVM.COMPARE, NVM.VERIFY])
/** Of a host that has no controller, as after a restart. */
const NO_CONTROLLER = 0xffff
/** Change Persist Through Power Loss: not, to 0, to 1. */
const CPTPL = { SAME: 0, OFF: 2, ON: 3 } as const
const REPORT_HEADER = 64
const REPORT_ENTRY = 64

/** Who asks: a host, by one of its controllers. */
export interface Requester {
  /** 16 bytes, as hexadecimal digits. */
  readonly hostid: string
  readonly cntlid: number
}

interface Registrant {
  readonly hostid: string
  cntlid: number
  key: bigint
}

/** What came of a command: a status, and whom to tell of what. */
export interface Outcome {
  readonly status: number
  readonly notices: readonly { readonly hostid: string; readonly type: number }[]
  /** Hosts whose commands in flight have to end before the command does. */
  readonly abort: readonly string[]
}

const done = (status: number): Outcome => ({ status, notices: [], abort: [] })

export class Reservations {
  #generation = 0
  #type: number = RESERVATION.NONE
  // By host id. The holder is one of them; with the types of all registrants it is each.
  readonly #registrants = new Map<string, Registrant>()
  #holder: string | null = null
  // Hosts want it to outlive the server.
  #persistent = false
  readonly #store: ReservationStore | null

  /** @param store where they are kept that outlive the server; null: nowhere */
  constructor(store: ReservationStore | null) {
    this.#store = store
    const saved = store?.saved
    if (saved === undefined) return
    this.#persistent = true
    this.#restore(saved)
  }

  /** Persist Through Power Loss can be asked for. */
  get mayPersist(): boolean {
    return this.#store !== null
  }

  get persistent(): boolean {
    return this.#persistent
  }

  /** Feature 83h; a status. */
  persist(persistent: boolean): number {
    if (persistent && !this.mayPersist) return STATUS.FEATURE_NOT_CHANGEABLE
    return this.#change(() => {
      this.#persistent = persistent
      return done(0)
    }).status
  }

  /** Executes Register, Acquire or Release: what it changes is kept, where it is to be, or not done. */
  execute(opcode: number, by: Requester, cdw10: number, data: Buffer): Outcome {
    return this.#change(() => {
      if (opcode === NVM.RESERVATION_REGISTER) return this.#register(by, cdw10, data)
      return opcode === NVM.RESERVATION_ACQUIRE
        ? this.#acquire(by, cdw10, data)
        : this.#release(by, cdw10, data)
    })
  }

  #change(act: () => Outcome): Outcome {
    const [before, generation, persistent] = [this.#state(), this.#generation, this.#persistent]
    const registrants = new Map(this.#registrants)
    const outcome = act()
    const after = this.#state()
    const same = persistent === this.#persistent && JSON.stringify(before) === JSON.stringify(after)
    if (this.#store === null || same || (!persistent && !this.#persistent)) return outcome
    try {
      this.#store.save(this.#persistent ? after : null)
      return outcome
    } catch (error) {
      log('reservations can not be kept: %s', (error as Error).message)
      this.#restore(before)
      // With the controllers that they had.
      for (const [hostid, one] of registrants) this.#registrants.set(hostid, one)
      this.#generation = generation
      this.#persistent = persistent
      return done(STATUS.INTERNAL_ERROR)
    }
  }

  #state(): SavedReservations {
    const key = (one: Registrant) => one.key.toString(16).padStart(16, '0')
    const registrants = [...this.#registrants.values()].map((one) => [one.hostid, key(one)] as const)
    return { type: this.#type, holder: this.#holder, registrants }
  }

  #restore({ type, holder, registrants }: SavedReservations): void {
    this.#type = type
    this.#holder = holder
    this.#registrants.clear()
    for (const [hostid, key] of registrants) {
      this.#registrants.set(hostid, { hostid, cntlid: NO_CONTROLLER, key: BigInt(`0x${key}`) })
    }
  }

  /** Whether a host's command would conflict with the reservation. */
  conflicts(opcode: number, hostid: string): boolean {
    const type = this.#type
    if (type === RESERVATION.NONE) return false
    if (READS.has(opcode) && type % 2 === 1) return false
    return type <= RESERVATION.EXCLUSIVE_ACCESS ? this.#holder !== hostid : !this.#registrants.has(hostid)
  }

  /** @param data current key and new key, 8 bytes each */
  #register(by: Requester, cdw10: number, data: Buffer): Outcome {
    const ptpl = cdw10 >>> 30
    const possible = ptpl === CPTPL.SAME || ptpl === CPTPL.OFF || (ptpl === CPTPL.ON && this.mayPersist)
    if (!possible) return done(STATUS.INVALID_FIELD)
    const outcome = this.#changeRegistration(by, cdw10, data)
    if (outcome.status === 0 && ptpl !== CPTPL.SAME) this.#persistent = ptpl === CPTPL.ON
    return outcome
  }

  #changeRegistration({ hostid, cntlid }: Requester, cdw10: number, data: Buffer): Outcome {
    const [action, ignore] = [cdw10 & 7, (cdw10 & 8) !== 0]
    if (action > 2) return done(STATUS.INVALID_FIELD)
    const [current, next] = [data.readBigUInt64LE(0), data.readBigUInt64LE(8)]
    const registrant = this.#registrants.get(hostid)
    const known = registrant !== undefined && (ignore || registrant.key === current)
    if (action === 1) {
      if (!known) return done(STATUS.RESERVATION_CONFLICT)
      this.#generation++
      return { ...done(0), notices: this.#unregister(hostid) }
    }
    if (next === 0n) return done(STATUS.INVALID_FIELD)
    if (action === 0 && registrant !== undefined) {
      return done(registrant.key === next ? 0 : STATUS.RESERVATION_CONFLICT)
    }
    if (action === 2 && !known && !(ignore && registrant === undefined))
      return done(STATUS.RESERVATION_CONFLICT)
    // Hosts can call themselves as they like, and so be any number.
    if (registrant === undefined && this.#registrants.size >= MOST_REGISTRANTS)
      return done(STATUS.INTERNAL_ERROR)
    this.#generation++
    this.#registrants.set(hostid, { hostid, cntlid, key: next })
    return done(0)
  }

  /** @param data current key, and the key to preempt */
  #acquire(requester: Requester, cdw10: number, data: Buffer): Outcome {
    const [action, ignore, type] = [cdw10 & 7, (cdw10 & 8) !== 0, (cdw10 >>> 8) & 0xff]
    const { hostid } = requester
    if (ignore || action > 2 || type === 0 || type > RESERVATION.EXCLUSIVE_ACCESS_ALL) {
      return done(STATUS.INVALID_FIELD)
    }
    if (this.#registrants.get(hostid)?.key !== data.readBigUInt64LE(0))
      return done(STATUS.RESERVATION_CONFLICT)
    if (action === 0) {
      if (this.#type !== RESERVATION.NONE) {
        return done(this.#holds(hostid) && this.#type === type ? 0 : STATUS.RESERVATION_CONFLICT)
      }
      this.#reserve(hostid, type)
      return done(0)
    }
    return this.#preempt(hostid, data.readBigUInt64LE(8), type, action === 2)
  }

  #preempt(hostid: string, key: bigint, type: number, abort: boolean): Outcome {
    const before = this.#type
    const all = before >= RESERVATION.WRITE_EXCLUSIVE_ALL
    const others = [...this.#registrants.values()].filter((one) => one.hostid !== hostid)
    if (key === 0n && !all) return done(STATUS.INVALID_FIELD)
    const takesOver = all
      ? key === 0n
      : this.#holder !== null && this.#registrants.get(this.#holder)!.key === key
    const preempted = key === 0n ? others : others.filter((one) => one.key === key)
    if (preempted.length === 0 && !takesOver) return done(STATUS.RESERVATION_CONFLICT)
    this.#generation++
    for (const one of preempted) this.#registrants.delete(one.hostid)
    if (takesOver) this.#reserve(hostid, type)
    const left = takesOver && before !== type ? [...this.#registrants.keys()] : []
    return {
      status: 0,
      notices: [
        ...preempted.map((one) => ({ hostid: one.hostid, type: NOTIFICATION.REGISTRATION_PREEMPTED })),
        ...left
          .filter((id) => id !== hostid)
          .map((id) => ({ hostid: id, type: NOTIFICATION.RESERVATION_RELEASED })),
      ],
      abort: abort ? preempted.map((one) => one.hostid) : [],
    }
  }

  /** @param data current key */
  #release({ hostid }: Requester, cdw10: number, data: Buffer): Outcome {
    const [action, ignore, type] = [cdw10 & 7, (cdw10 & 8) !== 0, (cdw10 >>> 8) & 0xff]
    if (ignore || action > 1) return done(STATUS.INVALID_FIELD)
    if (this.#registrants.get(hostid)?.key !== data.readBigUInt64LE(0))
      return done(STATUS.RESERVATION_CONFLICT)
    if (action === 1) {
      const others = [...this.#registrants.keys()].filter((id) => id !== hostid)
      this.#generation++
      this.#registrants.clear()
      this.#reserve(null, RESERVATION.NONE)
      return {
        ...done(0),
        notices: others.map((id) => ({ hostid: id, type: NOTIFICATION.RESERVATION_PREEMPTED })),
      }
    }
    if (!this.#holds(hostid)) return done(0)
    if (type !== this.#type) return done(STATUS.INVALID_FIELD)
    return { ...done(0), notices: this.#free(hostid) }
  }

  /** The report with host identifiers of 128 bits, as long as it is. */
  report(): Buffer {
    const all = [...this.#registrants.values()]
    const report = Buffer.alloc(REPORT_HEADER + all.length * REPORT_ENTRY)
    report.writeUInt32LE(this.#generation >>> 0, 0)
    report[4] = this.#type
    report.writeUInt16LE(all.length, 5)
    report[9] = this.#persistent ? 1 : 0
    all.forEach(({ hostid, cntlid, key }, i) => {
      const at = REPORT_HEADER + i * REPORT_ENTRY
      report.writeUInt16LE(cntlid, at)
      report[at + 2] = this.#holds(hostid) ? 1 : 0
      report.writeBigUInt64LE(key, at + 8)
      report.write(hostid, at + 16, 16, 'hex')
    })
    return report
  }

  #holds(hostid: string): boolean {
    if (this.#type === RESERVATION.NONE) return false
    return this.#type >= RESERVATION.WRITE_EXCLUSIVE_ALL
      ? this.#registrants.has(hostid)
      : this.#holder === hostid
  }

  #reserve(holder: string | null, type: number): void {
    this.#holder = holder
    this.#type = type
  }

  // The reservation ends; where it was of registrants, the others get a notification.
  #free(by: string): Outcome['notices'] {
    const shared = this.#type >= RESERVATION.WRITE_EXCLUSIVE_REGISTRANTS
    this.#reserve(null, RESERVATION.NONE)
    const others = [...this.#registrants.keys()].filter((id) => id !== by)
    return shared ? others.map((id) => ({ hostid: id, type: NOTIFICATION.RESERVATION_RELEASED })) : []
  }

  #unregister(hostid: string): Outcome['notices'] {
    const held = this.#holds(hostid)
    this.#registrants.delete(hostid)
    if (!held) return []
    const all = this.#type >= RESERVATION.WRITE_EXCLUSIVE_ALL
    return all && this.#registrants.size > 0 ? [] : this.#free(hostid)
  }
}
