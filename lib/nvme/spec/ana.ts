// Asymmetric Namespace Access (NVMe 1.4 base, sections 5.14.1.12 and 8.20): the log page that says by state which namespaces
// a controller gives access to, and what the statuses of a path mean. Keys are nvme-cli's.

import { DecodeError, OutOfRangeError } from '../../errors.ts'
import { type Decoded, structure, u8, u16, u32, u64 } from './codec.ts'
import { STATUS } from './status.ts'

/** States of an ANA group. */
export const ANA_STATE = {
  OPTIMIZED: 1,
  NON_OPTIMIZED: 2,
  INACCESSIBLE: 3,
  PERSISTENT_LOSS: 4,
  CHANGE: 15,
} as const

const NAMES: Readonly<Record<number, AnaStateName>> = {
  [ANA_STATE.OPTIMIZED]: 'optimized',
  [ANA_STATE.NON_OPTIMIZED]: 'non-optimized',
  [ANA_STATE.INACCESSIBLE]: 'inaccessible',
  [ANA_STATE.PERSISTENT_LOSS]: 'persistent-loss',
  [ANA_STATE.CHANGE]: 'change',
}

export type AnaStateName =
  | 'optimized'
  | 'non-optimized'
  | 'inaccessible'
  | 'persistent-loss'
  | 'change'
  | 'invalid state'

/** As nvme-cli names it. */
export function anaStateName(state: number): AnaStateName {
  return NAMES[state] ?? 'invalid state'
}

export const ANA_HEADER_BYTES = 16
export const ANA_GROUP_BYTES = 32
/** Log Specific Field: groups without their namespaces (RGO). */
export const ANA_GROUPS_ONLY = 1

const header = structure('ANA Log Header', ANA_HEADER_BYTES, {
  /** Counts changes of anything in the log. */
  chgcnt: [0, u64],
  ngrps: [8, u16],
})

const groupLayout = {
  grpid: [0, u32],
  /** Namespaces that are listed. */
  nnsids: [4, u32],
  chgcnt: [8, u64],
  /** One of ANA_STATE. */
  state: [16, u8],
} as const

const group = structure('ANA Group Descriptor', ANA_GROUP_BYTES, groupLayout)

export interface AnaGroup extends Decoded<typeof groupLayout> {
  /** Its namespaces, as many as `nnsids` says. */
  nsids: number[]
}

export interface AnaLog {
  chgcnt: bigint
  ngrps: number
  groups: AnaGroup[]
}

/** Bytes that the log of a controller may have. @param namespaces as many as are listed in all groups together */
export function anaLogBytes(nanagrpid: number, namespaces: number): number {
  return ANA_HEADER_BYTES + nanagrpid * ANA_GROUP_BYTES + namespaces * 4
}

/** Throws DecodeError where the groups that the log announces are not all there. */
export function decodeAnaLog(bytes: Uint8Array): AnaLog {
  const { chgcnt, ngrps } = header.decode(bytes)
  const groups: AnaGroup[] = []
  let at = ANA_HEADER_BYTES
  for (let i = 0; i < ngrps; i++) {
    if (at + ANA_GROUP_BYTES > bytes.length) throw cut(bytes, `group ${i + 1} of ${ngrps}`)
    const { state, ...rest } = group.decode(bytes.subarray(at))
    at += ANA_GROUP_BYTES
    if (rest.nnsids > (bytes.length - at) / 4)
      throw cut(bytes, `${rest.nnsids} namespaces of group ${rest.grpid}`)
    const view = new DataView(bytes.buffer, bytes.byteOffset + at, rest.nnsids * 4)
    const nsids = Array.from({ length: rest.nnsids }, (_, n) => view.getUint32(n * 4, true))
    at += rest.nnsids * 4
    // The upper half of the byte is reserved.
    groups.push({ ...rest, state: state & 0xf, nsids })
  }
  return { chgcnt, ngrps, groups }
}

function cut(bytes: Uint8Array, what: string): DecodeError {
  return new DecodeError(`Asymmetric Namespace Access log: ${bytes.length} bytes end before ${what}`)
}

/** Encodes a log: counts are those of its groups and namespaces. Throws OutOfRangeError for what does not fit. */
export function encodeAnaLog({
  chgcnt = 0n,
  groups,
}: {
  readonly chgcnt?: bigint
  readonly groups: readonly {
    readonly grpid: number
    readonly state: number
    readonly chgcnt?: bigint
    readonly nsids?: readonly number[]
  }[]
}): Uint8Array {
  const namespaces = groups.reduce((sum, { nsids = [] }) => sum + nsids.length, 0)
  const bytes = new Uint8Array(anaLogBytes(groups.length, namespaces))
  const view = new DataView(bytes.buffer)
  header.encode({ chgcnt, ngrps: groups.length }, bytes)
  let at = ANA_HEADER_BYTES
  for (const { nsids = [], ...one } of groups) {
    group.encode({ ...one, nnsids: nsids.length }, bytes.subarray(at))
    at += ANA_GROUP_BYTES
    for (const nsid of nsids) {
      if (!(Number.isInteger(nsid) && nsid >= 0 && nsid <= 0xffff_ffff)) {
        throw new OutOfRangeError(`nsid ${nsid}: 32 bits are needed`)
      }
      view.setUint32(at, nsid, true)
      at += 4
    }
  }
  return bytes
}

/** True for a status of type Path Related (3h): the same command may succeed on another path. */
export function isPathStatus(field: number): boolean {
  return (field & 0xe00) === 0x600
}

/**
 * The ANA state that a status tells of, which the command has met and not been executed for; undefined where it tells of
 * none. In state CHANGE the controller leaves it within ANATT.
 * @param field bits 31:16 of a completion's last dword
 */
export function anaStateOf(field: number): number | undefined {
  switch ((field >>> 1) & 0x7ff) {
    case STATUS.ANA_PERSISTENT_LOSS:
      return ANA_STATE.PERSISTENT_LOSS
    case STATUS.ANA_INACCESSIBLE:
      return ANA_STATE.INACCESSIBLE
    case STATUS.ANA_TRANSITION:
      return ANA_STATE.CHANGE
    default:
      return undefined
  }
}
