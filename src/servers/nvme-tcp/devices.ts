// The namespaces that a server of NVMe controllers offers, with the memory of their devices for the data of commands: what is
// asked before, what is heard of changes, and their end. Which hosts there are, and how they come, is the server's business.

import { UnsupportedError } from '../../../lib/errors.ts'
import { logger } from '../../../lib/log/index.ts'
import type { DmaPool } from '../../../lib/memory/pool.ts'
import { nvmeError } from '../../../lib/nvme/host/failure.ts'
import { tellsAllocated } from '../../../lib/nvme/host/lba-status.ts'
import { ADMIN, ALL_NAMESPACES, NVM } from '../../../lib/nvme/spec/opcodes.ts'
import { type CommandSetLimits, readLimits } from '../clear-limits.ts'
import { ServerMemory } from '../memory.ts'
import { watchChanges } from './changes.ts'
import { type DeviceNamespace, type IoCounters, ServedNamespace, uuidOf } from './namespace.ts'
import type { ReservationFile } from './reservation-file.ts'
import { flushAll } from './subsystem.ts'

const log = logger('serve')

const RETAIN_EVENT = 0x8000

export interface DeviceChoices {
  /** The call, for messages, and what it can't do with separate metadata. */
  readonly call: string
  readonly noMetadata: string
  readonly subnqn: string
  readonly readOnly: boolean
  /** Bytes of each device's memory. */
  readonly memory: number
  /** How much of it one user may have: 1 is all of it. */
  readonly share?: number
  /** Several hosts can have the namespaces; then there may be a file for reservations, by a device's address. */
  readonly shared: boolean
  readonly fileFor?: (address: string) => ReservationFile | null
}

export interface ServedDevices {
  readonly namespaces: readonly ServedNamespace[]
  /** Of one command, as devices say them (CNS 06h). */
  readonly limits: readonly CommandSetLimits[]
  readonly counters: IoCounters
  /** Commands that devices have. */
  readonly inFlight: number
  /** Bytes that commands have. */
  readonly memoryInUse: number
  /** Calls `changed` when a namespace has become another one. */
  onChange(changed: (nsid: number) => void): void
  /** Waits for what is in flight, and flushes. Throws NvmeError where that fails. */
  finish(): Promise<void>
  /** Gives the memory back. */
  close(): void
}

/** The name of a subsystem that has these namespaces: the same after a restart, and in no other kind of server. */
export function nqnOf(namespaces: readonly DeviceNamespace[], kind = ''): string {
  const parts = namespaces.map(({ controller, geometry }) => {
    const { mn, sn } = controller.identity
    return `${mn}/${sn}/${geometry.nsid}`
  })
  return nqnOfName(`${kind}${parts.join('\n')}`)
}

/** One that is made of a UUID, which is made of a name. */
export function nqnOfName(name: string): string {
  const digits = uuidOf(name).replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5')
  return `nqn.2014-08.org.nvmexpress:uuid:${digits}`
}

export const noCounters = (): IoCounters => ({
  ...{ reads: 0, writes: 0, bytesRead: 0, bytesWritten: 0, otherCommands: 0, failures: 0 },
})

/** A log page of a device, whose events stay with who drives it. */
export async function deviceLog(
  { controller }: Pick<DeviceNamespace, 'controller'>,
  lid: number,
  bytes: number,
): Promise<Uint8Array> {
  const data = Buffer.alloc(bytes)
  const cdw10 = (((bytes / 4 - 1) << 16) | RETAIN_EVENT | lid) >>> 0
  await controller.admin({ opcode: ADMIN.GET_LOG_PAGE, nsid: ALL_NAMESPACES, cdw10, data })
  return data
}

/**
 * Takes memory of the devices, and looks at what is served, as namespaces 1, 2, ….
 * Throws UnsupportedError (metadata in a buffer of its own), InUseError (the system uses it) or OutOfMemoryError.
 */
export async function openDevices(
  ios: readonly DeviceNamespace[],
  choices: DeviceChoices,
): Promise<ServedDevices> {
  const { call, noMetadata, subnqn, readOnly, memory: memoryBytes, share, shared, fileFor } = choices
  for (const { geometry, device, controller } of ios) {
    if (geometry.separateBytes > 0 && geometry.flags === 0) {
      throw new UnsupportedError(`${call}: ${device}: ${noMetadata}`)
    }
    // Before anybody connects, and by the rule for all that is written: from now on it is held.
    const refusal = readOnly ? null : (controller.transport.mayWrite?.(geometry.nsid) ?? null)
    if (refusal !== null) throw refusal
  }
  const counters = noCounters()
  const pools = new Map<DmaPool, ServerMemory>()
  const close = () => {
    for (const memory of pools.values()) memory.close()
  }
  const namespaces: ServedNamespace[] = []
  const limits: CommandSetLimits[] = []
  try {
    for (const io of ios) {
      let memory = pools.get(io.pool)
      if (memory === undefined) {
        memory = new ServerMemory(io.pool, memoryBytes, share)
        pools.set(io.pool, memory)
        memory.fill()
      }
      const id = await io.controller.identifyNamespace(io.geometry.nsid)
      const said = await readLimits(io.controller)
      if (said !== null) limits.push(said)
      const file = fileFor?.(io.controller.transport.address) ?? null
      const of = { memory, readOnly, tellsAllocated: await tellsAllocated(io.controller) }
      const place = { nsid: namespaces.length + 1, io, ...of, subnqn, file, shared }
      namespaces.push(new ServedNamespace(place, id, counters))
    }
  } catch (error) {
    close()
    throw error
  }
  const forget: (() => void)[] = []
  return {
    namespaces,
    limits,
    counters,
    get inFlight() {
      return namespaces.reduce((sum, { engine }) => sum + engine.requests, 0)
    },
    get memoryInUse() {
      return [...pools.values()].reduce((sum, { inUse }) => sum + inUse, 0)
    },
    onChange(changed) {
      const look = async (namespace: ServedNamespace) => {
        const other = await namespace.refresh().catch((error: Error) => {
          log('namespace %d: %s', namespace.nsid, error.message)
        })
        if (other === true) changed(namespace.nsid)
      }
      for (const controller of new Set(ios.map((io) => io.controller))) {
        const own = namespaces.filter(({ io }) => io.controller === controller)
        const watcher = {
          onFormat(ended: Promise<unknown>) {
            for (const namespace of own) namespace.reformat(ended, () => look(namespace))
          },
          onChange() {
            for (const namespace of own) void look(namespace)
          },
        }
        forget.push(watchChanges(controller, watcher))
      }
    },
    async finish() {
      // What waited for memory follows what had it.
      while (namespaces.some(({ engine }) => engine.requests > 0)) {
        await Promise.all(namespaces.map(({ engine }) => engine.settled()))
      }
      const status = readOnly ? 0 : await flushAll(namespaces)
      // Hosts are not kept waiting for what may never have an answer.
      for (const memory of pools.values()) memory.stop()
      for (const { engine } of namespaces) engine.endLost()
      if (status !== 0)
        throw nvmeError({ opcode: NVM.FLUSH, qid: 1, nsid: ios[0]!.geometry.nsid }, status << 1)
    },
    close() {
      for (const stop of forget) stop()
      close()
    },
  }
}
