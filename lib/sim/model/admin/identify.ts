// Identify (NVMe 1.4 base, section 5.15), encoded with lib/nvme's tables.
// Structures are made again for each command; nothing asks often.

import {
  AOCS,
  DEALLOCATED_READS,
  DLFEAT,
  FNA,
  FRMW,
  LPA,
  OACS,
  OAES,
  ONCS,
  SANICAP,
  SGLS,
  VWC,
} from '../../../nvme/spec/flags.ts'
import {
  CNS,
  encodeCommandSetController,
  encodeCommandSetNamespace,
  encodeControllerList,
  encodeIdentifyController,
  encodeIdentifyNamespace,
  encodeNamespaceDescriptors,
  encodeNamespaceList,
  IDENTIFY_BYTES,
  NAMESPACE_ID_TYPE,
  NAMESPACE_LIST_ENTRIES,
} from '../../../nvme/spec/identify.ts'
import { ALL_NAMESPACES, MAX_NSID } from '../../../nvme/spec/opcodes.ts'
import { STATUS } from '../../../nvme/spec/status.ts'
import { type Controller, VERSION } from '../controller.ts'
import { EVENT_REQUESTS } from '../events.ts'
import { CRITICAL_TEMPERATURE, OVER_TEMPERATURE } from '../features.ts'
import { ERROR_ENTRIES } from '../health.ts'
import { namespaceIds, OUI, subsystemName } from '../identity.ts'
import type { Namespace } from '../namespaces.ts'
import { sendData } from '../prp.ts'
import { GRANULARITY, revisionOf, SLOTS } from './firmware.ts'
import { CONTROLLER_ID, LBA_FORMATS, NAMESPACE_LIMIT, unusedBytes } from './namespaces.ts'
import { ABORT_LIMIT } from './queues.ts'

export function identify(c: Controller, sqe: Uint32Array, e: number): number {
  const nsid = sqe[e + 1]!
  const cntid = sqe[e + 10]! >>> 16
  switch (sqe[e + 10]! & 0xff) {
    case CNS.NAMESPACE:
      return sendNamespace(c, sqe, e, nsid === ALL_NAMESPACES ? COMMON : c.namespaces.get(nsid))
    case CNS.ALLOCATED_NAMESPACE:
      return sendNamespace(c, sqe, e, c.allocated.get(nsid))
    case CNS.CONTROLLER:
      return sendData(c, sqe, e, encodeController(c))
    case CNS.ACTIVE_NAMESPACES:
      return sendList(c, sqe, e, c.namespaces)
    case CNS.ALLOCATED_NAMESPACES:
      return sendList(c, sqe, e, c.allocated)
    case CNS.NAMESPACE_DESCRIPTORS: {
      if (!c.namespaces.has(nsid)) return STATUS.INVALID_NAMESPACE_OR_FORMAT
      return sendData(c, sqe, e, encodeDescriptors(c, nsid))
    }
    case CNS.COMMAND_SET_NAMESPACE:
    case CNS.COMMAND_SET_CONTROLLER:
      return sendCommandSet(c, sqe, e)
    case CNS.CONTROLLERS:
      return sendControllers(c, sqe, e, cntid <= CONTROLLER_ID)
    case CNS.ATTACHED_CONTROLLERS:
      if (!c.allocated.has(nsid)) return STATUS.INVALID_NAMESPACE_OR_FORMAT
      return sendControllers(c, sqe, e, cntid <= CONTROLLER_ID && c.namespaces.has(nsid))
    default:
      return STATUS.INVALID_FIELD
  }
}

const NOTHING = new Uint8Array(IDENTIFY_BYTES)
/** Instead of a namespace: what all of them have in common. */
const COMMON = Symbol('common capabilities')

function sendNamespace(
  c: Controller,
  sqe: Uint32Array,
  e: number,
  ns: Namespace | typeof COMMON | undefined,
): number {
  const nsid = sqe[e + 1]!
  if (ns === COMMON) {
    // A backing's have no formats to choose from, and so nothing in common.
    return sendData(c, sqe, e, c.backed === null ? encodeIdentifyNamespace(CAPABILITIES) : NOTHING)
  }
  if (nsid === 0 || nsid > lastNsid(c)) return STATUS.INVALID_NAMESPACE_OR_FORMAT
  // An inactive namespace has a structure of zeroes.
  return sendData(c, sqe, e, ns === undefined ? NOTHING : encodeNamespace(c, ns))
}

function sendList(
  c: Controller,
  sqe: Uint32Array,
  e: number,
  namespaces: ReadonlyMap<number, Namespace>,
): number {
  const nsid = sqe[e + 1]!
  if (nsid >= MAX_NSID) return STATUS.INVALID_NAMESPACE_OR_FORMAT
  const above = [...namespaces.keys()].filter((id) => id > nsid)
  const sorted = above.sort((a, b) => a - b).slice(0, NAMESPACE_LIST_ENTRIES)
  return sendData(c, sqe, e, encodeNamespaceList(sorted))
}

/**
 * What NVM command sets after 1.4 have added, of which this controller has one part: it tells which blocks are allocated.
 * It claims no version of them.
 */
function sendCommandSet(c: Controller, sqe: Uint32Array, e: number): number {
  if (!c.config.lbaStatus || sqe[e + 11]! >>> 24 !== 0) return STATUS.INVALID_FIELD
  if ((sqe[e + 10]! & 0xff) === CNS.COMMAND_SET_CONTROLLER) {
    return sendData(c, sqe, e, encodeCommandSetController({ aocs: AOCS.ALLOCATED_LBAS }))
  }
  const ns = c.namespaces.get(sqe[e + 1]!)
  if (ns === undefined) return STATUS.INVALID_NAMESPACE_OR_FORMAT
  // Not where granules of the medium begin between those of the namespace.
  const { granule } = c.medium
  const tlbaag = ns.at % granule === 0 ? Math.max(1, granule / ns.blockBytes) : 0
  return sendData(c, sqe, e, encodeCommandSetNamespace({ tlbaag }))
}

function sendControllers(c: Controller, sqe: Uint32Array, e: number, own: boolean): number {
  return sendData(c, sqe, e, encodeControllerList(own ? [CONTROLLER_ID] : []))
}

/** The largest id that a namespace has or can get. */
function lastNsid({ allocated, config, backed }: Controller): number {
  if (backed !== null) return Math.max(...allocated.keys())
  return Math.max(NAMESPACE_LIMIT, ...config.nsids, ...allocated.keys())
}

function encodeController(c: Controller): Uint8Array {
  const { config, backed } = c
  if (backed !== null) {
    return encodeIdentifyController({
      ...{ ...backed.backing.identity, cntlid: CONTROLLER_ID, ver: VERSION, cntrltype: 1 },
      oncs: (backed.backing.identity.oncs ?? 0) | ONCS.TIMESTAMP,
      ...{
        mdts: config.mdts,
        oaes: OAES.NAMESPACE_ATTRIBUTE,
        acl: ABORT_LIMIT - 1,
        aerl: EVENT_REQUESTS - 1,
      },
      ...{ oacs: config.shadow ? OACS.DOORBELL_BUFFER : 0, lpa: LPA.COMMAND_EFFECTS | LPA.EXTENDED_DATA },
      ...{ elpe: ERROR_ENTRIES - 1, frmw: FRMW.SLOT_1_READ_ONLY | (1 << 1), sqes: 0x66, cqes: 0x44 },
      ...{ nn: lastNsid(c), mnan: lastNsid(c) },
    })
  }
  return encodeIdentifyController({
    sn: c.serial,
    mn: config.model,
    fr: revisionOf(c.firmware),
    rab: 4,
    ieee: OUI,
    mdts: config.mdts,
    cntlid: CONTROLLER_ID,
    ver: VERSION,
    oaes: OAES.NAMESPACE_ATTRIBUTE,
    cntrltype: 1,
    oacs:
      OACS.FORMAT |
      OACS.FIRMWARE |
      OACS.NAMESPACE_MANAGEMENT |
      OACS.SELF_TEST |
      (config.shadow ? OACS.DOORBELL_BUFFER : 0) |
      (config.lbaStatus ? OACS.GET_LBA_STATUS : 0),
    acl: ABORT_LIMIT - 1,
    aerl: EVENT_REQUESTS - 1,
    frmw: FRMW.SLOT_1_READ_ONLY | (SLOTS << 1) | FRMW.NO_RESET,
    lpa: LPA.COMMAND_EFFECTS | LPA.EXTENDED_DATA | LPA.TELEMETRY,
    elpe: ERROR_ENTRIES - 1,
    wctemp: OVER_TEMPERATURE,
    cctemp: CRITICAL_TEMPERATURE,
    tnvmcap: BigInt(c.medium.bytes),
    unvmcap: BigInt(unusedBytes(c)),
    // Minutes, and at least one.
    edstt: Math.max(1, Math.ceil((2 * config.operation) / 60_000)),
    dsto: 1,
    fwug: GRANULARITY / 4096,
    sanicap: SANICAP.CRYPTO_ERASE | SANICAP.BLOCK_ERASE | SANICAP.OVERWRITE | SANICAP.NO_DEALLOCATE_INHIBITED,
    sqes: 0x66,
    cqes: 0x44,
    nn: lastNsid(c),
    mnan: Math.max(NAMESPACE_LIMIT, config.nsids.length),
    oncs:
      ONCS.COMPARE |
      ONCS.WRITE_UNCORRECTABLE |
      ONCS.DATASET_MANAGEMENT |
      ONCS.WRITE_ZEROES |
      ONCS.SAVE_FEATURES |
      ONCS.TIMESTAMP |
      ONCS.VERIFY,
    fna: FNA.CRYPTO_ERASE,
    vwc: VWC.PRESENT | VWC.FLUSH,
    // Commands are executed one after the other, each as a whole.
    awun: 0xffff,
    ...(config.sgl && { sgls: SGLS_ANY_ALIGNMENT | SGLS.LONGER_THAN_DATA }),
    subnqn: subsystemName(config),
    psds: [{ mp: 1000 }],
  })
}

function encodeNamespace(c: Controller, ns: Namespace): Uint8Array {
  if (c.backed !== null) return c.backed.backing.identifyNamespace(ns.nsid)
  return encodeIdentifyNamespace({
    nsze: ns.blocks,
    ncap: ns.blocks,
    nuse: ns.blocks,
    ...CAPABILITIES,
    flbas: LBA_FORMATS.findIndex(({ lbads }) => 2 ** lbads === ns.blockBytes),
    nvmcap: BigInt(ns.blocks) * BigInt(ns.blockBytes),
    ...namespaceIds(c.config, ns.nsid),
  })
}

const SGLS_ANY_ALIGNMENT = 1

const CAPABILITIES = {
  nlbaf: LBA_FORMATS.length - 1,
  dlfeat: DEALLOCATED_READS.ZEROES | DLFEAT.WRITE_ZEROES_DEALLOCATE,
  lbafs: LBA_FORMATS,
}

function encodeDescriptors(c: Controller, nsid: number): Uint8Array {
  if (c.backed !== null) return c.backed.backing.describeNamespace(nsid)
  const { nguid, eui64 } = namespaceIds(c.config, nsid)
  return encodeNamespaceDescriptors([
    { nidt: NAMESPACE_ID_TYPE.NGUID, nid: nguid },
    { nidt: NAMESPACE_ID_TYPE.EUI64, nid: eui64 },
  ])
}
