// A controller of the kernel's driver in a second thread of the process, which drives rings that another thread has made.

import { DeviceRemovedError, UnsupportedError } from '../../errors.ts'
import type { DmaPool } from '../../memory/pool.ts'
import type { DmaSource, SharedDma } from '../../memory/source.ts'
import type { Queue, QueueShareFacts } from '../host/queue.ts'
import type { AttachedTransport } from '../host/transport.ts'
import { IoctlQueue, type IoctlQueueShare } from './ioctl-queue.ts'
import { findKernelController } from './sysfs.ts'
import type { KernelShare } from './transport.ts'
import { type NamespaceFiles, UringQueue, type UringQueueShare } from './uring-queue.ts'

export class AttachedKernel implements AttachedTransport, NamespaceFiles {
  readonly address: string
  readonly kind = 'kernel'
  readonly emulated = false
  readonly memory: DmaSource
  readonly #controller: string
  readonly #files: KernelShare['files']
  readonly #ioctls: IoctlQueue[] = []

  readonly #mayWrite: (block: string) => Error | null

  /**
   * @param dma asks the owner for memory
   * @param mayWrite as of KernelOptions
   */
  constructor(
    { address, files, controller, maxArenaBytes }: KernelShare,
    dma: SharedDma,
    mayWrite: (block: string) => Error | null,
  ) {
    this.#mayWrite = mayWrite
    this.address = address
    this.#files = files
    this.#controller = controller
    // The owner takes it back when it has the queues back.
    this.memory = { address, maxArenaBytes, mapDma: (bytes) => dma.mapDma(bytes), unmapDma() {} }
  }

  readProperty(): never {
    throw new UnsupportedError(`${this.address}: registers are the kernel's driver's`)
  }

  health(): Error | null {
    if (findKernelController(this.#controller) !== undefined) return null
    return new DeviceRemovedError(`device removed: ${this.address}`)
  }

  fdOf(nsid: number): number {
    return this.#file(nsid)?.fd ?? -1
  }

  fileOf(nsid: number): string {
    return this.#file(nsid)?.file ?? this.address
  }

  mayWrite(nsid: number): Error | null {
    const file = this.#file(nsid)
    return file === undefined ? null : this.#mayWrite(file.block)
  }

  #file(nsid: number) {
    return this.#files.find((file) => file.nsid === nsid)
  }

  attachQueue(_pool: DmaPool, share: QueueShareFacts): Queue {
    const queue = share as UringQueueShare | IoctlQueueShare
    if (queue.kind !== 'ioctl') return new UringQueue(this, queue, queue.ring)
    const own = new IoctlQueue(this, queue)
    this.#ioctls.push(own)
    return own
  }

  // Their threads are this one's: the owner knows nothing of them.
  async settle(): Promise<void> {
    for (const queue of this.#ioctls.splice(0)) {
      await queue.settle(Number.POSITIVE_INFINITY)
      queue.free()
    }
  }
}
