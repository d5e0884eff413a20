// Opening a software controller by its address.

import { ArgumentTypeError } from '../errors.ts'
import { parseSimAddress, type SimConfig } from './address.ts'
import { checkFault, type FaultRule } from './faults/syntax.ts'
import type { SimFunction } from './function.ts'
import { openInline } from './hosts/inline.ts'
import { openThread } from './hosts/thread.ts'

export interface SimOptions {
  /** Fault rules, behind those of the address. */
  readonly faults?: readonly FaultRule[]
  /** True: on a thread of its own, also where the address does not say `thread=1`. */
  readonly thread?: boolean
}

/**
 * Opens the controller of an address such as `sim:`, `sim:disk.img?lba=4096` or `sim:?size=8M&thread=1`.
 * Throws AddressError, ArgumentTypeError, OutOfRangeError, ImageError (missing, too short), InUseError (another controller has the image) or
 * OutOfMemoryError.
 */
export async function openSim(address: string, options: SimOptions = {}): Promise<SimFunction> {
  const parsed = parseSimAddress(address)
  const { faults = [] } = options
  if (!Array.isArray(faults))
    throw new ArgumentTypeError(`faults must be an array, received ${typeof faults}`)
  const config: SimConfig = { ...parsed, faults: [...parsed.faults, ...faults.map(checkFault)] }
  return config.thread || options.thread ? openThread(config) : openInline(config)
}
