// A PCI function as a controller's transport: registers, rings in DMA memory, doorbells, interrupt vectors.

import { DeviceRemovedError, NvmeError, UnsupportedError } from '../../errors.ts'
import { logger } from '../../log/index.ts'
import { DmaPool } from '../../memory/pool.ts'
import type { FunctionShare } from '../../pci/function.ts'
import { type PciFunction, readRegister, writeRegister } from '../../pci/function.ts'
import { PAGE_BYTES } from '../../sys/units.ts'
import type { Queue, QueueOptions } from '../host/queue.ts'
import { NO_WAKE_UP, type ResetKind, type SendAdmin, type Transport, type WakeUp } from '../host/transport.ts'
import { encodeCreateCq, encodeCreateSq, encodeQueue } from '../spec/commands.ts'
import { OACS, SGLS } from '../spec/flags.ts'
import type { IdentifyController } from '../spec/identify.ts'
import { ADMIN } from '../spec/opcodes.ts'
import {
  ALL_ONES,
  type Capabilities,
  cqHeadDoorbell,
  decodeCapabilities,
  formatVersion,
  NSSR_RESET,
  REGISTER,
} from '../spec/registers.ts'
import {
  disableController,
  enableController,
  HealthCheck,
  removedError,
  shutdownController,
} from './bring-up.ts'
import { pairMemory, QueuePair } from './queue-pair.ts'
import { type Doorbells, ShadowDoorbells } from './shadow-doorbells.ts'

const log = logger('nvme')

const ADMIN_ENTRIES = 64
const ADMIN_MAX_BYTES = 2 ** 20

export interface PcieOptions {
  /** Milliseconds that an admin command may take, default 60 000. */
  adminTimeout?: number | undefined
  /** Uses shadow doorbells where the controller offers them (Doorbell Buffer Config). Default: true. */
  shadowDoorbells?: boolean | undefined
  /** Describes the data of I/O commands by SGLs where the controller takes them. Default: true. */
  sgl?: boolean | undefined
}

/** Registers that say what the controller is: both halves of CAP, and VS. */
interface IdentityRegisters {
  readonly lo: number
  readonly hi: number
  readonly vs: number
}

export class PcieTransport implements Transport {
  readonly pci: PciFunction
  reconnect?: (limit: number, signal: AbortSignal) => Promise<void>
  readonly #identity: IdentityRegisters
  readonly address: string
  readonly kind: string
  readonly emulated: boolean
  readonly image: string | undefined
  readonly memory: PciFunction
  readonly pool: DmaPool
  readonly cap: Capabilities
  readonly version: string
  readonly admin: QueuePair
  onFailed: ((cause: Error) => void) | null = null

  readonly #wantsShadow: boolean
  readonly #mayUseSgl: boolean
  // Since it was configured.
  #sgl = false
  #shadow: ShadowDoorbells | null = null
  // Whether the controller knows of them: until its next reset.
  #shadowed = false
  // Interrupt vectors in use; vector 0 is the admin queue's, which is polled.
  #vectors = 0
  readonly #health: HealthCheck
  readonly #wakes = new Map<number, () => void>()

  /**
   * Throws DeviceRemovedError and UnsupportedError; the function stays open then.
   * @param pool has room for the admin queue
   */
  constructor(pci: PciFunction, pool: DmaPool, identity: IdentityRegisters, options: PcieOptions = {}) {
    const { lo, hi, vs } = identity
    const { adminTimeout = 60_000, shadowDoorbells = true, sgl = true } = options
    if (lo === ALL_ONES && hi === ALL_ONES) throw removedError(pci, 'CAP reads all-ones')
    this.pci = pci
    this.#identity = identity
    this.address = pci.address
    this.kind = pci.transport
    this.emulated = pci.emulated
    this.image = pci.image
    this.memory = pci
    this.cap = decodeCapabilities(lo, hi)
    this.version = formatVersion(vs)
    if (this.cap.mqes < 2) {
      throw new UnsupportedError(
        `${pci.address}: its queues have one entry (CAP.MQES 0), which holds no command; NVMe asks for two at least`,
      )
    }
    if (this.cap.mpsmin > PAGE_BYTES) {
      throw new UnsupportedError(
        `${pci.address}: its smallest page (${this.cap.mpsmin} bytes) is larger than 4096`,
      )
    }
    this.#health = new HealthCheck(pci)
    this.#wantsShadow = shadowDoorbells
    this.#mayUseSgl = sgl
    this.pool = pool
    this.admin = new QueuePair(pci, this.pool, {
      qid: 0,
      entries: Math.min(ADMIN_ENTRIES, this.cap.mqes),
      dstrd: this.cap.dstrd,
      maxBytes: ADMIN_MAX_BYTES,
      timeout: adminTimeout,
    })
    if (pci.reconnect !== undefined) this.reconnect = (limit, signal) => this.#reconnect(pci, limit, signal)
    pci.onRemoved = (cause) => this.onFailed?.(cause)
  }

  readProperty(offset: number): Promise<number> {
    return readRegister(this.pci, offset)
  }

  writeProperty(offset: number, value: number): Promise<void> {
    return writeRegister(this.pci, offset, value)
  }

  health(): Error | null {
    return this.#health.look()
  }

  get removed(): boolean {
    return this.pci.checkRemoved?.() === true || this.pci.removal instanceof DeviceRemovedError
  }

  get away(): boolean {
    return this.pci.away === true
  }

  // What is known of the controller has to hold for the one that comes back.
  async #reconnect(pci: PciFunction, limit: number, signal: AbortSignal): Promise<void> {
    await pci.reconnect!(limit, signal)
    const { lo, hi } = await readIdentity(pci)
    if (lo === this.#identity.lo && hi === this.#identity.hi) return
    if (this.away) throw removedError(pci, 'its server has gone again')
    throw new DeviceRemovedError(`device removed: ${this.address} has other capabilities (CAP) than before`)
  }

  /** True while queues are rung by shadow doorbells. */
  get shadowed(): boolean {
    return this.#shadowed
  }

  async enable(signal?: AbortSignal): Promise<void> {
    await disableController(this.pci, this.cap, signal)
    this.#shadowed = false
    this.admin.useDoorbells(this.pci)
    await enableController(this.pci, this.cap, this.admin, signal)
  }

  async configure(identity: IdentifyController, send: SendAdmin, signal?: AbortSignal): Promise<void> {
    this.#sgl = this.#mayUseSgl && (identity.sgls & SGLS.SUPPORT) !== 0
    if (!this.#wantsShadow || (identity.oacs & OACS.DOORBELL_BUFFER) === 0) return
    this.#shadow ??= new ShadowDoorbells(this.pci, this.pool, this.cap.dstrd)
    this.#shadow.clear()
    try {
      await send({ opcode: ADMIN.DOORBELL_BUFFER_CONFIG, data: this.#shadow.memory }, { signal })
    } catch (error) {
      if (!(error instanceof NvmeError)) throw error
      log('%s: real doorbells, since Doorbell Buffer Config failed: %s', this.address, error.message)
      return
    }
    this.#shadowed = true
    this.admin.useDoorbells(this.#shadow.ofAdminQueue(this.admin.rung))
  }

  async allocQueue(options: QueueOptions): Promise<QueuePair> {
    const { qid } = options
    const { dstrd } = this.cap
    if (cqHeadDoorbell(qid, dstrd) >= this.pci.doorbells.length) {
      throw new UnsupportedError(`queue ${qid}: its doorbells in BAR 0 of ${this.address} can't be mapped`)
    }
    const own = { ...options, dstrd, sgl: this.#sgl }
    const sizes = pairMemory(own)
    for (let waiting = this.pool.ready(sizes); waiting !== null; waiting = this.pool.ready(sizes))
      await waiting
    return new QueuePair(this.pci, this.pool, own)
  }

  /** Completion queue first (sections 5.3 and 5.4). */
  async createQueue(queue: Queue, send: SendAdmin): Promise<void> {
    const pair = queue as QueuePair
    const { qid, entries } = pair
    pair.useDoorbells(this.#doorbellsOf(qid, entries))
    const cdw10 = encodeQueue({ qid, qsize: entries - 1 })
    const iv = this.#vectorOf(qid)
    const { sq, cq } = pair.rings
    await send({
      opcode: ADMIN.CREATE_IO_CQ,
      data: cq,
      cdw10,
      cdw11: encodeCreateCq({ pc: true, ien: iv !== 0, iv }),
    })
    try {
      const cdw11 = encodeCreateSq({ pc: true, cqid: qid })
      await send({ opcode: ADMIN.CREATE_IO_SQ, data: sq, cdw10, cdw11 })
    } catch (error) {
      await send({ opcode: ADMIN.DELETE_IO_CQ, cdw10: qid }).catch(() => {})
      throw error
    }
  }

  /** Submission queue first. */
  async deleteQueue(qid: number, send: SendAdmin): Promise<void> {
    await send({ opcode: ADMIN.DELETE_IO_SQ, cdw10: qid })
    await send({ opcode: ADMIN.DELETE_IO_CQ, cdw10: qid })
  }

  #doorbellsOf(qid: number, entries: number): Doorbells {
    return (this.#shadowed && this.#shadow?.ofQueuePair(qid, entries)) || this.pci
  }

  async enableWakeUps(queues: number): Promise<void> {
    const vectors = Math.min(this.pci.vectors, queues + 1)
    if (vectors < 2) return
    this.#vectors = vectors
    await this.pci.enableInterrupts(vectors, (vector) => this.#wakes.get(vector)?.())
  }

  // Vectors from 1 on go round; 0 where there is none.
  #vectorOf(qid: number): number {
    return this.#vectors < 2 ? 0 : 1 + ((qid - 1) % (this.#vectors - 1))
  }

  wakeUp(qid: number): WakeUp {
    const vector = this.#vectorOf(qid)
    if (vector === 0) return NO_WAKE_UP
    return {
      interrupts: true,
      arm: (wake) => {
        this.#wakes.set(vector, wake)
        this.pci.arm(vector)
        return true
      },
      disarm: () => {
        this.#wakes.delete(vector)
        this.pci.disarm(vector)
      },
    }
  }

  async reset(how: ResetKind): Promise<void> {
    if (how === 'function') await this.pci.reset()
    if (how === 'subsystem') await writeRegister(this.pci, REGISTER.NSSR, NSSR_RESET)
    await disableController(this.pci, this.cap)
  }

  shutdown(rtd3e: number): Promise<void> {
    return shutdownController(this.pci, rtd3e)
  }

  disable(): Promise<void> {
    return disableController(this.pci, this.cap)
  }

  async close(): Promise<void> {
    try {
      this.pci.quiesce()
      this.pool.close()
    } finally {
      await this.pci.close()
    }
  }

  share(): FunctionShare | undefined {
    return this.pci.share?.()
  }
}

/** Makes the transport; where that fails the function is closed. Never blocks, however registers are reached. */
export async function openPcieTransport(pci: PciFunction, options: PcieOptions = {}): Promise<PcieTransport> {
  try {
    const pool = new DmaPool(pci)
    // What bringing up allocates at once: the admin queue, and a few pages.
    await pool.ready([ADMIN_ENTRIES * 2 * PAGE_BYTES])
    return new PcieTransport(pci, pool, await readIdentity(pci), options)
  } catch (error) {
    await pci.close()
    throw error
  }
}

async function readIdentity(pci: PciFunction): Promise<IdentityRegisters> {
  const lo = await readRegister(pci, REGISTER.CAP_LO)
  const hi = await readRegister(pci, REGISTER.CAP_HI)
  return { lo, hi, vs: await readRegister(pci, REGISTER.VS) }
}
