// `ns-descs`, `list-ctrl`, `cmdset-ind-id-ns` and `changed-ns-list-log`, by nvme-cli's names.
// Trade-off: one small view for each; lists are numbered as nvme-cli numbers them.

import {
  decodeNamespaceDescriptors,
  formatUuid,
  NAMESPACE_ID_TYPE,
  type NamespaceDescriptor,
} from '../../../../lib/nvme/spec/identify/descriptors.ts'
import { decodeIndependentNamespace } from '../../../../lib/nvme/spec/identify/independent.ts'
import { decodeControllerList, decodeNamespaceList } from '../../../../lib/nvme/spec/identify/lists.ts'
import { decodeChangedNamespaces } from '../../../../lib/nvme/spec/logs/changed-namespaces.ts'
import { fields } from '../../output.ts'
import type { Shown } from '../show.ts'
import { type BitRow, bitLines, either, hexText, rowLines } from '../text.ts'
import { NAMESPACE_BITS } from './namespace.ts'

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

const INDEPENDENT_BITS: Readonly<Record<string, readonly BitRow[]>> = {
  nmic: NAMESPACE_BITS.nmic!,
  rescap: NAMESPACE_BITS.rescap!,
  fpi: NAMESPACE_BITS.fpi!,
  nsattr: NAMESPACE_BITS.nsattr!,
  nstat: [[0, 0, either('Not ready', 'Ready')]],
}

export function viewIndependent(bytes: Uint8Array): Shown {
  const id = decodeIndependentNamespace(bytes)
  return {
    text: (human) =>
      rowLines(
        Object.entries({ ...id }).map(([name, value]) => {
          const bits = INDEPENDENT_BITS[name]
          const isFlags = bits !== undefined || name === 'nsfeat'
          return {
            name,
            value: isFlags ? hexText(value) : String(value),
            ...(bits && { bits: bitLines(value, bits) }),
          }
        }),
        human,
      ),
    json: () => id,
  }
}

/** @param device the name under which nvme-cli's JSON has it */
export function viewChanged(bytes: Uint8Array, device: string): Shown {
  const { nsids, overflow } = decodeChangedNamespaces(bytes)
  return {
    text: () => (overflow ? 'more than 1024 namespaces changed: look at all of them' : numberedList(nsids)),
    json: () => ({
      'Changed Namespace List Log': device,
      [device]: overflow
        ? { num_changed_ns_list: '>1024' }
        : Object.fromEntries(nsids.map((nsid, i) => [`[${String(i).padStart(4)}]`, hexText(nsid)])),
    }),
  }
}
