// The seam between a controller and the way to it: properties, queues, memory, reset. PCI functions implement it in
// lib/nvme/pcie; whatever else carries NVMe commands implements it beside that.

import type { DmaPool } from '../../memory/pool.ts'
import type { DmaSource } from '../../memory/source.ts'
import type { ViewSpace } from '../../memory/views.ts'
import type { IdentifyController } from '../spec/identify.ts'
import type { Capabilities } from '../spec/registers.ts'
import type { AdminCommand, AdminOptions, AdminResult } from './admin-queue.ts'
import type { Queue, QueueOptions, QueueShareFacts } from './queue.ts'

/** What wakes a scheduler that sleeps until a queue has completions. */
export interface WakeUp {
  /** False where there is none: `arm` says false then, and who sleeps has to look by timer. */
  readonly interrupts: boolean
  /** True where polling between two turns of the event loop finds no completions, or costs more than it brings. */
  readonly eventDriven?: boolean
  /** Calls `wake` at the queue's next completion, and keeps the process alive until then. */
  arm(wake: () => void): boolean
  disarm(): void
}

export const NO_WAKE_UP: WakeUp = { interrupts: false, arm: () => false, disarm() {} }

/** Sends an admin command, and waits for its completion. */
export type SendAdmin = (command: AdminCommand, options?: AdminOptions) => Promise<AdminResult>

/** Kinds of reset: of the controller (CC.EN), the NVM subsystem (NSSR), the PCI function. */
export type ResetKind = 'controller' | 'subsystem' | 'function'

/** What users of a controller need of its transport, in whichever thread they are. */
export interface TransportFacts {
  /** The address that it was opened by, without a namespace id. */
  readonly address: string
  /** What moves the data, for messages: `vfio`, `vfio-user`, `sim`, `sim-thread`, `kernel`. */
  readonly kind: string
  /** How it moves the data, where there is more than one way, and why not the better one. */
  readonly how?: string
  /** What it and the controller have agreed on, by name, for a user to read: lengths in bytes, times in milliseconds. */
  readonly negotiated?: Readonly<Record<string, string | number | boolean | null>>
  /** No hardware is behind it: no question is asked before it is overwritten, and interrupts cost little. */
  readonly emulated: boolean
  /** Completions come by turns of the event loop alone: a call that blocks the thread until one comes would never return. */
  readonly eventDriven?: boolean
  /** What tells the disk image behind it from every other file, where there is one: see `inodeIdentity` of lib/sys. */
  readonly image?: string | undefined
  /** Makes memory that the controller reaches. */
  readonly memory: DmaSource
  /** The register, or property, at a byte offset (section 3.1): 32 bits. All-ones where the device is gone. */
  readProperty(offset: number): number | Promise<number>
  /** True while the controller is gone and may come back by `reconnect` of its transport. */
  readonly away?: boolean
  /** What has ended the controller, or null: gone, fatal, no longer ready. One look, which never waits. */
  health(): Error | null
  /**
   * Where others may use the device: why a namespace must not be written, or null where it may; from then on they are kept
   * out. Asked before the first write. One look, which never waits.
   * @param nsid FFFFFFFFh for every one
   */
  mayWrite?(nsid: number): Error | null
}

/** A transport as plain data for another thread; what more there is to it is the transport's own. */
export interface TransportShare {
  readonly address: string
  /** As `kind` of its transport. */
  readonly transport: string
  readonly emulated: boolean
  readonly maxArenaBytes: number
  /** The other thread makes the queues itself, by a `ConnectPermit`, and has memory of its own. */
  readonly ownQueues?: boolean
}

/** What another thread makes queues with: until the controller is reset, which needs another one. */
export interface ConnectPermit {
  /** For `connect` of AttachedTransport: plain data, with keys in it, for a private port and for no log. */
  readonly data: unknown
  /** That thread could not make a queue, or has lost it. False where another attempt would fail as well. */
  lost(cause: Error): boolean
  /** Ends what that thread has made, as far as that can be done from here; it may go on to use it. */
  revoke(): void
  /** Takes back what it has been given, once it does not use it any more. */
  end(): void
}

/** What a thread has of a transport that another thread opened. It must not be used any more once that is closed. */
export interface AttachedTransport extends TransportFacts {
  /** The queue of a share, from where its owner stopped. */
  attachQueue(pool: DmaPool, share: QueueShareFacts): Queue
  /** Where its memory is mapped, if not where this thread has its views. */
  readonly views?: ViewSpace
  /** What wakes a sleeper for a queue, where something does. */
  wakeUp?(qid: number): WakeUp
  /** Where this thread makes its queues itself: set by its user, called when one of them is lost. */
  onLost?: ((cause: Error) => void) | null
  /** Makes all of them, as new. Rejects once `disconnect` is called, too. @param permit `data` of a ConnectPermit */
  connect?(permit: unknown): Promise<void>
  /** Ends all of them, at once: nothing of the permit is used any more. */
  disconnect?(): void
  /** Where the owner can't see the end of what is in flight: waits for it. Before the queues are given back. */
  settle?(): Promise<void>
}

/** One way to one controller, made by whoever opens an address. Owned by the `Controller` that drives it. */
export interface Transport extends TransportFacts {
  /** DMA memory of the controller. */
  readonly pool: DmaPool
  /** Controller Capabilities (CAP), decoded. */
  readonly cap: Capabilities
  /** Version (VS) as `1.4.0`. */
  readonly version: string
  /** The admin queue: one object for as long as the transport lives, as new after each reset. */
  readonly admin: Queue
  /** Most bytes of one command's data, where that is less than the controller says (MDTS). */
  readonly maxTransferBytes?: number
  /** Somebody else aborts commands without an answer, and resets the controller: nothing is done about them here. */
  readonly recovers?: boolean
  /** Why there are no asynchronous events here, where there are none. */
  readonly noEvents?: string
  /** A sleeper is woken at little cost: so they sleep by default. */
  readonly cheapWakeUps?: boolean
  /** Set by the controller: called on the event loop, each time the transport learns that the device is gone. */
  onFailed: ((cause: Error) => void) | null
  /**
   * Where there is one, set by the controller: called when a device that may still come back has been gone for longer than
   * I/O may wait. What waits is rejected then, and so is what comes until it is back.
   */
  onStalled?: ((cause: Error) => void) | null

  /**
   * Where there is one, set by who has other ways to the same namespaces: called each time nothing that was in flight before
   * a reset or a loss will be executed any more.
   */
  onEnded?: (() => void) | null
  /** The device was taken away, as the system says: it does not come back by a reset. */
  readonly removed: boolean

  writeProperty(offset: number, value: number): void | Promise<void>

  /** Enables the controller, from whatever state it is in: the admin queue takes commands then (section 7.6.1). */
  enable(signal?: AbortSignal): Promise<void>
  /** What the transport sets up by admin commands, once Identify Controller is known. */
  configure(identity: IdentifyController, send: SendAdmin, signal?: AbortSignal): Promise<void>

  /** Where queues are not asked of the controller by Set Features: how many there are, where `count` are wanted. */
  grant?(count: number): number
  /** Where there is one: makes commands to a namespace possible. Before the first of them. */
  openNamespace?(nsid: number): void

  /**
   * Makes an I/O queue, which the controller does not know yet.
   * @throws UnsupportedError where the transport can't reach it
   */
  allocQueue(options: QueueOptions): Promise<Queue>
  /** Creates the queue in the controller. On failure the controller knows nothing of it. */
  createQueue(queue: Queue, send: SendAdmin): Promise<void>
  /** Deletes the queue in the controller; its memory stays until `free`. */
  deleteQueue(qid: number, send: SendAdmin): Promise<void>

  /**
   * Asks for interrupts for `queues` I/O queues; before the first one is created. Without it there are none.
   * Queues share what there is.
   */
  enableWakeUps(queues: number): Promise<void>
  /** What wakes a sleeper for a queue: `NO_WAKE_UP` where nothing does. */
  wakeUp(qid: number): WakeUp

  /**
   * Where there is one: waits for the device to come back; it has to be reset then. Rejects with DeviceRemovedError
   * where it is not back in time, or another one is there, and with ClosedError once `signal` is aborted.
   * @param limit milliseconds since it was known to be gone
   */
  reconnect?(limit: number, signal: AbortSignal): Promise<void>
  /** While `away`: however often it is lost again, `reconnect` alone says when the device is given up. */
  readonly patient?: boolean
  /** Resets the controller and leaves it disabled. */
  reset(how: ResetKind): Promise<void>
  /**
   * Announces a normal shutdown, and waits until it is complete (section 7.6.2).
   * @param rtd3e RTD3 Entry Latency of Identify Controller, in microseconds
   */
  shutdown(rtd3e: number): Promise<void>
  /** Disables the controller (CC.EN). */
  disable(): Promise<void>
  /** Takes all memory from the device, and gives everything back. Never throws twice. */
  close(): Promise<void>

  /** Where there is one: what another thread needs to drive queues of this controller. */
  share?(): TransportShare | undefined
  /** Where `share` says `ownQueues`: for queues that were deleted here. Throws what the controller was lost by. */
  permit?(qids: readonly number[]): ConnectPermit
}
