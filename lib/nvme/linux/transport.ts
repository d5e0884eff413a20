// A controller of the kernel's nvme driver as a transport: admin commands by ioctl, I/O by io_uring, and nothing of the
// device itself. Bringing up, aborts and resets are the kernel's.

import fs from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import {
  AddressError,
  CommandTimeoutError,
  ControllerFatalError,
  DeviceRemovedError,
  SystemCallError,
  UnsupportedError,
} from '../../errors.ts'
import { logger } from '../../log/index.ts'
import {
  type AddressRange,
  type DmaArena,
  mapPrivate,
  releaseAddresses,
  replaceMapping,
} from '../../memory/mapping.ts'
import { DmaPool } from '../../memory/pool.ts'
import type { DmaSource } from '../../memory/source.ts'
import { ERRNO } from '../../sys/libc.ts'
import { Signal } from '../../sys/signal.ts'
import { PAGE_BYTES } from '../../sys/units.ts'
import { nvmeError } from '../host/failure.ts'
import type { Queue, QueueOptions } from '../host/queue.ts'
import {
  NO_WAKE_UP,
  type ResetKind,
  type Transport,
  type TransportShare,
  type WakeUp,
} from '../host/transport.ts'
import { CNS, decodeIdentifyController } from '../spec/identify.ts'
import { ADMIN, ALL_NAMESPACES } from '../spec/opcodes.ts'
import { type Capabilities, CSS, decodeCapabilities, formatVersion } from '../spec/registers.ts'
import { IOCTL } from './abi.ts'
import { faultOf, noRights } from './faults.ts'
import { IoctlQueue } from './ioctl-queue.ts'
import { runIoctl } from './ioctl-thread.ts'
import { closeRing, createRing, signalCompletions } from './ring.ts'
import { findKernelController, type KernelController, type KernelNamespace } from './sysfs.ts'
import { type NamespaceFiles, type UringOptions, UringQueue } from './uring-queue.ts'

const log = logger('kernel')

const ADMIN_ENTRIES = 64
const ADMIN_MAX_BYTES = 2 ** 20
// Admin commands at once: a Format does not keep an Identify from its answer.
const ADMIN_THREADS = 4
// Commands at once where there is no io_uring.
const IOCTL_THREADS = 8
const MOST_ENTRIES = 4096
const MOST_QUEUES = 64
const LIVE_MS = 30_000
// The kernel itself takes a command for lost after a minute, and a reset for some seconds more.
const IDENTIFY_MS = 90_000
const LOOK_MS = 10
const SETTLE_MS = 5000
const DEFAULT_TIMEOUT_MS = 30_000

export interface KernelOptions {
  /** How commands go: default io_uring, and ioctl where that is refused. */
  readonly io?: 'io_uring' | 'ioctl' | undefined
  /** A thread of the kernel looks for commands: no system call for them, and a processor for it. Default: false. */
  readonly sqpoll?: boolean | undefined
  /** Milliseconds after which the kernel takes an I/O command for lost, default 30 000. */
  readonly timeout?: number | undefined
  /** A command without an answer is given up then; default: the kernel has three times as long to end it. */
  readonly impatient?: boolean | undefined
  /** Why a namespace must not be written, or null where it may: asked before the first write. */
  readonly mayWrite?: ((block: string) => Error | null) | undefined
  /** For `share`. */
  readonly extra?: unknown
  /** Called when the transport is closed. */
  readonly onClose?: (() => void) | undefined
}

/**
 * Memory that the kernel reaches by the address at which this process has it mapped. On huge pages a command of 128 KiB is
 * one piece, and not 32.
 */
class KernelMemory implements DmaSource {
  readonly address: string
  readonly maxArenaBytes = 2 ** 30
  readonly #ranges = new Map<DmaArena, AddressRange>()
  /** Other threads may have views, or the kernel may still write there: addresses stay in use then. */
  keepsAddresses = false

  constructor(address: string) {
    this.address = address
  }

  mapDma(bytes: number): DmaArena {
    const { address, range } = mapPrivate(bytes)
    const arena = { iova: Number(address), address, fd: -1, bytes, hugePages: true }
    this.#ranges.set(arena, range)
    return arena
  }

  // What is in flight holds its pages by itself.
  unmapDma({ address, bytes }: DmaArena): void {
    replaceMapping(address, bytes)
  }

  releaseAddresses(arena: DmaArena): void {
    const range = this.#ranges.get(arena)
    this.#ranges.delete(arena)
    if (range !== undefined && !this.keepsAddresses) releaseAddresses(range)
  }
}

/** The open file of a namespace. */
export interface KernelFile {
  readonly nsid: number
  readonly fd: number
  /** Its path, and the block device's name. */
  readonly file: string
  readonly block: string
}

/** What another thread needs: the files, and the address. */
export interface KernelShare extends TransportShare {
  readonly files: readonly KernelFile[]
  /** What the maker of the transport wants another thread's to know. */
  readonly extra: unknown
  readonly controller: string
}

export class KernelTransport implements Transport, NamespaceFiles {
  readonly address: string
  readonly kind = 'kernel'
  readonly how: string
  readonly emulated = false
  readonly recovers = true
  readonly cheapWakeUps = true
  readonly noEvents = "asynchronous events are the kernel's driver's (udev tells of them)"
  readonly memory: KernelMemory
  readonly pool: DmaPool
  readonly cap: Capabilities
  readonly version: string
  readonly maxTransferBytes: number
  readonly admin: IoctlQueue
  /** The kernel's name of the controller. */
  readonly controller: string
  onFailed: ((cause: Error) => void) | null = null

  readonly #options: KernelOptions
  readonly #adminFd: number
  readonly #adminFile: string
  readonly #health: Health
  readonly #noUring: string | null
  readonly #files = new Map<number, KernelFile>()
  // Of namespaces that are no more.
  readonly #oldFds: number[] = []
  // Those that exist, by id; and all that have rings or threads.
  readonly #queues = new Map<number, UringQueue | IoctlQueue>()
  readonly #allocated = new Set<UringQueue | IoctlQueue>()
  readonly #signals = new Map<number, Signal>()
  readonly #wakes = new Map<number, () => void>()
  #wakeUps = false
  #closed = false

  constructor(parts: Parts, version: string) {
    const { address, facts, options, adminFd, adminFile, health, noUring, admin, memory, pool } = parts
    this.address = address
    this.controller = facts.name
    this.#options = options
    this.#adminFd = adminFd
    this.#adminFile = adminFile
    this.#health = health
    this.#noUring = noUring
    this.memory = memory
    this.pool = pool
    this.admin = admin
    this.version = version
    // What a host sees of CAP behind the kernel's driver: nothing of the device's own is to be had.
    this.cap = { ...decodeCapabilities(0, 0), mqes: MOST_ENTRIES, css: CSS.NVM, nssrs: true }
    this.maxTransferBytes = mostBytes(facts.namespaces)
    const polled = options.sqpoll ? ', entries polled by the kernel' : ''
    this.how = noUring === null ? `io_uring${polled}` : `ioctl (${noUring})`
  }

  readProperty(): never {
    throw new UnsupportedError(
      `${this.address}: registers are the kernel's driver's; by VFIO they can be read`,
    )
  }

  writeProperty(): never {
    return this.readProperty()
  }

  health(): Error | null {
    return this.#health.look()
  }

  get removed(): boolean {
    return findKernelController(this.controller) === undefined
  }

  mayWrite(nsid: number): Error | null {
    const all = findKernelController(this.controller)?.namespaces ?? []
    const meant = nsid === ALL_NAMESPACES ? all : all.filter((one) => one.nsid === nsid)
    for (const { block } of meant) {
      const refusal = this.#options.mayWrite?.(block) ?? null
      if (refusal !== null) return refusal
    }
    return null
  }

  // The kernel has done it, or does it after a reset by itself.
  async enable(signal?: AbortSignal): Promise<void> {
    const until = performance.now() + LIVE_MS
    for (;;) {
      const state = this.#health.state()
      if (state === 'live') return
      const failure = this.health()
      if (failure !== null) throw failure
      if (performance.now() > until) {
        throw new ControllerFatalError(
          `${this.address}: the kernel's driver says "${state}" for ${LIVE_MS / 1000} s`,
        )
      }
      await sleep(LOOK_MS, undefined, { signal })
    }
  }

  async configure(): Promise<void> {}

  grant(count: number): number {
    return Math.min(count, MOST_QUEUES)
  }

  openNamespace(nsid: number): void {
    const known = this.#files.get(nsid)
    // One that was detached, and attached again, is another device. Its file stays open, so that the name is not given again.
    if (known !== undefined && known.block !== this.#namespace(nsid)?.block) {
      this.#files.delete(nsid)
      this.#oldFds.push(known.fd)
      for (const queue of this.#allocated) if (queue instanceof UringQueue) queue.forgetFile()
    }
    this.fdOf(nsid)
    if (this.#files.has(nsid)) return
    throw new AddressError(`${this.address}: the kernel has no device for namespace ${nsid}, which is active`)
  }

  fdOf(nsid: number): number {
    const known = this.#files.get(nsid)
    if (known !== undefined) return known.fd
    const facts = this.#namespace(nsid)
    if (facts === undefined) return this.#anyFile()
    const file = `/dev/${facts.generic ?? facts.block}`
    const fd = openFile(file, this.address)
    this.#files.set(nsid, { nsid, fd, file, block: facts.block })
    return fd
  }

  // For a namespace id that names none, or all: the kernel says what it thinks of that.
  #anyFile(): number {
    return [...this.#files.values()][0]?.fd ?? -1
  }

  fileOf(nsid: number): string {
    return this.#files.get(nsid)?.file ?? this.#adminFile
  }

  #namespace(nsid: number): KernelNamespace | undefined {
    return findKernelController(this.controller)?.namespaces.find((one) => one.nsid === nsid)
  }

  async allocQueue(options: QueueOptions): Promise<Queue> {
    const { timeout } = options
    // The kernel aborts at its timeout, and resets at the next one; what it then says is the command's answer.
    const patience = this.#options.impatient ? timeout : 3 * timeout
    const own = { ...options, timeout: patience, kernelTimeout: timeout }
    const queue = this.#makeQueue(own)
    this.#allocated.add(queue)
    return queue
  }

  #makeQueue(own: UringOptions): UringQueue | IoctlQueue {
    if (this.#noUring !== null) return new IoctlQueue(this, { ...own, threads: IOCTL_THREADS })
    return new UringQueue(
      this,
      own,
      createRing({ entries: own.entries, sqpoll: this.#options.sqpoll ?? false }),
    )
  }

  async createQueue(queue: Queue): Promise<void> {
    const made = queue as UringQueue | IoctlQueue
    const { qid } = made
    // Another thread may have driven its ring meanwhile.
    if (made instanceof UringQueue) made.begin()
    this.#queues.set(qid, made)
    if (!this.#wakeUps) return
    // It is with the ring for good.
    if (this.#signals.has(qid)) return
    const signal = new Signal(() => this.#wakes.get(qid)?.())
    this.#signals.set(qid, signal)
    if (made instanceof UringQueue) signalCompletions(made.ringShare, signal.fd)
    else made.eventfd = signal.fd
  }

  /** Waits for what is in flight: the kernel takes nothing back. */
  async deleteQueue(qid: number): Promise<void> {
    await this.#settle(qid, SETTLE_MS)
    this.#queues.delete(qid)
  }

  async #settle(qid: number, limit: number): Promise<void> {
    const queue = this.#queues.get(qid)
    if (queue === undefined) return
    const settled = queue instanceof UringQueue ? await settle(queue, limit) : await queue.settle(limit)
    if (!settled) {
      throw new CommandTimeoutError(`${this.address}: commands of queue ${qid} go on in the kernel`)
    }
  }

  async enableWakeUps(): Promise<void> {
    this.#wakeUps = true
  }

  wakeUp(qid: number): WakeUp {
    if (!this.#wakeUps) return NO_WAKE_UP
    const signalIt = (on: boolean) => {
      const queue = this.#queues.get(qid)
      if (queue instanceof UringQueue) queue.signals = on
    }
    return {
      interrupts: true,
      arm: (wake) => {
        const signal = this.#signals.get(qid)
        if (signal === undefined) return false
        this.#wakes.set(qid, wake)
        signalIt(true)
        signal.arm()
        return true
      },
      disarm: () => {
        signalIt(false)
        this.#wakes.delete(qid)
        this.#signals.get(qid)?.disarm()
      },
    }
  }

  async reset(how: ResetKind): Promise<void> {
    if (how === 'function') await this.#resetFunction()
    else await this.#resetController(how)
    // A command that waited in the kernel meanwhile is sent after the reset: its memory and its blocks are in use until it
    // has ended.
    for (const qid of this.#queues.keys()) await this.#settle(qid, LIVE_MS)
    if (!(await this.admin.settle(LIVE_MS))) {
      throw new CommandTimeoutError(`${this.address}: admin commands go on in the kernel`)
    }
  }

  async #resetController(how: ResetKind): Promise<void> {
    const request = how === 'subsystem' ? IOCTL.SUBSYS_RESET : IOCTL.RESET
    const value = await runIoctl(this.#adminFd, request)
    if (value >= 0) return
    const what = `reset of the ${how} by the kernel`
    if (-value === ERRNO.ENOTTY) throw new UnsupportedError(`${this.address}: ${what}: it has none`)
    const context = { address: this.address, file: this.#adminFile, what, health: () => this.health() }
    throw faultOf(-value, context).error
  }

  // The kernel's driver prepares for it, and brings the controller up after it.
  async #resetFunction(): Promise<void> {
    const file = `/sys/class/nvme/${this.controller}/device/reset`
    try {
      await fs.promises.writeFile(file, '1')
    } catch (error) {
      const { code = '' } = error as NodeJS.ErrnoException
      if (code === 'EACCES' || code === 'EPERM') throw noRights(file, 'reset of the function', code)
      throw new UnsupportedError(`${this.address}: its function can't be reset by the kernel (${code})`, {
        cause: error,
      })
    }
  }

  /** The controller stays the kernel's, and enabled. */
  async shutdown(): Promise<void> {}

  async disable(): Promise<void> {}

  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    const queues = [...this.#allocated, this.admin]
    // The kernel copies metadata, and data of odd lengths, to where they were asked for when the command ends.
    if (queues.some(({ outstanding }) => outstanding > 0)) this.memory.keepsAddresses = true
    for (const queue of queues) queue.free()
    for (const signal of this.#signals.values()) signal.close()
    this.pool.close()
    this.#health.close()
    // A thread that has not yet come to its ioctl would make it on whatever has the descriptor's number by then; and what
    // it writes is held until that is written.
    const endings = queues.flatMap((queue) => (queue instanceof IoctlQueue ? queue.endings : []))
    if (endings.length === 0) this.#closeFiles()
    else void Promise.all(endings).then(() => this.#closeFiles())
  }

  #closeFiles(): void {
    for (const { fd } of this.#files.values()) fs.closeSync(fd)
    for (const fd of this.#oldFds) fs.closeSync(fd)
    fs.closeSync(this.#adminFd)
    this.#options.onClose?.()
  }

  share(): KernelShare {
    const { address, kind: transport, emulated, controller } = this
    this.memory.keepsAddresses = true
    const { maxArenaBytes } = this.memory
    const files = [...this.#files.values()]
    return { address, transport, emulated, controller, files, maxArenaBytes, extra: this.#options.extra }
  }
}

/** Resolves when the kernel has completed everything, or after `limit` milliseconds: false then. */
async function settle(queue: UringQueue, limit: number): Promise<boolean> {
  const until = performance.now() + limit
  while (queue.outstanding > 0) {
    if (performance.now() > until) return false
    // Completions may wait for this thread to come into the kernel, also where there are some already.
    queue.enter()
    await sleep(1)
  }
  return true
}

/** What the kernel says of the controller, by a file of sysfs that stays open: reading it fails once that is gone. */
class Health {
  readonly #address: string
  readonly #fd: number
  readonly #buffer = Buffer.alloc(32)

  constructor(address: string, controller: string) {
    this.#address = address
    this.#fd = fs.openSync(`/sys/class/nvme/${controller}/state`, 'r')
  }

  /** `live`, `resetting` and so on; `gone` where there is no such controller any more. */
  state(): string {
    try {
      return this.#buffer.toString('latin1', 0, fs.readSync(this.#fd, this.#buffer, 0, 32, 0)).trim()
    } catch {
      return 'gone'
    }
  }

  look(): Error | null {
    const state = this.state()
    if (state === 'gone' || state.startsWith('deleting')) {
      return new DeviceRemovedError(`device removed: ${this.#address} (${state} in the kernel)`)
    }
    if (state !== 'dead') return null
    return new ControllerFatalError(`${this.#address} is dead: the kernel's driver has given it up`)
  }

  close(): void {
    fs.closeSync(this.#fd)
  }
}

interface Parts {
  readonly address: string
  readonly facts: KernelController
  readonly options: KernelOptions
  readonly adminFd: number
  readonly adminFile: string
  readonly health: Health
  readonly noUring: string | null
  readonly admin: IoctlQueue
  readonly memory: KernelMemory
  readonly pool: DmaPool
}

/**
 * Opens a controller of the kernel's driver.
 * @param controller its name there, `nvme0`
 * @param address for messages
 * @throws AddressError where there is none; SetupError without the rights for its files
 */
export async function openKernel(
  controller: string,
  address: string,
  options: KernelOptions = {},
): Promise<KernelTransport> {
  const facts = findKernelController(controller)
  if (facts === undefined) throw new AddressError(`${address}: the kernel has no controller ${controller}`)
  const health = new Health(address, controller)
  let adminFd = -1
  let admin: IoctlQueue | undefined
  let pool: DmaPool | undefined
  try {
    const adminFile = adminFileOf(facts)
    adminFd = openFile(adminFile, address)
    const memory = new KernelMemory(address)
    pool = new DmaPool(memory)
    const files = {
      address,
      fdOf: () => adminFd,
      fileOf: () => adminFile,
      health: () => health.look(),
    }
    const { timeout = DEFAULT_TIMEOUT_MS } = options
    admin = new IoctlQueue(files, {
      ...{ qid: 0, entries: ADMIN_ENTRIES, maxBytes: Math.min(ADMIN_MAX_BYTES, mostBytes(facts.namespaces)) },
      ...{ timeout: Math.max(2 * timeout, 60_000), kernelTimeout: 0, threads: ADMIN_THREADS },
    })
    const noUring = findWhyNoUring(facts, options)
    const parts = { address, facts, options, adminFd, adminFile, health, noUring, admin, memory, pool }
    return new KernelTransport(parts, await readVersion(admin, pool))
  } catch (error) {
    admin?.free()
    pool?.close()
    if (adminFd >= 0) fs.closeSync(adminFd)
    health.close()
    throw error
  }
}

// Whoever has rights for a namespace alone can send admin commands by its file.
function adminFileOf({ name, namespaces }: KernelController): string {
  const own = `/dev/${name}`
  try {
    fs.accessSync(own, fs.constants.R_OK)
    return own
  } catch {
    const others = namespaces.map(({ block, generic }) => `/dev/${generic ?? block}`)
    const usable = others.find((file) => {
      try {
        fs.accessSync(file, fs.constants.R_OK)
        return true
      } catch {
        return false
      }
    })
    return usable ?? own
  }
}

function findWhyNoUring({ namespaces }: KernelController, { io, sqpoll }: KernelOptions): string | null {
  if (io === 'ioctl') return 'as asked for'
  if (namespaces.length > 0 && namespaces.every(({ generic }) => generic === null)) {
    return 'the kernel has no character devices for namespaces'
  }
  try {
    const ring = createRing({ entries: 2, sqpoll: sqpoll ?? false })
    closeRing(ring)
    return null
  } catch (error) {
    if (io === 'io_uring' || !(error instanceof UnsupportedError)) throw error
    log('%s', error.message)
    return error.message
  }
}

// Page-aligned memory has one piece for a page at most, and one more where it does not begin with one.
function mostBytes(namespaces: readonly KernelNamespace[]): number {
  const limits = namespaces.map(({ maxBytes, maxSegments }) =>
    Math.min(maxBytes || Infinity, maxSegments > 1 ? (maxSegments - 1) * PAGE_BYTES : Infinity),
  )
  const least = Math.min(...limits)
  return Number.isFinite(least) ? Math.max(PAGE_BYTES, least - (least % PAGE_BYTES)) : Number.MAX_SAFE_INTEGER
}

// Reading is enough for some commands from Linux 6.2 on.
function openFile(file: string, address: string): number {
  const { O_RDWR, O_RDONLY } = fs.constants
  try {
    return fs.openSync(file, O_RDWR)
  } catch {
    try {
      return fs.openSync(file, O_RDONLY)
    } catch (error) {
      const { code = '', errno = 0, syscall = 'open' } = error as NodeJS.ErrnoException
      if (code === 'EACCES' || code === 'EPERM') throw noRights(file, `opening ${address}`, code)
      if (code === 'ENOENT' || code === 'ENXIO' || code === 'ENODEV') {
        throw new AddressError(`${address}: there is no ${file} (${code})`, { cause: error })
      }
      throw new SystemCallError(`opening ${address}`, { code, errno: -errno, syscall, path: file })
    }
  }
}

// Identify Controller says it where no register can be read (VER).
async function readVersion(admin: IoctlQueue, pool: DmaPool): Promise<string> {
  const data = pool.alloc(PAGE_BYTES)
  try {
    const { lo, hi } = pool.tagOf(data)
    admin.post(ADMIN.IDENTIFY, 0, lo, hi, PAGE_BYTES, CNS.CONTROLLER, 0, 0, 0, 0, 0)
    admin.ring()
    const until = performance.now() + IDENTIFY_MS
    while (admin.reap() < 0) {
      if (performance.now() > until) {
        throw new CommandTimeoutError(`Identify had no answer within ${IDENTIFY_MS / 1000} s`)
      }
      await sleep(1)
      admin.step()
    }
    if (admin.status !== 0) {
      throw admin.fault ?? nvmeError({ opcode: ADMIN.IDENTIFY, qid: 0, nsid: 0 }, admin.status)
    }
    return formatVersion(decodeIdentifyController(data).ver)
  } finally {
    pool.free(data)
  }
}
