// An open controller for admin commands, whether it has namespaces or not.

import { type InspectOptions, inspect } from 'node:util'
import { ClosedError } from '../../lib/errors.ts'
import type { AdminCommand, AdminOptions, AdminResult } from '../../lib/nvme/host/admin-queue.ts'
import type { Controller } from '../../lib/nvme/host/controller.ts'
import type { IdentifyController } from '../../lib/nvme/spec/identify.ts'
import { MAX_NSID } from '../../lib/nvme/spec/opcodes.ts'
import { throwIfAborted } from '../../lib/sys/abort.ts'
import { rejectPaced } from '../../lib/sys/event-loop.ts'
import { summary } from '../../lib/sys/show.ts'
import { type Device, type DeviceOptions, OPENING_NAMES, type OpeningOptions } from '../controller/device.ts'
import { checkInteger, checkOptions, checkSignal, SIGNAL_NAMES } from '../queue/validate.ts'
import { Namespace } from './namespace.ts'

/** An open controller: what `openController` gives. */
export class ControllerHandle implements AsyncDisposable {
  /** The address it was opened by. */
  readonly address: string
  /** Namespace id of the address or of the options, if either has one. */
  readonly nsid: number | undefined
  readonly #device: Device
  readonly #options: DeviceOptions
  #closed: Promise<void> | null = null

  /** Made by `openController`. */
  constructor(device: Device, address: string, nsid: number | undefined, options: DeviceOptions) {
    this.address = address
    this.nsid = nsid
    this.#device = device.retain()
    this.#options = options
  }

  /** Registers, identify data, and the admin commands that have calls of their own. */
  get controller(): Controller {
    // Whoever opens a controller has all of it; only a thread that attached has less.
    return this.#device.controller as Controller
  }

  /** Identify Controller data, as read when the controller was enabled. */
  get identity(): IdentifyController {
    return this.controller.identity
  }

  /** Any admin command: rejects with NvmeError, CommandTimeoutError, DeviceRemovedError, ClosedError, AbortError. */
  admin(command: AdminCommand, options: AdminOptions = {}): Promise<AdminResult> {
    try {
      this.#check('admin')
      checkSignal('admin', checkOptions('admin', options, SIGNAL_NAMES).signal)
      return this.controller.admin(command, options)
    } catch (error) {
      return rejectPaced(error)
    }
  }

  /** Ids of the active namespaces now, ascending. */
  async namespaces(): Promise<number[]> {
    this.#check('namespaces')
    this.#device.namespaces = await this.controller.activeNamespaces()
    return this.#device.namespaces
  }

  /** Opens a namespace of this controller; the first one's options say how many queues there are. */
  async openNamespace(nsid: number, asked?: OpeningOptions): Promise<Namespace> {
    this.#check('openNamespace')
    if (asked !== undefined) checkOptions('openNamespace', asked, OPENING_NAMES)
    const options: OpeningOptions = asked ?? this.#options
    checkSignal('openNamespace', options.signal)
    checkInteger('openNamespace: nsid', nsid, 1, MAX_NSID)
    const device = this.#device.retain()
    try {
      const geometry = await device.findGeometry(nsid, options.signal)
      await device.provideQueues(options, geometry)
      throwIfAborted(options.signal)
      return new Namespace(device, geometry, this.address)
    } finally {
      await device.release()
    }
  }

  /** Resets the controller: everything in flight on it is rejected with ControllerResetError. */
  async reset(how: 'controller' | 'subsystem' | 'function' = 'controller'): Promise<void> {
    this.#check('reset')
    await this.#device.reset(how)
  }

  /** Shuts the controller down, unless namespaces of it are open. */
  close(): Promise<void> {
    this.#closed ??= this.#device.release()
    return this.#closed
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  /** True from the call of `close` on. */
  get closed(): boolean {
    return this.#closed !== null
  }

  /** What a console shows of it: not the driver behind it. */
  [inspect.custom](depth: number, options: InspectOptions): string {
    return summary('ControllerHandle', this.toJSON(), depth, options)
  }

  /** For JSON.stringify: what a console shows. */
  toJSON() {
    const { address, nsid, closed } = this
    const { mn, sn, fr } = this.identity
    return { address, nsid, mn, sn, fr, closed }
  }

  #check(call: string): void {
    if (this.#closed !== null) throw new ClosedError(`${call}: ${this.address} is closed`)
  }
}
