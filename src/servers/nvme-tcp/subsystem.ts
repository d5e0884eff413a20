// What all hosts of a server share: its namespaces, the states of its listeners, and the controllers that report changes.

import { AOCS, CMIC, OACS, ONCS, VWC } from '../../../lib/nvme/spec/flags.ts'
import { encodeCommandSetController, encodeIdentifyController } from '../../../lib/nvme/spec/identify.ts'
import { NVM } from '../../../lib/nvme/spec/opcodes.ts'
import { STATUS } from '../../../lib/nvme/spec/status.ts'
import type { CommandDone } from '../../../lib/nvme/tcp/target/index.ts'
import { type CommandSetLimits, leastLimits } from '../clear-limits.ts'
import { DNR, NEEDS, PASSED, type ServedNamespace } from './namespace.ts'
import type { Requester } from './reservations.ts'

/** States of a listener: how good a way to the namespaces it is (NVMe 2.0 base, section 8.1). */
export const ANA_STATES = {
  optimized: 0x1,
  'non-optimized': 0x2,
  inaccessible: 0x3,
  'persistent-loss': 0x4,
  change: 0xf,
} as const
/** How good a way to the namespaces a listener is. */
export type AnaState = keyof typeof ANA_STATES

const ANA_REFUSALS: Readonly<Record<number, number>> = {
  [ANA_STATES.inaccessible]: STATUS.ANA_INACCESSIBLE,
  [ANA_STATES['persistent-loss']]: STATUS.ANA_PERSISTENT_LOSS | DNR,
  [ANA_STATES.change]: STATUS.ANA_TRANSITION,
}
/** Seconds that a listener is in the state of change at most. */
const ANATT = 10
// All five states, and a group identifier that is not 0 and stays as it is.
const ANACAP = 0xdf
const VERSION = 0x0001_0400
export const EVENT_REQUESTS = 4
/** Namespace attributes, and ANA. */
const OAES = 0x900
/** The log of effects, and offsets in logs. */
const LPA = 0x6

const OPTIONAL = Object.values(NEEDS).reduce((bits, bit) => bits | bit, 0)

/** Admin commands that change a device for everybody, which are refused unless that is allowed: bits of OACS. */
export const OACS_OF_CHANGES = { SECURITY: 1, FORMAT: 2, FIRMWARE: 4, SELF_TEST: 0x10 } as const

export interface SubsystemOptions {
  readonly nqn: string
  readonly namespaces: readonly ServedNamespace[]
  /** Of the devices, where they say any. */
  readonly limits: readonly CommandSetLimits[]
  /** Hosts may format, sanitize, load firmware, and so on. */
  readonly allowAdmin: boolean
  /** I/O queues that a host may have. */
  readonly queues: number
  /** Entries of each. */
  readonly entries: number
  readonly anaStates: readonly AnaState[]
}

/** A controller that a host has. */
export interface SubsystemController {
  readonly hostid: string
  readonly cntlid: number
  readonly listener: number
  /** The state of its listener has changed. */
  anaChanged(): void
  namespaceChanged(nsid: number): void
  /** @param type one of NOTIFICATION */
  notifyReservation(type: number, nsid: number): void
}

/** A command that waits for those of its host's former controllers. */
export interface WaitingCommand {
  readonly done: CommandDone
  /** Begins it. */
  act(): void
}

export class Subsystem {
  readonly options: SubsystemOptions
  readonly namespaces: ReadonlyMap<number, ServedNamespace>
  readonly controllers = new Set<SubsystemController>()
  readonly #states: AnaState[]
  #anaChanges = 1
  // Of each host, commands in flight of controllers that it has no more, and what waits for their end: all that it sends by
  // others meanwhile, so that nothing old is written over what is new.
  readonly #ghosts = new Map<string, { count: number; readonly waiting: WaitingCommand[] }>()
  #reservationNotices = 0

  constructor(options: SubsystemOptions) {
    this.options = options
    this.namespaces = new Map(options.namespaces.map((namespace) => [namespace.nsid, namespace]))
    this.#states = [...options.anaStates]
  }

  /** Largest transfer of one command in bytes: a power of two. */
  get maxBytes(): number {
    return (
      2 **
      Math.floor(Math.log2(Math.min(...this.options.namespaces.map(({ maxBytes }) => maxBytes), 2 ** 20)))
    )
  }

  anaState(listener: number): AnaState {
    return this.#states[listener]!
  }

  /** Hosts that come by the listener get an event. */
  setAnaState(listener: number, state: AnaState): void {
    if (this.#states[listener] === state) return
    this.#states[listener] = state
    this.#anaChanges++
    for (const controller of this.controllers) if (controller.listener === listener) controller.anaChanged()
  }

  /** The status with which a listener's state ends I/O; 0 where it does not. */
  anaRefusal(listener: number): number {
    return ANA_REFUSALS[ANA_STATES[this.#states[listener]!]] ?? 0
  }

  /** @param groupsOnly without namespaces */
  anaLog(listener: number, groupsOnly: boolean): Buffer {
    const nsids = groupsOnly ? [] : [...this.namespaces.keys()]
    const log = Buffer.alloc(16 + 32 + 4 * nsids.length)
    log.writeUInt32LE(this.#anaChanges, 0)
    log.writeUInt16LE(1, 8)
    log.writeUInt32LE(1, 16)
    log.writeUInt32LE(nsids.length, 20)
    log.writeUInt32LE(this.#anaChanges, 24)
    log[32] = ANA_STATES[this.#states[listener]!]
    for (const [i, nsid] of nsids.entries()) log.writeUInt32LE(nsid, 48 + 4 * i)
    return log
  }

  /** Identify Controller, but for what Fabrics and the association add. */
  identify(): Uint8Array {
    const { namespaces, allowAdmin } = this.options
    const devices = namespaces.map(({ io }) => io.controller.identity)
    const first = devices[0]!
    const changes = allowAdmin && namespaces.length === 1 ? first.oacs : 0
    const { SECURITY, FORMAT, FIRMWARE, SELF_TEST } = OACS_OF_CHANGES
    const least = (field: 'awun' | 'awupf' | 'acwu') => Math.min(...devices.map((device) => device[field]))
    const cached = devices.some(({ vwc }) => (vwc & 1) !== 0)
    const largest = Math.max(...this.namespaces.keys())
    const { vid, ssvid, sn, mn, fr, ieee, wctemp, cctemp } = first
    const { oncs } = this
    return encodeIdentifyController({
      ...{ vid, ssvid, sn, mn, fr, ieee, wctemp, cctemp, ver: VERSION, cntrltype: 1 },
      ...{ cmic: CMIC.CONTROLLERS | CMIC.ANA, mdts: Math.log2(this.maxBytes / 4096), oaes: OAES, ctratt: 1 },
      oacs:
        (changes & (SECURITY | FORMAT | FIRMWARE | SELF_TEST)) |
        (this.tellsAllocated ? OACS.GET_LBA_STATUS : 0),
      frmw: allowAdmin ? first.frmw : 3,
      ...{ acl: 3, aerl: EVENT_REQUESTS - 1, lpa: LPA, sanicap: changes === 0 ? 0 : first.sanicap },
      ...{ anatt: ANATT, anacap: ANACAP, anagrpmax: 1, nanagrpid: 1, nn: largest, mnan: largest },
      ...{ sqes: 0x66, cqes: 0x44, oncs, vwc: (cached ? VWC.PRESENT : 0) | 0x6, fna: first.fna },
      ...{ awun: least('awun'), awupf: least('awupf'), acwu: least('acwu'), ocfs: first.ocfs & 1 },
    })
  }

  /** A device tells which of its blocks are allocated: hosts may ask. Of the others all are. */
  get tellsAllocated(): boolean {
    return this.options.namespaces.some(({ tellsAllocated }) => tellsAllocated)
  }

  /** Identify Controller of the NVM command set: the least of all limits. */
  identifyCommandSet(): Uint8Array {
    const aocs = this.tellsAllocated ? AOCS.ALLOCATED_LBAS : 0
    return encodeCommandSetController({ ...leastLimits(this.options.limits), aocs })
  }

  /** Optional commands that every device has, and reservations. */
  get oncs(): number {
    const common = this.options.namespaces.reduce(
      (bits, { io }) => bits & io.controller.identity.oncs,
      0xffff,
    )
    return (common & OPTIONAL) | ONCS.RESERVATIONS
  }

  /** I/O commands that every namespace has. */
  get ioOpcodes(): number[] {
    const { oncs } = this
    const { RESERVATION_REGISTER, RESERVATION_REPORT, RESERVATION_ACQUIRE, RESERVATION_RELEASE } = NVM
    return [
      ...[...PASSED].filter((opcode) => (oncs & (NEEDS[opcode] ?? oncs)) !== 0),
      ...[RESERVATION_REGISTER, RESERVATION_REPORT, RESERVATION_ACQUIRE, RESERVATION_RELEASE],
    ]
  }

  /** Executes one of the commands of reservations. */
  async reserve(
    namespace: ServedNamespace,
    by: Requester,
    opcode: number,
    cdw10: number,
    data: Buffer,
  ): Promise<number> {
    const outcome = namespace.reservations.execute(opcode, by, cdw10, data)
    for (const { hostid, type } of outcome.notices) {
      for (const controller of this.controllers) {
        if (controller.hostid === hostid) controller.notifyReservation(type, namespace.nsid)
      }
    }
    if (outcome.abort.length > 0) await namespace.settle(outcome.abort)
    return outcome.status
  }

  nextReservationNotice(): number {
    this.#reservationNotices++
    return this.#reservationNotices
  }

  /** A namespace has become another one: larger, write-protected, of another format. */
  changed(nsid: number): void {
    for (const controller of this.controllers) controller.namespaceChanged(nsid)
  }

  /** Flushes every device: a status. */
  async flush(): Promise<number> {
    const all = await Promise.all(this.options.namespaces.map((namespace) => namespace.flush()))
    return all.find((status) => status !== 0) ?? 0
  }

  // Commands of the past

  addGhosts(hostid: string, count: number): void {
    if (count === 0) return
    const ghosts = this.#ghosts.get(hostid)
    if (ghosts === undefined) this.#ghosts.set(hostid, { count, waiting: [] })
    else ghosts.count += count
  }

  endGhost(hostid: string): void {
    const ghosts = this.#ghosts.get(hostid)!
    if (--ghosts.count > 0) return
    this.#ghosts.delete(hostid)
    for (const command of ghosts.waiting) command.act()
  }

  /** True where commands of controllers that the host has no more are still being done. */
  hasGhosts(hostid: string): boolean {
    return this.#ghosts.size > 0 && this.#ghosts.has(hostid)
  }

  /** The command begins when there are none any more. */
  waitForGhosts(hostid: string, command: WaitingCommand): void {
    this.#ghosts.get(hostid)!.waiting.push(command)
  }

  /** It never begins; false where there is none. */
  withdrawWaiting(hostid: string, done: CommandDone): boolean {
    const waiting = this.#ghosts.get(hostid)?.waiting ?? []
    const at = waiting.findIndex((command) => command.done === done)
    if (at < 0) return false
    waiting.splice(at, 1)
    return true
  }
}

/** Answers with a status that is no success of the device's. */
export function refuse(done: CommandDone, status: number): void {
  done(status === 0 ? 0 : status | DNR, 0)
}
