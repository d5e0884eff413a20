// Identify as calls, for whoever can send admin commands.

import { DecodeError, NvmeError } from '../../errors.ts'
import { checkOptionNames, type OptionNames } from '../../sys/options.ts'
import {
  CNS,
  decodeIdentifyController,
  decodeIdentifyNamespace,
  decodeNamespaceList,
  type IdentifyNamespace,
  NAMESPACE_LIST_ENTRIES,
} from '../spec/identify.ts'
import { ADMIN, MAX_NSID } from '../spec/opcodes.ts'
import { STATUS } from '../spec/status.ts'
import type { AdminCommand, AdminOptions, AdminResult } from './admin-queue.ts'

export interface SendsAdmin {
  /** The controller's, as `1.4.0`, where it is known. */
  readonly version?: string
  admin(command: AdminCommand, options?: AdminOptions): Promise<AdminResult>
}

/** Fields of Identify beside CNS, default 0. */
export interface IdentifyOptions {
  nsid?: number | undefined
  cdw10?: number | undefined
  cdw11?: number | undefined
}

const IDENTIFY_NAMES: OptionNames<IdentifyOptions> = { nsid: true, cdw10: true, cdw11: true }

/** The same ability, with a signal for every command. */
export function withSignal(to: SendsAdmin, signal: AbortSignal | undefined): SendsAdmin {
  const { version } = to
  return { ...(version !== undefined && { version }), admin: (command) => to.admin(command, { signal }) }
}

/** Identify with any CNS (NVMe 1.4 base, section 5.15): 4096 bytes. */
export async function identify(to: SendsAdmin, cns: number, options: IdentifyOptions = {}): Promise<Buffer> {
  checkOptionNames('identify', options, IDENTIFY_NAMES)
  const { nsid = 0, cdw10 = 0, cdw11 = 0 } = options
  const data = Buffer.alloc(4096)
  await to.admin({ opcode: ADMIN.IDENTIFY, nsid, data, cdw10: (cns | cdw10) >>> 0, cdw11 })
  return data
}

export async function identifyNamespace(to: SendsAdmin, nsid: number): Promise<IdentifyNamespace> {
  return decodeIdentifyNamespace(await identify(to, CNS.NAMESPACE, { nsid }))
}

/** The largest id that a list may begin after: those above have a meaning of their own. */
const LAST_BEGIN = MAX_NSID - 1
/** More namespaces than any device has: a controller whose lists never end is found out here. */
const MOST_NAMESPACES = 2 ** 20
/** Most ids that are asked for one by one, of a controller that gives no list. */
const MOST_COUNTED = 1024

/**
 * Ids of all active namespaces, ascending. A controller without such a list (NVMe 1.0, or one that refuses it) is
 * asked for each id up to its number of namespaces, and at most for 1024. Ids that do not ascend end the asking.
 * Rejects with DecodeError where there is no end.
 */
export async function activeNamespaces(to: SendsAdmin): Promise<number[]> {
  if (to.version?.startsWith('1.0.')) return countNamespaces(to)
  const all: number[] = []
  for (let after = 0; after <= LAST_BEGIN; after = all.at(-1)!) {
    const bytes = await identify(to, CNS.ACTIVE_NAMESPACES, { nsid: after }).catch((error: unknown) => {
      if (after === 0 && isRefused(error)) return undefined
      throw error
    })
    if (bytes === undefined) return countNamespaces(to)
    const ids = decodeNamespaceList(bytes)
    const more = [...new Set(ids)].filter((id) => id > after && id <= LAST_BEGIN + 1).sort((a, b) => a - b)
    all.push(...more)
    // A full list may have others behind it; one without a new id is the list from before.
    if (ids.length < NAMESPACE_LIST_ENTRIES || more.length === 0) break
    if (all.length > MOST_NAMESPACES) {
      throw new DecodeError(`Namespace List: no end after ${all.length} identifiers`)
    }
  }
  return all
}

/** Ids from 1 to the number of namespaces (NN) whose Identify Namespace is not empty. */
async function countNamespaces(to: SendsAdmin): Promise<number[]> {
  const { nn } = decodeIdentifyController(await identify(to, CNS.CONTROLLER))
  const active: number[] = []
  for (let nsid = 1; nsid <= Math.min(nn, MOST_COUNTED); nsid++) {
    try {
      const bytes = await identify(to, CNS.NAMESPACE, { nsid })
      if (bytes.some((byte) => byte !== 0)) active.push(nsid)
    } catch (error) {
      if (!isRefused(error)) throw error
    }
  }
  return active
}

const REFUSALS: readonly number[] = [
  STATUS.INVALID_OPCODE,
  STATUS.INVALID_FIELD,
  STATUS.INVALID_NAMESPACE_OR_FORMAT,
]

/** Whether a controller answered that it does not have what was asked for. */
function isRefused(error: unknown): boolean {
  return error instanceof NvmeError && REFUSALS.includes((error.sct << 8) | error.sc)
}
