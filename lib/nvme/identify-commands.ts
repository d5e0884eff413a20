// Identify as calls, for whoever can send admin commands.
// Trade-off: functions over that one ability, so that a thread which only passes commands on has them, too.

import { checkOptionNames, type OptionNames } from '../options.ts'
import type { AdminCommand, AdminOptions, AdminResult } from './admin-queue.ts'
import {
  CNS,
  decodeIdentifyNamespace,
  decodeNamespaceList,
  type IdentifyNamespace,
} from './identify/index.ts'
import { ADMIN } from './opcodes.ts'

export interface SendsAdmin {
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
  return { admin: (command) => to.admin(command, { signal }) }
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

/** Ids of all active namespaces, in order. */
export async function activeNamespaces(to: SendsAdmin): Promise<number[]> {
  const all: number[] = []
  for (;;) {
    const after = all.at(-1) ?? 0
    const ids = decodeNamespaceList(await identify(to, CNS.ACTIVE_NAMESPACES, { nsid: after }))
    all.push(...ids)
    if (ids.length < 1024) return all
  }
}
