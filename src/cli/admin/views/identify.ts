// `id-ctrl`, `id-ns`, `cmdset-ind-id-ns`, `list-ns`, `list-ctrl` and `ns-descs`: what Identify answers, by nvme-cli's names.
// Fields that count only where a flag says so are left out where it does not, as nvme-cli does.

import { NSFEAT } from '../../../../lib/nvme/spec/flags.ts'
import {
  controllerLayout,
  decodeControllerList,
  decodeIdentifyController,
  decodeIdentifyNamespace,
  decodeIndependentNamespace,
  decodeNamespaceDescriptors,
  decodeNamespaceList,
  formatIndex,
  formatUuid,
  independentLayout,
  type LbaFormat,
  NAMESPACE_ID_TYPE,
  type NamespaceDescriptor,
  namespaceLayout,
  type PowerState,
} from '../../../../lib/nvme/spec/identify.ts'
import { decodeLbaStatusList, LBA_STATUS_END } from '../../../../lib/nvme/spec/lba-status.ts'
import { fields } from '../../output.ts'
import type { Shown } from '../show.ts'
import { dumpText, dwordText, hexText, plain, rowLines, structureRows } from '../text.ts'

export function viewController(bytes: Uint8Array, { vendor = false } = {}): Shown {
  const { psds, vs, dctype: _, ...id } = decodeIdentifyController(bytes)
  // Names keep the spaces that they are filled with.
  const names = {
    sn: id.sn.padEnd(20),
    mn: id.mn.padEnd(40),
    fr: id.fr.padEnd(8),
    fguid: formatUuid(id.fguid),
  }
  const json = { ...plain(id), ...names }
  return {
    text: (human) =>
      [
        rowLines(
          structureRows(controllerLayout, { ...json, ieee: id.ieee.toString(16).padStart(6, '0') }),
          human,
        ),
        ...psds.map(powerStateText),
        ...(vendor ? ['vs[]:', dumpText(vs)] : []),
      ].join('\n'),
    json: () => ({ ...json, psds: psds.map(powerStateJson) }),
  }
}

function powerStateText(state: PowerState, n: number): string {
  const { mp, mxps, nops, enlat, exlat, rrt, rrl, rwt, rwl, idlp, ips, actp, aps, apw } = state
  const power = mxps ? `${(mp * 0.0001).toFixed(4)}W` : `${(mp * 0.01).toFixed(2)}W`
  const operational = nops ? 'non-operational' : 'operational'
  const indent = ' '.repeat(12)
  return [
    `ps ${String(n).padStart(6)} : mp:${power} ${operational} enlat:${enlat} exlat:${exlat} rrt:${rrt} rrl:${rrl}`,
    `${indent}rwt:${rwt} rwl:${rwl} idle_power:${scaledPower(idlp, ips)} active_power:${scaledPower(actp, aps)}`,
    `${indent}active_power_workload:${aps === 0 ? '-' : apw}`,
  ].join('\n')
}

function scaledPower(value: number, scale: number): string {
  if (scale === 1) return `${(value * 0.0001).toFixed(4)}W`
  return scale === 2 ? `${(value * 0.01).toFixed(2)}W` : '-'
}

function powerStateJson(state: PowerState) {
  return {
    max_power: state.mp,
    flags: (state.mxps ? 1 : 0) | (state.nops ? 2 : 0),
    entry_lat: state.enlat,
    exit_lat: state.exlat,
    read_tput: state.rrt,
    read_lat: state.rrl,
    write_tput: state.rwt,
    write_lat: state.rwl,
    idle_power: state.idlp,
    idle_scale: state.ips,
    active_power: state.actp,
    active_power_work: state.apw,
    active_scale: state.aps,
  }
}

export function viewNamespace(bytes: Uint8Array, { vendor = false } = {}): Shown {
  const { lbafs, vs, ...id } = decodeIdentifyNamespace(bytes)
  const { npwg: _, npwa: _1, npdg: _2, npda: _3, nows: _4, ...others } = id
  const known = { ...((id.nsfeat & NSFEAT.OPTIMAL_IO) !== 0 ? id : others), ...exactSizes(bytes) }
  const inUse = lbafs.every(({ lbads }) => lbads === 0) ? -1 : formatIndex({ flbas: id.flbas, lbafs })
  return {
    text: (human) =>
      [
        rowLines(structureRows(namespaceLayout, known), human),
        ...(inUse >= lbafs.length ? [`flbas names LBA format ${inUse}, and there are ${lbafs.length}`] : []),
        ...lbafs.map((format, n) => (human ? formatSentence : formatText)(format, n, n === inUse)),
        ...(vendor ? ['vs[]:', dumpText(vs)] : []),
      ].join('\n'),
    json: () => ({
      ...plain(known),
      ...exactSizes(bytes),
      lbafs: lbafs.map(({ ms, lbads, rp }) => ({ ms, ds: lbads, rp })),
    }),
  }
}

/** Sizes in blocks that are no safe integers, which the decoded structure has rounded. */
function exactSizes(bytes: Uint8Array): Record<string, bigint> {
  const view = new DataView(bytes.buffer, bytes.byteOffset)
  const sizes = (['nsze', 'ncap', 'nuse'] as const).map((name, i) => [name, view.getBigUint64(i * 8, true)])
  return Object.fromEntries(sizes.filter(([, size]) => !Number.isSafeInteger(Number(size))))
}

function formatText({ ms, lbads, rp }: LbaFormat, n: number, inUse: boolean): string {
  const numbers = `ms:${String(ms).padEnd(3)} lbads:${String(lbads).padEnd(2)} rp:${rp}`
  return `lbaf ${String(n).padStart(2)} : ${numbers}${inUse ? ' (in use)' : ''}`
}

const PERFORMANCE = ['Best', 'Better', 'Good', 'Degraded']

function formatSentence({ ms, lbads, rp }: LbaFormat, n: number, inUse: boolean): string {
  const bytes = lbads === 0 ? 'not available' : `${2 ** lbads} bytes`
  const performance = `Relative Performance: ${rp} ${PERFORMANCE[rp]}`
  return `LBA Format ${String(n).padStart(2)} : Data Size: ${bytes} - Metadata Size: ${ms} bytes - ${performance}${inUse ? ' (in use)' : ''}`
}

export function viewIndependent(bytes: Uint8Array): Shown {
  const id = decodeIndependentNamespace(bytes)
  return {
    text: (human) => rowLines(structureRows(independentLayout, { ...id }), human),
    json: () => id,
  }
}

/** `[   0]:0x1`, a line for each. */
export function numberedList(ids: readonly number[]): string {
  return ids.map((id, i) => `[${String(i).padStart(4)}]:0x${id.toString(16)}`).join('\n')
}

export function viewNamespaceList(bytes: Uint8Array): Shown {
  const nsids = decodeNamespaceList(bytes)
  return {
    text: () => numberedList(nsids),
    json: () => ({ nsid_list: nsids.map((nsid) => ({ nsid })) }),
  }
}

const TYPES: Readonly<Record<number, string>> = {
  [NAMESPACE_ID_TYPE.EUI64]: 'eui64',
  [NAMESPACE_ID_TYPE.NGUID]: 'nguid',
  [NAMESPACE_ID_TYPE.UUID]: 'uuid',
  [NAMESPACE_ID_TYPE.CSI]: 'csi',
}
const HEADER_BYTES = 4

export function viewDescriptors(bytes: Uint8Array): Shown {
  let loc = 0
  const descriptors = decodeNamespaceDescriptors(bytes).map((descriptor) => {
    const nidl = descriptor.nid.length / 2
    const type = TYPES[descriptor.nidt] ?? 'unknown'
    const { nidt, fault } = descriptor
    const identifier = identifierText(descriptor)
    const entry = { loc, nidt, nidl, type, [type]: identifier, ...(fault !== undefined && { fault }) }
    loc += HEADER_BYTES + nidl
    return { type, text: fault === undefined ? identifier : `${identifier} (${fault})`, entry }
  })
  return {
    text: () =>
      descriptors.length === 0 ? '' : fields(descriptors.map(({ type, text }) => [type.padEnd(7), text])),
    json: () => ({ 'ns-descs': descriptors.map(({ entry }) => entry) }),
  }
}

function identifierText({ nidt, nid, fault }: NamespaceDescriptor): string {
  if (fault !== undefined) return nid
  if (nidt === NAMESPACE_ID_TYPE.UUID) return formatUuid(nid)
  return nidt === NAMESPACE_ID_TYPE.CSI ? hexText(Number.parseInt(nid, 16)) : nid
}

export function viewControllers(bytes: Uint8Array): Shown {
  const ids = decodeControllerList(bytes)
  return {
    text: () => [`num of ctrls present: ${ids.length}`, numberedList(ids)].filter(Boolean).join('\n'),
    json: () => ({ num_ctrl: ids.length, ctrl_list: ids.map((id) => ({ ctrl_id: id })) }),
  }
}

/** `get-lba-status`. NLB as the list has it: zero-based. */
export function viewLbaStatus(bytes: Uint8Array): Shown {
  const { nlsd, cmpc, descriptors } = decodeLbaStatusList(bytes)
  const entries = descriptors.map(({ dslba, nlb, lbars }) => ({
    DSLBA: `0x${dslba.toString(16).padStart(16, '0')}`,
    NLB: dwordText(nlb - 1),
    Status: `0x${lbars.toString(16).padStart(2, '0')}`,
  }))
  const end = LBA_STATUS_ENDS[cmpc] ?? 'Reserved'
  return {
    text: () =>
      [
        `Number of LBA Status Descriptors(NLSD): ${nlsd}`,
        `Completion Condition(CMPC): ${cmpc}`,
        `\t${end}`,
        ...entries.map(({ DSLBA, NLB, Status }) => `{ DSLBA: ${DSLBA}, NLB: ${NLB}, Status: ${Status} }`),
      ].join('\n'),
    json: () => ({
      'Number of LBA Status Descriptors (NLSD)': nlsd,
      'Completion Condition (CMPC)': cmpc,
      'cmpc-definition': end,
      ...Object.fromEntries(entries.map((entry, i) => [`LSD entry ${i}`, entry])),
    }),
  }
}

const LBA_STATUS_ENDS: Readonly<Record<number, string>> = {
  [LBA_STATUS_END.UNKNOWN]: 'What is behind the last descriptor is not known',
  [LBA_STATUS_END.INCOMPLETE]: 'The list is full, and there is more behind its last descriptor',
  [LBA_STATUS_END.COMPLETE]: 'All of the range has been looked at',
}
