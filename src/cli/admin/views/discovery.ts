// `discover`: the discovery log as nvme-cli prints it.

import {
  ADRFAM,
  type DiscoveryLog,
  type DiscoveryRecord,
  SUBTYPE,
  TRTYPE,
} from '../../../../lib/nvme/tcp/fabrics.ts'
import { visible } from '../../output.ts'
import type { Shown } from '../show.ts'

const TRTYPES: Record<number, string> = {
  [TRTYPE.RDMA]: 'rdma',
  [TRTYPE.FC]: 'fc',
  [TRTYPE.TCP]: 'tcp',
  [TRTYPE.LOOP]: 'loop',
}
const ADRFAMS: Record<number, string> = {
  [ADRFAM.IPV4]: 'ipv4',
  [ADRFAM.IPV6]: 'ipv6',
  [ADRFAM.IB]: 'infiniband',
  [ADRFAM.FC]: 'fibre-channel',
  254: 'loop',
}
const SUBTYPES: Record<number, string> = {
  [SUBTYPE.REFERRAL]: 'discovery subsystem referral',
  [SUBTYPE.NVM]: 'nvme subsystem',
  [SUBTYPE.CURRENT_DISCOVERY]: 'current discovery subsystem',
}
const TREQS = ['not specified', 'required', 'not required', 'reserved'] as const
const SECTYPES = ['none', 'tls', 'tls13'] as const

function treqText(treq: number): string {
  return `${TREQS[treq & 3]}${(treq & 4) === 0 ? '' : ', sq flow control disable supported'}`
}

function eflagsText(eflags: number): string {
  const all = [
    ...((eflags & 2) === 0 ? [] : ['explicit discovery connections']),
    ...((eflags & 1) === 0 ? [] : ['duplicate discovery information']),
  ]
  return all.join(', ') || 'none'
}

function fieldsOf(record: DiscoveryRecord) {
  return {
    trtype: TRTYPES[record.trtype] ?? 'unrecognized',
    adrfam: ADRFAMS[record.adrfam] ?? 'unrecognized',
    subtype: SUBTYPES[record.subtype] ?? 'unrecognized',
    treq: treqText(record.treq),
    portid: record.portid,
    trsvcid: record.trsvcid,
    subnqn: record.subnqn,
    traddr: record.traddr,
    eflags: eflagsText(record.eflags),
    ...(record.trtype === TRTYPE.TCP && { sectype: SECTYPES[record.sectype] ?? 'unrecognized' }),
  }
}

export function viewDiscovery({ genctr, records }: DiscoveryLog): Shown {
  const all = records.map(fieldsOf)
  return {
    text: () =>
      [
        '',
        `Discovery Log Number of Records ${records.length}, Generation counter ${genctr}`,
        ...all.flatMap((record, i) => [
          `=====Discovery Log Entry ${i}======`,
          ...Object.entries(record).map(
            ([name, value]) => `${`${name}:`.padEnd(9)}${visible(String(value))}`,
          ),
        ]),
      ].join('\n'),
    json: () => ({ genctr, records: all }),
  }
}
