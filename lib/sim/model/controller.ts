// The controller as a plain object: everything that it knows, made in one place.
// Trade-off: one wide object that the functions around it share, so that the hot path finds all state in it
// without a call.

import { encodeCapabilities } from '../../nvme/spec/registers.ts'
import type { SimConfig } from '../address.ts'
import { DmaTable } from '../dma/dma.ts'
import { createFaults, type Faults } from '../faults/plan.ts'
import { prepareCut, updateSlowPath } from '../faults/slow-path.ts'
import type { Medium } from '../media/medium.ts'
import { interruptedOperations, restoreState, type SavedState, type StateFile } from '../media/nonvolatile.ts'
import { createFirmware, type Firmware } from './admin/firmware.ts'
import { createTelemetry, type Telemetry } from './admin/logs.ts'
import { type Background, createBackground, startSanitize, startTest } from './background.ts'
import { type Backed, type Backing, type BackingNamespace, createBacked } from './backing.ts'
import { type Bar, clearDoorbells, createBar, REQUEST, WORD } from './bar.ts'
import { createEvents, type Events } from './events.ts'
import { createFeatures, type Features, resetFeatures } from './features.ts'
import { createHealth, type Health } from './health.ts'
import { createNamespace, type Namespace, NO_NAMESPACE, type Place, placesOf } from './namespaces.ts'
import { createPending, type Pending } from './pending.ts'
import { createPieces, type Pieces } from './prp.ts'
import type { CompletionQueue, SubmissionQueue } from './queues.ts'
import type { Shadow } from './shadow.ts'

/** Interrupt vectors: one for each queue pair, the admin queue's first. */
export function vectorsOf(config: Pick<SimConfig, 'qcount'>): number {
  return config.qcount + 1
}

export const MPS_MAX = 65536
/** Fused operation and PSDT, bits 9:8 and 15:14 of dword 0: neither fused commands nor SGLs are known. */
const FUSE_AND_PSDT = 0xc300
/** The same where PSDT 01b is known: an SGL, with metadata in one buffer. */
export const FUSE_AND_OTHER_PSDT = 0x8300
/** As register VS: 1.4.0. */
export const VERSION = 0x0001_0400

export interface Controller {
  readonly config: SimConfig
  /** Where what it keeps is kept; undefined for a medium in memory. */
  readonly stateFile: StateFile | undefined
  readonly bar: Bar
  readonly dma: DmaTable
  readonly medium: Medium
  /** What executes its I/O commands in place of the medium; null where the medium does. */
  readonly backed: Backed | null
  /** The DMA window, and the medium's near part behind it. */
  readonly window: Uint8Array
  /** Attached to this controller, and all that exist. */
  readonly namespaces: Map<number, Namespace>
  readonly allocated: Map<number, Namespace>
  /** Of the last I/O command: most go to one namespace. */
  lastNamespace: Namespace
  readonly pieces: Pieces
  readonly features: Features
  readonly events: Events
  readonly health: Health
  /** Of `health`. */
  readonly counters: Float64Array
  readonly faults: Faults
  readonly pending: Pending
  readonly firmware: Firmware
  readonly background: Background
  readonly telemetry: Telemetry
  readonly sqs: (SubmissionQueue | undefined)[]
  readonly cqs: (CompletionQueue | undefined)[]
  /** Doorbells below this index may be those of queues. */
  doorbellsEnd: number
  /** Submission queues with commands that were announced and not yet fetched: the first so many, in no order. */
  readonly busy: SubmissionQueue[]
  busyCount: number
  /** Index there of the queue that is served next. */
  turn: number
  /** Shadow doorbells, once the host has configured them. */
  shadow: Shadow | null
  /** Shadow doorbells are looked at without being asked to: the host need not ring. */
  quiet: boolean
  ready: boolean
  /** It may reach no memory of the host until it is reset: bus master off. */
  quiesced: boolean
  /** Unplugged. */
  gone: boolean
  /** Registers as last seen. */
  seenWrites: number
  seenResets: number
  seenDisables: number
  cc: number
  pageBytes: number
  /** Bytes that one command may move: MDTS. No limit is one that 65536 blocks can't reach. */
  readonly maxBytes: number
  /** Bits of a command's dword 0 that must be 0, by kind: an SGL may be allowed; for admin commands only in capsules. */
  unknownFlags: number
  unknownAdminFlags: number
  /** Dword 0 of the completion of the command that is executed now. */
  result: number
  /** True where I/O commands may be delayed or go wrong: they then take the slower way. */
  slowPath: boolean
  /** When the controller goes on, by `clock`, after a fault that stopped it; 0 where none has. */
  stoppedUntil: number
  /** Enables that it will not follow, and the serial number that it says, after a fault. */
  refusals: number
  serial: string
  /** Commands that end after a reset, on the queue of the same id. */
  ghosts: { readonly qid: number; readonly cid: number }[]
  /** Moved to or from the medium in this step, in units of 512 bytes. */
  moved: number
  /** Aborts of this step: they count as executed at once. */
  aborts: number
  /** Steps without work since the doorbells of no queue were last looked at. */
  idleSteps: number
  /** Vectors with completions that no interrupt was sent for yet; `raised` has a flag for each. */
  readonly raised: Uint8Array
  raisedCount: number
  /** Milliseconds; of any origin. */
  readonly clock: () => number
  /** Time of this step, or NaN where no one has asked yet: see `timeOf`. */
  now: number
  /** Called when the device vanishes; `notify` where the host is to be notified as by hot plug. */
  onGone: ((notify: boolean) => void) | null
}

export interface ControllerParts {
  readonly config: SimConfig
  readonly barMemory: ArrayBufferLike
  /** Where doorbells lie apart from the registers. */
  readonly doorbells?: ArrayBufferLike
  readonly medium: Medium
  /** The view of the space: see space.ts. */
  readonly window: Uint8Array
  /** Bytes of each namespace of a new medium. */
  readonly namespaceBytes: number
  /** Where what it keeps is kept; undefined for a medium in memory. */
  readonly stateFile?: StateFile | undefined
  /** What was kept of an earlier run. */
  readonly state?: SavedState | undefined
  /** What has the namespaces in place of the medium. */
  readonly backing?: Backing | undefined
  readonly clock?: () => number
}

/** A controller after power on: not enabled. */
export function createController(parts: ControllerParts): Controller {
  const { config, medium } = parts
  const clock = parts.clock ?? (() => performance.now())
  const places =
    parts.backing?.namespaces.map(placeOf) ??
    parts.state?.namespaces ??
    placesOf(config, parts.namespaceBytes)
  const allocated = new Map(places.map((place) => [place.nsid, createNamespace(place, medium.near)]))
  const namespaces = new Map(allocated)
  for (const { nsid, attached } of parts.state?.namespaces ?? []) if (!attached) namespaces.delete(nsid)
  const health = createHealth(clock())
  const c: Controller = {
    config,
    stateFile: parts.stateFile,
    bar: createBar(parts.barMemory, parts.doorbells),
    dma: new DmaTable(),
    medium,
    backed: parts.backing === undefined ? null : createBacked(parts.backing),
    window: parts.window,
    namespaces,
    allocated,
    lastNamespace: NO_NAMESPACE,
    pieces: createPieces(),
    features: createFeatures(config),
    events: createEvents(),
    health,
    counters: health.counters,
    faults: createFaults(config.faults),
    pending: createPending(config.latency),
    firmware: createFirmware(),
    background: createBackground(),
    telemetry: createTelemetry(),
    sqs: [],
    cqs: [],
    doorbellsEnd: 0,
    busy: [],
    busyCount: 0,
    turn: 0,
    shadow: null,
    quiet: false,
    ready: false,
    quiesced: false,
    gone: false,
    seenWrites: 0,
    seenResets: 0,
    seenDisables: 0,
    cc: 0,
    pageBytes: 4096,
    maxBytes: config.mdts === 0 ? 2 ** 30 : 4096 << config.mdts,
    unknownFlags: config.sgl ? FUSE_AND_OTHER_PSDT : FUSE_AND_PSDT,
    unknownAdminFlags: FUSE_AND_PSDT,
    result: 0,
    slowPath: false,
    stoppedUntil: 0,
    refusals: 0,
    serial: config.serial,
    ghosts: [],
    moved: 0,
    aborts: 0,
    idleSteps: 0,
    raised: new Uint8Array(vectorsOf(config)),
    raisedCount: 0,
    clock,
    now: Number.NaN,
    onGone: null,
  }
  updateSlowPath(c)
  powerOnRegisters(c)
  if (parts.state !== undefined) restore(c, parts.state)
  prepareCut(c)
  return c
}

// It has no place on the medium.
const placeOf = ({ nsid, blocks, blockBytes }: BackingNamespace): Place => ({
  ...{ nsid, at: 0, bytes: blocks * blockBytes, blockBytes },
})

function restore(c: Controller, state: SavedState): void {
  restoreState(state, c)
  resetFeatures(c.features)
  const { test, sanitize } = interruptedOperations(state)
  if (test !== null) startTest(c, test.code, test.nsid)
  if (sanitize) startSanitize(c, state.sanitizeDword)
  updateSlowPath(c)
}

/** Time of this step: one for all commands that it takes, however long it is held up. */
export function timeOf(c: Controller): number {
  if (Number.isNaN(c.now)) c.now = c.clock()
  return c.now
}

/** Read-only registers, and everything else 0. */
export function powerOnRegisters({ bar, config, backed }: Controller): void {
  bar.registers.fill(0)
  bar.requests[REQUEST.NSSR] = 0
  bar.requests[REQUEST.CLEAR_NSSRO] = 0
  clearDoorbells(bar)
  const [lo, hi] = encodeCapabilities({
    mqes: config.qsize,
    cqr: true,
    ams: 0,
    to: backed === null ? 5000 : 30_000,
    dstrd: 4 << config.dstrd,
    nssrs: true,
    css: 1,
    bps: false,
    mpsmin: 4096,
    mpsmax: MPS_MAX,
    pmrs: false,
    cmbs: false,
  })
  bar.registers[WORD.CAP_LO] = lo
  bar.registers[WORD.CAP_HI] = hi
  bar.registers[WORD.VS] = VERSION
}
