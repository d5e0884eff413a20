// What all hosts of a server share: its namespaces, the access to each by each listener, and the controllers that report
// changes.

import { ANA_STATE, encodeAnaLog } from '../../../lib/nvme/spec/ana.ts'
import { AOCS, CMIC, OACS, ONCS, VWC } from '../../../lib/nvme/spec/flags.ts'
import { encodeCommandSetController, encodeIdentifyController } from '../../../lib/nvme/spec/identify.ts'
import { ALL_NAMESPACES } from '../../../lib/nvme/spec/opcodes.ts'
import { STATUS } from '../../../lib/nvme/spec/status.ts'
import type { CommandDone } from '../../../lib/nvme/tcp/target/index.ts'
import { type CommandSetLimits, leastLimits } from '../clear-limits.ts'
import { DNR, NEEDS, PASSED, type ServedNamespace } from './namespace.ts'
import { RESERVATION_OPCODES, type Requester } from './reservations.ts'

/** States of a listener: how good a way to a namespace it is (NVMe 2.0 base, section 8.1). */
export const ANA_STATES = {
  optimized: ANA_STATE.OPTIMIZED,
  'non-optimized': ANA_STATE.NON_OPTIMIZED,
  inaccessible: ANA_STATE.INACCESSIBLE,
  'persistent-loss': ANA_STATE.PERSISTENT_LOSS,
  change: ANA_STATE.CHANGE,
} as const
/** How good a way to a namespace a listener is. */
export type AnaState = keyof typeof ANA_STATES

/** The access to a namespace by a listener: of an ANA group that is the namespace's alone, and has its id. */
interface Access {
  state: AnaState
  /** Counts its changes. */
  chgcnt: bigint
}

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
  /** Of each listener, for all namespaces. */
  readonly anaStates: readonly AnaState[]
}

/** A controller that a host has. */
export interface SubsystemController {
  readonly hostid: string
  readonly cntlid: number
  readonly listener: number
  /** The access by its listener has changed. */
  anaChanged(): void
  namespaceChanged(nsid: number): void
  /** @param type one of NOTIFICATION */
  notifyReservation(type: number, nsid: number): void
}

/** A command that waits for those of its host's former controllers. */
export interface WaitingCommand {
  readonly cntlid: number
  readonly qid: number
  readonly done: CommandDone
  /** Begins it. */
  act(): void
}

export class Subsystem {
  readonly options: SubsystemOptions
  readonly namespaces: ReadonlyMap<number, ServedNamespace>
  readonly controllers = new Set<SubsystemController>()
  // By listener and namespace id.
  readonly #access: readonly ReadonlyMap<number, Access>[]
  #anaChanges = 1n
  // Of each host, commands in flight of controllers that it has no more, and what waits for their end: all that it sends by
  // others meanwhile, so that nothing old is written over what is new.
  readonly #ghosts = new Map<string, { count: number; waiting: WaitingCommand[] }>()
  #reservationNotices = 0

  constructor(options: SubsystemOptions) {
    this.options = options
    this.namespaces = new Map(options.namespaces.map((namespace) => [namespace.nsid, namespace]))
    this.#access = options.anaStates.map(
      (state) => new Map([...this.namespaces.keys()].map((nsid) => [nsid, { state, chgcnt: 1n }])),
    )
  }

  /** Largest transfer of one command in bytes: a power of two. */
  get maxBytes(): number {
    return commonMaxBytes(this.options.namespaces)
  }

  /** To each namespace, in their order. */
  anaStates(listener: number): AnaState[] {
    return [...this.#access[listener]!.values()].map(({ state }) => state)
  }

  /** Hosts that come by the listener get an event. @param nsid of all namespaces where none is named */
  setAnaState(listener: number, state: AnaState, nsid?: number): void {
    let changed = false
    for (const [id, access] of this.#access[listener]!) {
      if ((nsid !== undefined && id !== nsid) || access.state === state) continue
      access.state = state
      access.chgcnt++
      changed = true
    }
    if (!changed) return
    this.#anaChanges++
    for (const controller of this.controllers) if (controller.listener === listener) controller.anaChanged()
  }

  /**
   * The status with which the access by a listener ends I/O of a namespace; 0 where it does not.
   * @param nsid of any namespace where all are meant
   */
  anaRefusal(listener: number, nsid: number): number {
    if (nsid !== ALL_NAMESPACES) return refusalOf(this.#access[listener]!.get(nsid))
    const all = [...this.#access[listener]!.values()].map(refusalOf)
    return all.find((refusal) => refusal !== 0) ?? 0
  }

  /** @param groupsOnly without namespaces */
  anaLog(listener: number, groupsOnly: boolean): Uint8Array {
    const groups = [...this.#access[listener]!].map(([nsid, { state, chgcnt }]) => ({
      ...{ grpid: nsid, state: ANA_STATES[state], chgcnt, nsids: groupsOnly ? [] : [nsid] },
    }))
    return encodeAnaLog({ chgcnt: this.#anaChanges, groups })
  }

  /** Identify Controller, but for what Fabrics and the association add. */
  identify(): Uint8Array {
    const { namespaces, allowAdmin } = this.options
    const first = namespaces[0]!.io.controller.identity
    const changes = allowAdmin && namespaces.length === 1 ? first.oacs : 0
    const { SECURITY, FORMAT, FIRMWARE, SELF_TEST } = OACS_OF_CHANGES
    const largest = Math.max(...this.namespaces.keys())
    return encodeIdentifyController({
      ...{ ...commonIdentity(namespaces), oncs: this.oncs, ver: VERSION, cntrltype: 1 },
      ...{ cmic: CMIC.CONTROLLERS | CMIC.ANA, mdts: Math.log2(this.maxBytes / 4096), oaes: OAES, ctratt: 1 },
      oacs:
        (changes & (SECURITY | FORMAT | FIRMWARE | SELF_TEST)) |
        (this.tellsAllocated ? OACS.GET_LBA_STATUS : 0),
      frmw: allowAdmin ? first.frmw : 3,
      ...{ acl: 3, aerl: EVENT_REQUESTS - 1, lpa: LPA, sanicap: changes === 0 ? 0 : first.sanicap },
      ...{ anatt: ANATT, anacap: ANACAP, anagrpmax: largest, nanagrpid: largest, nn: largest, mnan: largest },
      ...{ sqes: 0x66, cqes: 0x44, fna: first.fna },
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
    return commonIdentity(this.options.namespaces).oncs | ONCS.RESERVATIONS
  }

  /** I/O commands that every namespace has. */
  get ioOpcodes(): number[] {
    return [...commonOpcodes(this.oncs), ...RESERVATION_OPCODES]
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
  flush(): Promise<number> {
    return flushAll(this.options.namespaces)
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

  /** Those of a queue that has gone never begin, nor are they answered. */
  dropWaiting({ hostid, cntlid }: SubsystemController, qid: number): void {
    const ghosts = this.#ghosts.get(hostid)
    if (ghosts === undefined) return
    const gone = ghosts.waiting.filter((command) => command.cntlid === cntlid && command.qid === qid)
    ghosts.waiting = ghosts.waiting.filter((command) => !gone.includes(command))
    for (const { done } of gone) done(-1, 0)
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

function refusalOf(access: Access | undefined): number {
  return access === undefined ? 0 : (ANA_REFUSALS[ANA_STATES[access.state]] ?? 0)
}

/**
 * What Identify Controller says of devices that are served together: the first gives the names, and an optional command is
 * there where all have it.
 */
export function commonIdentity(namespaces: readonly ServedNamespace[]) {
  const devices = namespaces.map(({ io }) => io.controller.identity)
  const { vid, ssvid, sn, mn, fr, ieee, wctemp, cctemp, ocfs } = devices[0]!
  const least = (field: 'awun' | 'awupf' | 'acwu') => Math.min(...devices.map((device) => device[field]))
  const cached = devices.some(({ vwc }) => (vwc & 1) !== 0)
  return {
    ...{ vid, ssvid, sn, mn, fr, ieee, wctemp, cctemp, ocfs: ocfs & 1 },
    oncs: devices.reduce((bits, { oncs }) => bits & oncs, OPTIONAL),
    vwc: (cached ? VWC.PRESENT : 0) | 0x6,
    ...{ awun: least('awun'), awupf: least('awupf'), acwu: least('acwu') },
  }
}

/** Flushes every device: a status. */
export async function flushAll(namespaces: readonly ServedNamespace[]): Promise<number> {
  const all = await Promise.all(namespaces.map((namespace) => namespace.flush()))
  return all.find((status) => status !== 0) ?? 0
}

/** I/O commands that go to devices with these optional ones. */
export function commonOpcodes(oncs: number): number[] {
  return [...PASSED].filter((opcode) => NEEDS[opcode] === undefined || (oncs & NEEDS[opcode]) !== 0)
}

/** Largest transfer of one command in bytes, of all of them: a power of two, up to 1 MiB. */
export function commonMaxBytes(namespaces: readonly ServedNamespace[]): number {
  return 2 ** Math.floor(Math.log2(Math.min(...namespaces.map(({ maxBytes }) => maxBytes), 2 ** 20)))
}

/** Answers with a status that is no success of the device's. */
export function refuse(done: CommandDone, status: number): void {
  done(status === 0 ? 0 : status | DNR, 0)
}
