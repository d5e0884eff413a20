// The limits of Write Zeroes and Dataset Management, which hold for one command: what is longer is sent in several.

import { NvmeError } from '../../lib/errors.ts'
import { CNS, decodeCommandSetController } from '../../lib/nvme/spec/identify.ts'
import type { Namespace } from '../namespace/namespace.ts'
import type { BlockCapabilities } from './block-server.ts'

const VERSION_2_0 = 0x2_0000

/** What one command may clear, where the controller says so: those before NVMe 2.0 have no such structure. */
export async function limitsOf({ controller, blocksize }: Namespace): Promise<Partial<BlockCapabilities>> {
  if (controller.identity.ver < VERSION_2_0) return {}
  const bytes = await controller.identify(CNS.COMMAND_SET_CONTROLLER).catch((error: unknown) => {
    if (error instanceof NvmeError) return null
    throw error
  })
  return bytes === null ? {} : clearLimits(bytes, controller.cap.mpsmin, blocksize)
}

/** @internal Of CNS 06h, in blocks. */
export function clearLimits(bytes: Buffer, page: number, blocksize: number): Partial<BlockCapabilities> {
  const { wzsl, dmrsl } = decodeCommandSetController(bytes)
  return {
    ...(wzsl > 0 && { zeroesBlocks: Math.max(1, (2 ** wzsl * page) / blocksize) }),
    ...(dmrsl > 0 && { deallocateBlocks: dmrsl }),
  }
}
