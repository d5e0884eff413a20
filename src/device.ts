// One open controller with its I/O queues, shared by the namespaces that are open on it.
// Trade-off: the first open decides how many queues there are; later ones share them, as in UNVMe.

import { AddressError, OutOfRangeError } from '../lib/errors.ts'
import { type Controller, createController } from '../lib/nvme/index.ts'
import { type DmaAllocation, PAGE_BYTES, type PciFunction } from '../lib/pci/index.ts'
import { type Geometry, geometryOf } from './geometry.ts'
import { IoQueue, type Metadata } from './io-queue.ts'
import type { Operation } from './operation.ts'
import { attach, detach } from './scheduler.ts'

const DEFAULT_QSIZE = 256
// Asked for in place of "as many as there are": controllers grant fewer.
const MAX_QUEUES = 64

export interface DeviceOptions {
  /** I/O queues: 0 for as many as the device has (up to 64). Default 1. */
  qcount?: number
  /** Entries of each queue, one more than commands in flight: 0 for 256, or the device's limit. */
  qsize?: number
  /** Milliseconds after which a command without an answer is rejected, default 30 000. */
  timeout?: number
  /** Use interrupts to sleep on slow commands. Default: where they cost little. */
  interrupts?: boolean
}

export class Device {
  readonly controller: Controller
  readonly queues: IoQueue[] = []
  readonly qsize: number
  readonly maxqcount: number
  /** Ids of the active namespaces. */
  readonly namespaces: number[]
  /** Resolves when the last namespace has been closed and everything given back; null while in use. */
  closed: Promise<void> | null = null
  #users = 0
  #onClosed: (() => void) | null = null
  #metadata: SharedMetadata | null = null
  readonly #wakes = new Map<number, () => void>()

  constructor(controller: Controller, qsize: number, maxqcount: number, namespaces: number[]) {
    this.controller = controller
    this.qsize = qsize
    this.maxqcount = maxqcount
    this.namespaces = namespaces
    controller.onFailure((cause) => {
      for (const queue of this.queues) queue.fail(cause)
    })
  }

  /** One more namespace is open on it. */
  retain(): this {
    this.#users++
    return this
  }

  /** One less: the last one closes the controller. Resolves when this namespace's part is done. */
  async release(): Promise<void> {
    if (--this.#users > 0) return
    for (const queue of this.queues) detach(queue)
    this.closed = this.controller.close().finally(() => this.#onClosed?.())
    await this.closed
  }

  /** Calls back when the device has been closed. */
  onClosed(callback: () => void): void {
    this.#onClosed = callback
  }

  /** The numbers of a namespace: of the first active one where no id is given. */
  async findGeometry(wanted?: number): Promise<Geometry> {
    const { address } = this.controller.pci
    const nsid = wanted ?? this.namespaces[0]
    if (nsid === undefined) throw new AddressError(`${address}: the controller has no active namespace`)
    if (!this.namespaces.includes(nsid)) {
      const known = this.namespaces.join(', ') || 'none'
      throw new AddressError(`${address}: no active namespace ${nsid}; active: ${known}`)
    }
    const id = await this.controller.identifyNamespace(nsid)
    return geometryOf(nsid, id, this.controller.maxTransferBytes)
  }

  /** Creates the queues, and the vectors that wake the scheduler. */
  async createQueues(count: number, geometry: Geometry, interrupts: boolean): Promise<void> {
    const { pci } = this.controller
    const vectors = interrupts ? Math.min(pci.vectors, count + 1) : 0
    if (vectors > 1) pci.enableInterrupts(vectors, (vector) => this.#wakes.get(vector)?.())
    for (let qid = 1; qid <= count; qid++) {
      const vector = vectors > 1 ? 1 + ((qid - 1) % (vectors - 1)) : null
      const pair = await this.controller.createQueuePair(qid, this.qsize, vector)
      const queue = new IoQueue(this.controller, pair, geometry)
      this.queues.push(queue)
      attach(queue, this.#wakeUp(vector))
    }
  }

  #wakeUp(vector: number | null) {
    const { pci } = this.controller
    if (vector === null) return { arm: () => false, disarm: () => {} }
    return {
      arm: (_queue: IoQueue, wake: () => void) => {
        this.#wakes.set(vector, wake)
        pci.arm(vector)
        return true
      },
      disarm: () => {
        this.#wakes.delete(vector)
        pci.disarm(vector)
      },
    }
  }

  /** Makes room for the metadata of a namespace whose format has a buffer of its own for it. */
  provideMetadata(geometry: Geometry): void {
    if (geometry.metadataBytes === 0) return
    const bytes = geometry.metadataBytes * geometry.maxbpio
    this.#metadata ??= new SharedMetadata()
    this.#metadata.grow(this.controller, bytes)
    for (const queue of this.queues) queue.metadata = this.#metadata
  }

  /** Resets the controller: everything in flight is rejected, queues and lost identifiers are as new. */
  async reset(how: 'controller' | 'subsystem' | 'function' = 'controller'): Promise<void> {
    await this.controller.reset(how)
    for (const queue of this.queues) queue.reset()
  }
}

/** Brings the controller of a PCI function up, with its queues; one user is counted. Closes the function where that fails. */
export async function createDevice(
  pci: PciFunction,
  nsid: number | undefined,
  options: DeviceOptions,
): Promise<Device> {
  const { qcount = 1, qsize = 0, timeout = 30_000, interrupts = pci.transport.startsWith('sim') } = options
  const controller = await createController(pci, { timeout })
  try {
    const { mqes } = controller.cap
    if (qsize !== 0 && (qsize < 2 || qsize > mqes)) {
      throw new OutOfRangeError(`qsize ${qsize}: ${pci.address} takes 2 to ${mqes}, or 0 for its default`)
    }
    const granted = await controller.requestQueues(qcount === 0 ? MAX_QUEUES : qcount)
    if (qcount > granted) throw new OutOfRangeError(`qcount ${qcount}: ${pci.address} grants ${granted}`)
    const entries = qsize === 0 ? Math.min(DEFAULT_QSIZE, mqes) : qsize
    const namespaces = await controller.activeNamespaces()
    const device = new Device(controller, entries, granted, namespaces)
    const geometry = await device.findGeometry(nsid)
    await device.createQueues(qcount === 0 ? Math.min(granted, MAX_QUEUES) : qcount, geometry, interrupts)
    return device.retain()
  } catch (error) {
    await controller.close()
    throw error
  }
}

// All commands share two regions: what they write as metadata is zeroes, what they read of it is nobody's.
class SharedMetadata implements Metadata {
  #bytes = 0
  #zeroes: Half = { lo: 0, hi: 0 }
  #sink: Half = { lo: 0, hi: 0 }

  grow(controller: Controller, bytes: number): void {
    if (bytes <= this.#bytes) return
    this.#bytes = Math.ceil(bytes / PAGE_BYTES) * PAGE_BYTES
    const tag = controller.pool.tagOf(controller.pool.alloc(2 * this.#bytes))
    this.#zeroes = half(tag.allocation, 0)
    this.#sink = half(tag.allocation, this.#bytes)
  }

  point(pair: { mptrLo: number; mptrHi: number }, op: Operation): void {
    if (op.geometry.metadataBytes === 0 || op.blockBytes === 0) {
      pair.mptrLo = 0
      pair.mptrHi = 0
      return
    }
    const { lo, hi } = (op.opc & 1) !== 0 ? this.#zeroes : this.#sink
    pair.mptrLo = lo
    pair.mptrHi = hi
  }
}

interface Half {
  lo: number
  hi: number
}

function half({ iova }: DmaAllocation, offset: number): Half {
  const at = iova + offset
  return { lo: at | 0, hi: Math.floor(at / 2 ** 32) | 0 }
}
