// One open controller with its I/O queues, shared by the namespaces that are open on it.
// Trade-off: the first open decides how many queues there are; later ones share them, as in UNVMe.

import { AddressError, OutOfRangeError } from '../lib/errors.ts'
import { type Controller, createController, type QueuePair } from '../lib/nvme/index.ts'
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
  /** None until a namespace has been opened. */
  readonly queues: IoQueue[] = []
  qsize = 0
  maxqcount = 0
  /** Ids of the active namespaces, as last read. */
  namespaces: number[]
  /** Resolves when the last namespace has been closed and everything given back; null while in use. */
  closed: Promise<void> | null = null
  #users = 0
  #providing: Promise<void> | null = null
  #onClosed: (() => void) | null = null
  #metadata: SharedMetadata | null = null
  readonly #wakes = new Map<number, () => void>()

  constructor(controller: Controller, namespaces: number[]) {
    this.controller = controller
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
    // It may have been created or attached since.
    const known = wanted === undefined ? this.namespaces.length > 0 : this.namespaces.includes(wanted)
    if (!known) this.namespaces = await this.controller.activeNamespaces()
    const nsid = wanted ?? this.namespaces[0]
    if (nsid === undefined) throw new AddressError(`${address}: the controller has no active namespace`)
    if (!this.namespaces.includes(nsid)) {
      const active = this.namespaces.join(', ') || 'none'
      throw new AddressError(`${address}: no active namespace ${nsid}; active: ${active}`)
    }
    const id = await this.controller.identifyNamespace(nsid)
    return geometryOf(nsid, id, this.controller.maxTransferBytes)
  }

  /** Creates the queues as the first namespace that is opened asks for; later ones share them. */
  async provideQueues(options: DeviceOptions, geometry: Geometry): Promise<void> {
    // Another open's attempt may fail by its own options.
    while (this.#providing !== null) await this.#providing.catch(() => {})
    if (this.queues.length > 0) return
    this.#providing = this.#createQueues(options, geometry).finally(() => {
      this.#providing = null
    })
    await this.#providing
  }

  async #createQueues(options: DeviceOptions, geometry: Geometry): Promise<void> {
    const { controller } = this
    const { pci, cap } = controller
    const { qcount = 1, qsize = 0, interrupts = pci.transport.startsWith('sim') } = options
    if (qsize !== 0 && (qsize < 2 || qsize > cap.mqes)) {
      throw new OutOfRangeError(`qsize ${qsize}: ${pci.address} takes 2 to ${cap.mqes}, or 0 for its default`)
    }
    const granted = await controller.requestQueues(qcount === 0 ? MAX_QUEUES : qcount)
    if (qcount > granted) throw new OutOfRangeError(`qcount ${qcount}: ${pci.address} grants ${granted}`)
    this.maxqcount = granted
    this.qsize = qsize === 0 ? Math.min(DEFAULT_QSIZE, cap.mqes) : qsize
    const count = qcount === 0 ? Math.min(granted, MAX_QUEUES) : qcount
    const vectors = interrupts ? Math.min(pci.vectors, count + 1) : 0
    if (vectors > 1) pci.enableInterrupts(vectors, (vector) => this.#wakes.get(vector)?.())
    const pairs: [pair: QueuePair, vector: number | null][] = []
    try {
      for (let qid = 1; qid <= count; qid++) {
        const vector = vectors > 1 ? 1 + ((qid - 1) % (vectors - 1)) : null
        pairs.push([await controller.createQueuePair(qid, this.qsize, vector), vector])
      }
    } catch (error) {
      for (const [{ qid }] of pairs) await controller.deleteQueuePair(qid).catch(() => {})
      throw error
    }
    for (const [pair, vector] of pairs) {
      const queue = new IoQueue(controller, pair, geometry)
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

/** Brings the controller of a PCI function up; one user is counted. Closes the function where that fails. */
export async function createDevice(pci: PciFunction, { timeout = 30_000 }: DeviceOptions): Promise<Device> {
  const controller = await createController(pci, { timeout })
  try {
    return new Device(controller, await controller.activeNamespaces()).retain()
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
