// Identify (NVMe 1.4 base, section 5.15), encoded with lib/nvme's tables.
// Trade-off: structures are made anew for each command; nothing asks often.

import {
  CNS,
  DLFEAT,
  encodeControllerList,
  encodeIdentifyController,
  encodeIdentifyNamespace,
  encodeNamespaceDescriptors,
  encodeNamespaceList,
  FRMW,
  IDENTIFY_BYTES,
  LPA,
  NAMESPACE_ID_TYPE,
  NAMESPACE_LIST_ENTRIES,
  OACS,
  OAES,
  ONCS,
  VWC,
} from '../../nvme/identify/index.ts'
import { STATUS } from '../../nvme/status.ts'
import { type Controller, VERSION } from '../controller.ts'
import { EVENT_REQUESTS } from '../events.ts'
import { CRITICAL_TEMPERATURE, OVER_TEMPERATURE } from '../features.ts'
import { ERROR_ENTRIES } from '../health.ts'
import { namespaceIds, OUI, subsystemName } from '../identity.ts'
import type { Namespace } from '../namespaces.ts'
import { sendData } from '../transfer.ts'
import { ABORT_LIMIT } from './abort.ts'
import { FIRMWARE } from './logs.ts'

const LAST_NSID = 0xffff_fffd
const CONTROLLER_ID = 1

export function identify(c: Controller, sqe: Uint32Array, e: number): number {
  const nsid = sqe[e + 1]!
  const cntid = sqe[e + 10]! >>> 16
  switch (sqe[e + 10]! & 0xff) {
    case CNS.NAMESPACE: {
      if (nsid === 0 || nsid > lastNsid(c)) return STATUS.INVALID_NAMESPACE_OR_FORMAT
      const ns = c.namespaces.get(nsid)
      // An inactive namespace has a structure of zeroes.
      return sendData(c, sqe, e, ns === undefined ? new Uint8Array(IDENTIFY_BYTES) : encodeNamespace(c, ns))
    }
    case CNS.CONTROLLER:
      return sendData(c, sqe, e, encodeController(c))
    case CNS.ACTIVE_NAMESPACES: {
      if (nsid > LAST_NSID) return STATUS.INVALID_NAMESPACE_OR_FORMAT
      const above = [...c.namespaces.keys()].filter((id) => id > nsid)
      const sorted = above.sort((a, b) => a - b).slice(0, NAMESPACE_LIST_ENTRIES)
      return sendData(c, sqe, e, encodeNamespaceList(sorted))
    }
    case CNS.NAMESPACE_DESCRIPTORS: {
      if (!c.namespaces.has(nsid)) return STATUS.INVALID_NAMESPACE_OR_FORMAT
      return sendData(c, sqe, e, encodeDescriptors(c, nsid))
    }
    case CNS.CONTROLLERS:
      return sendData(c, sqe, e, encodeControllerList(cntid <= CONTROLLER_ID ? [CONTROLLER_ID] : []))
    default:
      return STATUS.INVALID_FIELD
  }
}

function lastNsid(c: Controller): number {
  return Math.max(...c.namespaces.keys())
}

function encodeController(c: Controller): Uint8Array {
  const { config } = c
  return encodeIdentifyController({
    sn: config.serial,
    mn: config.model,
    fr: FIRMWARE,
    rab: 4,
    ieee: OUI,
    mdts: config.mdts,
    cntlid: CONTROLLER_ID,
    ver: VERSION,
    oaes: OAES.NAMESPACE_ATTRIBUTE,
    cntrltype: 1,
    oacs: config.shadow ? OACS.DOORBELL_BUFFER : 0,
    acl: ABORT_LIMIT - 1,
    aerl: EVENT_REQUESTS - 1,
    // One slot of firmware.
    frmw: FRMW.SLOT_1_READ_ONLY | (1 << 1),
    lpa: LPA.COMMAND_EFFECTS | LPA.EXTENDED_DATA,
    elpe: ERROR_ENTRIES - 1,
    wctemp: OVER_TEMPERATURE,
    cctemp: CRITICAL_TEMPERATURE,
    tnvmcap: BigInt(c.medium.bytes),
    sqes: 0x66,
    cqes: 0x44,
    nn: lastNsid(c),
    mnan: c.namespaces.size,
    oncs:
      ONCS.COMPARE |
      ONCS.WRITE_UNCORRECTABLE |
      ONCS.DATASET_MANAGEMENT |
      ONCS.WRITE_ZEROES |
      ONCS.SAVE_FEATURES |
      ONCS.TIMESTAMP |
      ONCS.VERIFY,
    vwc: VWC.PRESENT | VWC.FLUSH,
    // Commands are executed one after the other, each as a whole.
    awun: 0xffff,
    subnqn: subsystemName(config),
    psds: [{ mp: 1000 }],
  })
}

function encodeNamespace(c: Controller, ns: Namespace): Uint8Array {
  return encodeIdentifyNamespace({
    nsze: ns.blocks,
    ncap: ns.blocks,
    nuse: ns.blocks,
    nlbaf: LBA_FORMATS.length - 1,
    flbas: LBA_FORMATS.findIndex(({ lbads }) => 2 ** lbads === ns.blockBytes),
    dlfeat: 1 | DLFEAT.WRITE_ZEROES_DEALLOCATE,
    nvmcap: BigInt(ns.blocks) * BigInt(ns.blockBytes),
    ...namespaceIds(c.config, ns.nsid),
    lbafs: LBA_FORMATS,
  })
}

const LBA_FORMATS = [{ lbads: 9 }, { lbads: 12 }] as const

function encodeDescriptors(c: Controller, nsid: number): Uint8Array {
  const { nguid, eui64 } = namespaceIds(c.config, nsid)
  return encodeNamespaceDescriptors([
    { nidt: NAMESPACE_ID_TYPE.NGUID, nid: nguid },
    { nidt: NAMESPACE_ID_TYPE.EUI64, nid: eui64 },
  ])
}
