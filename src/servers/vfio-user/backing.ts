// Open namespaces behind the software controller's model: its I/O commands become commands of the devices' own queues, each
// with memory of its device.

import { FIRMWARE_SLOT_LOG_BYTES, LOG_PAGE, SMART_LOG_BYTES } from '../../../lib/nvme/spec/logs.ts'
import { ALL_NAMESPACES, NVM } from '../../../lib/nvme/spec/opcodes.ts'
import type { Backing, BackingDone, BackingNamespace } from '../../../lib/sim/index.ts'
import type { IoQueue } from '../../queue/io-queue.ts'
import type { MemoryUser, Part } from '../memory.ts'
import { deviceLog, type ServedDevices } from '../nvme-tcp/devices.ts'
import type { ServedNamespace } from '../nvme-tcp/namespace.ts'
import { commonIdentity, commonMaxBytes, commonOpcodes, flushAll } from '../nvme-tcp/subsystem.ts'

export class DeviceBacking implements Backing, MemoryUser {
  readonly namespaces: readonly BackingNamespace[]
  readonly identity: Backing['identity']
  readonly opcodes: ReadonlySet<number>
  /** Largest transfer of one command in bytes: a power of two. */
  readonly maxBytes: number
  /** Called when there may be memory again, where there was none. */
  onRoom: (() => void) | null = null
  readonly #devices: ServedDevices
  readonly #byId: ReadonlyMap<number, ServedNamespace>
  readonly #queues: readonly IoQueue[]
  readonly #readOnly: boolean

  constructor(devices: ServedDevices, subnqn: string, readOnly: boolean) {
    const { namespaces } = devices
    const common = commonIdentity(namespaces)
    this.#devices = devices
    this.#byId = new Map(namespaces.map((namespace) => [namespace.nsid, namespace]))
    this.#queues = [...new Set(namespaces.flatMap(({ engine }) => engine.queues))]
    this.#readOnly = readOnly
    this.namespaces = namespaces.map(({ nsid, size, io }) => ({
      ...{ nsid, blocks: size, blockBytes: io.geometry.blocksize },
    }))
    this.identity = { ...common, subnqn, psds: [{}] }
    this.opcodes = new Set(commonOpcodes(common.oncs))
    this.maxBytes = commonMaxBytes(namespaces)
  }

  identifyNamespace(nsid: number): Uint8Array {
    return this.#byId.get(nsid)!.identify
  }

  describeNamespace(nsid: number): Uint8Array {
    return this.#byId.get(nsid)!.descriptors
  }

  // Of several devices, the first one's.
  readLog(lid: number): Promise<Uint8Array> | null {
    const { io } = this.#devices.namespaces[0]!
    if (lid === LOG_PAGE.SMART) return deviceLog(io, lid, SMART_LOG_BYTES)
    return lid === LOG_PAGE.FIRMWARE_SLOT ? deviceLog(io, lid, FIRMWARE_SLOT_LOG_BYTES) : null
  }

  alloc(bytes: number, nsid: number): Part | null {
    return this.#byId.get(nsid)!.memory.take(bytes, this)
  }

  free(block: Part): void {
    block.memory.give(block, this)
  }

  execute(sqe: Uint32Array, block: Part | null, qid: number, done: BackingDone): void {
    const nsid = sqe[1]!
    if (nsid === ALL_NAMESPACES && (sqe[0]! & 0xff) === NVM.FLUSH) {
      void flushAll(this.#devices.namespaces).then((status) => done(status, 0))
    } else this.#byId.get(nsid)!.execute(sqe, block, '', qid - 1, done)
  }

  withdraw(done: BackingDone): boolean {
    return this.#devices.namespaces.some((namespace) => namespace.withdraw(done))
  }

  async flush(): Promise<void> {
    if (!this.#readOnly) await flushAll(this.#devices.namespaces)
  }

  /** Looks whether commands have ended, without waiting for the scheduler's turn; returns how many queues had some. */
  poll(): number {
    let found = 0
    for (const queue of this.#queues) if (queue.scheduled > 0 && queue.poll()) found++
    return found
  }

  /** It wants no memory any more. */
  close(): void {
    this.onRoom = null
    for (const { memory } of this.#devices.namespaces) memory.forgetUser(this)
  }
}
