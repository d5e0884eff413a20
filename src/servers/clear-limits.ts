// The limits of Write Zeroes, Dataset Management and their like, which hold for one command: what is longer is sent in
// several, by this driver or by the hosts of a server.

import { NvmeError } from '../../lib/errors.ts'
import { CNS, decodeCommandSetController } from '../../lib/nvme/spec/identify.ts'
import { PAGE_BYTES } from '../../lib/sys/units.ts'
import type { NamespaceController } from '../controller/device.ts'
import type { BlockCapabilities } from './block-server.ts'

const VERSION_2_0 = 0x2_0000

/** Limits of CNS 06h: sizes are powers of two, in pages of 4 KiB; 0 is none. */
export type CommandSetLimits = Omit<ReturnType<typeof decodeCommandSetController>, 'aocs'>
type LimitedController = Pick<NamespaceController, 'identity' | 'identify' | 'cap'>

/** What a controller says; null where it says nothing: those before NVMe 2.0 have no such structure. */
export async function readLimits(controller: LimitedController): Promise<CommandSetLimits | null> {
  if (controller.identity.ver < VERSION_2_0) return null
  const bytes = await controller.identify(CNS.COMMAND_SET_CONTROLLER).catch((error: unknown) => {
    if (error instanceof NvmeError) return null
    throw error
  })
  if (bytes === null) return null
  const limits = decodeCommandSetController(bytes)
  const more = Math.log2(controller.cap.mpsmin / PAGE_BYTES)
  const scaled = (power: number) => (power === 0 ? 0 : power + more)
  return { ...limits, vsl: scaled(limits.vsl), wzsl: scaled(limits.wzsl), wusl: scaled(limits.wusl) }
}

/** What one command may clear. */
export async function limitsOf(namespace: {
  readonly controller: LimitedController
  readonly blocksize: number
}): Promise<Partial<BlockCapabilities>> {
  const limits = await readLimits(namespace.controller)
  return limits === null ? {} : clearLimits(limits, namespace.blocksize)
}

/** @internal In blocks. */
export function clearLimits(
  { wzsl, dmrsl }: Pick<CommandSetLimits, 'wzsl' | 'dmrsl'>,
  blocksize: number,
): Partial<BlockCapabilities> {
  return {
    ...(wzsl > 0 && { zeroesBlocks: Math.max(1, (2 ** wzsl * PAGE_BYTES) / blocksize) }),
    ...(dmrsl > 0 && { deallocateBlocks: dmrsl }),
  }
}

/** What all of several devices take. */
export function leastLimits(all: readonly CommandSetLimits[]): CommandSetLimits {
  const least = (field: keyof CommandSetLimits) => {
    const values = all.map((limits) => limits[field]).filter((value) => value > 0)
    return values.length === 0 ? 0 : Math.min(...values)
  }
  return {
    vsl: least('vsl'),
    wzsl: least('wzsl'),
    wusl: least('wusl'),
    dmrl: least('dmrl'),
    dmrsl: least('dmrsl'),
  }
}
