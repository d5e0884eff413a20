// Get LBA Status as a call, and what a device knows of holes: blocks that are deallocated and read as zeroes.
// What it does not say, or says in a way that can't be right, is data: nothing is ever lost by a list.

import {
  CommandTimeoutError,
  ControllerResetError,
  DecodeError,
  NvmeError,
  SetupError,
  UnsupportedError,
} from '../../errors.ts'
import { checkOptionNames, type OptionNames } from '../../sys/options.ts'
import { AOCS, DEALLOCATED_READS, DLFEAT, OACS } from '../spec/flags.ts'
import { CNS, decodeCommandSetController, type IdentifyController } from '../spec/identify.ts'
import {
  decodeLbaStatusList,
  encodeGetLbaStatus,
  LBA_STATUS_ACTION,
  LBA_STATUS_END,
  LBA_STATUS_MOST_BLOCKS,
  type LbaStatusList,
} from '../spec/lba-status.ts'
import { ADMIN } from '../spec/opcodes.ts'
import type { AdminOptions } from './admin-queue.ts'
import { identify, identifyNamespace, type SendsAdmin } from './identify-commands.ts'

// 255 descriptors.
const LIST_BYTES = 4096

export interface LbaStatusOptions extends AdminOptions {
  /** First LBA, default 0. */
  slba?: number | undefined
  /** Blocks, at most 65535; 0, the default: up to the end of the namespace. */
  nlb?: number | undefined
  /** One of LBA_STATUS_ACTION, default ALLOCATED (NVM command set 1.1). */
  action?: number | undefined
  /** Bytes of the list, a multiple of 4: 8, and 16 for each descriptor. Default: 4096. */
  bytes?: number | undefined
  /** Milliseconds that it may take: a scan (SCAN) may take long. Default: as for other admin commands. */
  timeout?: number | undefined
}

const LBA_STATUS_NAMES: OptionNames<LbaStatusOptions> = {
  slba: true,
  nlb: true,
  action: true,
  bytes: true,
  timeout: true,
  signal: true,
}

/**
 * Get LBA Status (NVM command set 1.2, section 4.2.1): the list as it came. What is behind its last descriptor is known only
 * where `cmpc` is LBA_STATUS_END.COMPLETE; otherwise ask again from there.
 * Rejects with NvmeError: Invalid Opcode or Invalid Field where the controller does not have the command, or the action.
 */
export async function getLbaStatus(
  sender: SendsAdmin,
  nsid: number,
  options: LbaStatusOptions = {},
): Promise<LbaStatusList> {
  return decodeLbaStatusList(await readLbaStatus(sender, nsid, options))
}

/** The same, undecoded: all of the list's bytes. */
export async function readLbaStatus(
  sender: SendsAdmin,
  nsid: number,
  options: LbaStatusOptions = {},
): Promise<Buffer> {
  checkOptionNames('getLbaStatus', options, LBA_STATUS_NAMES)
  const { slba = 0, nlb: rl = 0, action: atype = LBA_STATUS_ACTION.ALLOCATED, bytes = LIST_BYTES } = options
  const { timeout, signal } = options
  const dwords = encodeGetLbaStatus({ slba, rl, atype, bytes })
  const data = Buffer.alloc(bytes)
  const command = { opcode: ADMIN.GET_LBA_STATUS, nsid, data, ...dwords }
  await sender.admin({ ...command, ...(timeout !== undefined && { timeout }) }, { signal })
  return data
}

/** What tells of a controller beside its answers. */
export interface KnownSender extends SendsAdmin {
  readonly identity: Pick<IdentifyController, 'oacs'>
}

/**
 * Whether the controller tells which blocks are allocated: its Identify Controller has Get LBA Status, and the one of the
 * NVM command set (CNS 06h, AOCS) action type 02h. Two looks, and no command, at devices without the first.
 */
export async function tellsAllocated(sender: KnownSender): Promise<boolean> {
  if ((sender.identity.oacs & OACS.GET_LBA_STATUS) === 0) return false
  try {
    const { aocs } = decodeCommandSetController(await identify(sender, CNS.COMMAND_SET_CONTROLLER))
    return (aocs & AOCS.ALLOCATED_LBAS) !== 0
  } catch (error) {
    // Of 1.4 and before: there is no such structure.
    if (isRefused(error)) return false
    throw error
  }
}

/** Whether `blockExtents` tells holes of a namespace: the above, and deallocated blocks read as zeroes (DLFEAT). */
export async function tellsHoles(sender: KnownSender, nsid: number): Promise<boolean> {
  if (!(await tellsAllocated(sender))) return false
  const { dlfeat } = await identifyNamespace(sender, nsid)
  return (dlfeat & DLFEAT.READ) === DEALLOCATED_READS.ZEROES
}

/** Blocks, from where those before them end: data, or deallocated. */
export interface BlockExtent {
  readonly nlb: number
  readonly data: boolean
}

/**
 * What a controller of which `tellsHoles` is true knows of `nlb` blocks from `slba` on, in order and without a gap. It asks
 * as it goes, for some 255 extents at a time. Rejects with what takes the controller away; a failure of the command alone
 * makes data of the rest.
 */
export async function* blockExtents(
  sender: SendsAdmin,
  nsid: number,
  slba: number,
  nlb: number,
): AsyncGenerator<BlockExtent, void, undefined> {
  const end = slba + nlb
  let at = slba
  while (at < end) {
    const list = await ask(sender, nsid, at, end - at)
    if (list === undefined) break
    const from = at
    for (const { dslba, nlb: count } of list.descriptors) {
      const start = Math.min(Math.max(at, dslba), end)
      const stop = Math.min(Math.max(at, dslba + count), end)
      if (start > at) yield { nlb: start - at, data: false }
      if (stop > start) yield { nlb: stop - start, data: true }
      at = stop
    }
    if (at === end) return
    const isWhole = list.descriptors.length === list.nlsd
    if (list.cmpc === LBA_STATUS_END.COMPLETE && isWhole) {
      yield { nlb: end - at, data: false }
      return
    }
    // It goes no further, and says that there is more.
    if (at === from) break
  }
  if (at < end) yield { nlb: end - at, data: true }
}

/** One list in order; undefined where there is none that can be relied on. */
async function ask(
  sender: SendsAdmin,
  nsid: number,
  slba: number,
  nlb: number,
): Promise<LbaStatusList | undefined> {
  try {
    const list = await getLbaStatus(sender, nsid, { slba, nlb: nlb > LBA_STATUS_MOST_BLOCKS ? 0 : nlb })
    const { descriptors } = list
    return descriptors.every(({ dslba }, i) => i === 0 || dslba >= descriptors[i - 1]!.dslba)
      ? list
      : undefined
  } catch (error) {
    const isOdd = error instanceof DecodeError || error instanceof CommandTimeoutError
    if (isRefused(error) || isOdd || error instanceof ControllerResetError) return undefined
    throw error
  }
}

/** By the controller, or by a kernel that lets only some users, or no one, send it. */
function isRefused(error: unknown): boolean {
  return error instanceof NvmeError || error instanceof SetupError || error instanceof UnsupportedError
}
