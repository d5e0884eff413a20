// Namespace Management and Attachment, Format NVM, Sanitize and Device Self-test (NVMe 1.4 base, sections 5.20, 5.19, 5.23,
// 5.24 and 5.8). A format is done when its command is; sanitize and self-test go on in the background (background.ts).
// Trade-off: a namespace is one run of the medium, the first that is long enough; a medium in pieces may refuse what
// would fit into all of them together.

import {
  decodeFormat,
  decodeNamespaceSelect,
  decodeSanitize,
  decodeSelfTest,
  FORMAT_ERASE,
  NAMESPACE_ATTACHMENT,
  NAMESPACE_MANAGEMENT,
  SANITIZE_ACTION,
} from '../../../nvme/spec/commands.ts'
import { FEATURE } from '../../../nvme/spec/features.ts'
import { decodeControllerList, decodeIdentifyNamespace, IDENTIFY_BYTES } from '../../../nvme/spec/identify.ts'
import { SELF_TEST, SELF_TEST_RESULT } from '../../../nvme/spec/logs.ts'
import { ALL_NAMESPACES } from '../../../nvme/spec/opcodes.ts'
import { STATUS } from '../../../nvme/spec/status.ts'
import { updateSlowPath } from '../../faults/slow-path.ts'
import { saveState } from '../../media/nonvolatile.ts'
import { abortTest, startSanitize, startTest } from '../background.ts'
import type { Controller } from '../controller.ts'
import { featureValue } from '../features.ts'
import { createNamespace, type Namespace, NO_NAMESPACE } from '../namespaces.ts'
import { fetchData } from '../prp.ts'

export const CONTROLLER_ID = 1
/** By their index; what the medium has is blocks alone: no metadata and no protection information. */
export const LBA_FORMATS = [{ lbads: 9 }, { lbads: 12 }] as const
/** Ids of namespaces that are created are below this, and no more exist at a time. */
export const NAMESPACE_LIMIT = 32
/** Namespaces begin at multiples of this. */
const UNIT_BYTES = 4096

export function manageNamespaces(c: Controller, sqe: Uint32Array, e: number): number {
  const { sel } = decodeNamespaceSelect(sqe[e + 10]!)
  if (sel === NAMESPACE_MANAGEMENT.CREATE) return create(c, sqe, e)
  if (sel === NAMESPACE_MANAGEMENT.DELETE) return remove(c, sqe[e + 1]!)
  return STATUS.INVALID_FIELD
}

function create(c: Controller, sqe: Uint32Array, e: number): number {
  if (sqe[e + 11]! >>> 24 !== 0) return STATUS.IO_COMMAND_SET_NOT_SUPPORTED
  const data = new Uint8Array(IDENTIFY_BYTES)
  const status = fetchData(c, sqe, e, data)
  if (status !== 0) return status
  const { nsze, ncap, flbas, dps } = decodeIdentifyNamespace(data)
  // Nothing can be computed with a size that is no safe integer.
  if (!Number.isSafeInteger(nsze)) return STATUS.NAMESPACE_INSUFFICIENT_CAPACITY
  const format = LBA_FORMATS[flbas & 0xf]
  if (format === undefined || (flbas & 0xf0) !== 0 || dps !== 0) return STATUS.INVALID_FORMAT
  if (nsze === 0 || ncap > nsze) return STATUS.INVALID_FIELD
  if (ncap < nsze) return STATUS.THIN_PROVISIONING_NOT_SUPPORTED
  const nsid = unusedId(c)
  if (nsid === 0) return STATUS.NAMESPACE_IDENTIFIER_UNAVAILABLE
  const blockBytes = 2 ** format.lbads
  const bytes = Math.ceil((nsze * blockBytes) / UNIT_BYTES) * UNIT_BYTES
  const at = unusedRun(c, bytes)
  if (at < 0) return STATUS.NAMESPACE_INSUFFICIENT_CAPACITY
  // What was there before is no one's business any more.
  const zeroed = c.medium.zero(at, bytes)
  if (zeroed !== 0) return zeroed
  c.allocated.set(nsid, createNamespace({ nsid, at, bytes: nsze * blockBytes, blockBytes }, c.medium.near))
  c.result = nsid
  return saveState(c)
}

function unusedId({ allocated }: Controller): number {
  for (let nsid = 1; nsid <= NAMESPACE_LIMIT; nsid++) if (!allocated.has(nsid)) return nsid
  return 0
}

/** First byte of the first run of `bytes` that no namespace has; -1 where there is none. */
function unusedRun({ allocated, medium }: Controller, bytes: number): number {
  let at = 0
  for (const ns of [...allocated.values()].sort((a, b) => a.at - b.at)) {
    if (ns.at - at >= bytes) return at
    at = Math.ceil((ns.at + ns.bytes) / UNIT_BYTES) * UNIT_BYTES
  }
  return medium.bytes - at >= bytes ? at : -1
}

/** Bytes that no namespace has. */
export function unusedBytes({ allocated, medium }: Controller): number {
  return [...allocated.values()].reduce((left, ns) => left - ns.bytes, medium.bytes)
}

function remove(c: Controller, nsid: number): number {
  if (nsid !== ALL_NAMESPACES && !c.allocated.has(nsid)) return STATUS.INVALID_NAMESPACE_OR_FORMAT
  abortTest(c, SELF_TEST_RESULT.ABORTED_BY_NAMESPACE_REMOVAL)
  for (const id of nsid === ALL_NAMESPACES ? [...c.allocated.keys()] : [nsid]) {
    c.allocated.delete(id)
    detach(c, id)
  }
  return saveState(c)
}

export function attachNamespaces(c: Controller, sqe: Uint32Array, e: number): number {
  const nsid = sqe[e + 1]!
  const { sel } = decodeNamespaceSelect(sqe[e + 10]!)
  const ns = c.allocated.get(nsid)
  if (sel > NAMESPACE_ATTACHMENT.DETACH) return STATUS.INVALID_FIELD
  if (ns === undefined) return STATUS.INVALID_NAMESPACE_OR_FORMAT
  const data = new Uint8Array(IDENTIFY_BYTES)
  const status = fetchData(c, sqe, e, data)
  if (status !== 0) return status
  if (!isOwnList(data)) return STATUS.CONTROLLER_LIST_INVALID
  const attached = c.namespaces.has(nsid)
  if (sel === NAMESPACE_ATTACHMENT.ATTACH) {
    if (attached) return STATUS.NAMESPACE_ALREADY_ATTACHED
    c.namespaces.set(nsid, ns)
  } else {
    if (!attached) return STATUS.NAMESPACE_NOT_ATTACHED
    abortTest(c, SELF_TEST_RESULT.ABORTED_BY_NAMESPACE_REMOVAL)
    detach(c, nsid)
  }
  return saveState(c)
}

// There is one controller.
function isOwnList(data: Uint8Array): boolean {
  const ids = decodeControllerList(data)
  return ids.length === 1 && ids[0] === CONTROLLER_ID
}

function detach(c: Controller, nsid: number): void {
  c.namespaces.delete(nsid)
  if (c.lastNamespace.nsid === nsid) c.lastNamespace = NO_NAMESPACE
}

/** Puts a namespace in the place of the one with its id, for instance after a format. */
export function replaceNamespace(c: Controller, ns: Namespace): void {
  c.allocated.set(ns.nsid, ns)
  if (c.namespaces.has(ns.nsid)) c.namespaces.set(ns.nsid, ns)
  if (c.lastNamespace.nsid === ns.nsid) c.lastNamespace = NO_NAMESPACE
}

export function format(c: Controller, sqe: Uint32Array, e: number): number {
  const nsid = sqe[e + 1]!
  const { lbafl, lbafu, mset, pi, pil, ses } = decodeFormat(sqe[e + 10]!)
  const blockBytes = 2 ** (LBA_FORMATS[lbafl]?.lbads ?? 0)
  if (blockBytes === 1 || lbafu !== 0 || mset || pi !== 0 || pil) return STATUS.INVALID_FORMAT
  if (ses > FORMAT_ERASE.CRYPTO) return STATUS.INVALID_FIELD
  const chosen = nsid === ALL_NAMESPACES ? [...c.allocated.values()] : [c.allocated.get(nsid)]
  if (chosen.includes(undefined)) return STATUS.INVALID_NAMESPACE_OR_FORMAT
  abortTest(c, SELF_TEST_RESULT.ABORTED_BY_FORMAT)
  for (const ns of chosen as Namespace[]) {
    const status = c.medium.zero(ns.at, ns.bytes)
    if (status !== 0) return status
    replaceNamespace(
      c,
      createNamespace({ nsid: ns.nsid, at: ns.at, bytes: ns.bytes, blockBytes }, c.medium.near),
    )
  }
  return saveState(c)
}

export function sanitize(c: Controller, sqe: Uint32Array, e: number): number {
  const dword = sqe[e + 10]!
  const { sanact, ndas } = decodeSanitize(dword)
  const { EXIT_FAILURE, CRYPTO_ERASE } = SANITIZE_ACTION
  if (sanact < EXIT_FAILURE || sanact > CRYPTO_ERASE) return STATUS.INVALID_FIELD
  if (c.background.sanitizing !== null) return STATUS.SANITIZE_IN_PROGRESS
  // No sanitize ever fails here.
  if (sanact === EXIT_FAILURE) return 0
  // Blocks are always deallocated: what happens where that is not wanted is the host's choice, by feature 17h.
  if (ndas && featureValue(c.features, FEATURE.SANITIZE_CONFIG) === 0) return STATUS.INVALID_FIELD
  const status = startSanitize(c, dword)
  updateSlowPath(c)
  return status === 0 ? saveState(c) : status
}

export function selfTest(c: Controller, sqe: Uint32Array, e: number): number {
  const nsid = sqe[e + 1]!
  const { stc: code } = decodeSelfTest(sqe[e + 10]!)
  const { test } = c.background
  if (code === SELF_TEST.ABORT) {
    abortTest(c, SELF_TEST_RESULT.ABORTED_BY_COMMAND)
    return 0
  }
  if (code !== SELF_TEST.SHORT && code !== SELF_TEST.EXTENDED) return STATUS.INVALID_FIELD
  if (nsid !== 0 && nsid !== ALL_NAMESPACES && !c.namespaces.has(nsid)) {
    return STATUS.INVALID_NAMESPACE_OR_FORMAT
  }
  if (test !== null) return STATUS.SELF_TEST_IN_PROGRESS
  startTest(c, code, nsid)
  return code === SELF_TEST.EXTENDED ? saveState(c) : 0
}
