// `id-ctrl`: Identify Controller by nvme-cli's names.
// Trade-off: one row for each field in the structure's order; how it is written follows from its kind.

import {
  decodeIdentifyController,
  type IdentifyController,
  type PowerState,
} from '../../../../lib/nvme/spec/identify/controller.ts'
import { formatUuid } from '../../../../lib/nvme/spec/identify/descriptors.ts'
import type { Shown } from '../show.ts'
import { bitLines, dumpText, hexText, type Row, rowLines, temperatureText } from '../text.ts'
import { CONTROLLER_BITS } from './controller-bits.ts'

type Scalar = Exclude<keyof IdentifyController, 'psds' | 'vs'>

// In the structure's order. `x`: in hexadecimal.
const FIELDS =
  `vid:x ssvid:x sn mn fr rab ieee cmic:x mdts cntlid:x ver:x rtd3r:x rtd3e:x oaes:x ctratt:x rrls:x
cntrltype fguid crdt1 crdt2 crdt3 nvmsr vwci mec oacs:x acl aerl frmw:x lpa:x elpe npss avscc:x apsta:x wctemp
cctemp mtfa hmpre hmmin tnvmcap unvmcap rpmbs:x edstt dsto fwug kas hctma:x mntmt mxtmt sanicap:x hmminds hmmaxd
nsetidmax endgidmax anatt anacap anagrpmax nanagrpid pels domainid megcap sqes:x cqes:x maxcmd nn oncs:x fuses:x
fna:x vwc:x awun awupf icsvscc nwpc acwu ocfs:x sgls:x mnan maxdna maxcna subnqn ioccsz iorcsz icdoff fcatt msdbd
ofcs`
    .split(/\s+/)
    .map((word) => word.split(':') as [name: Scalar, format?: 'x'])

const KELVINS: readonly string[] = ['wctemp', 'cctemp', 'mntmt', 'mxtmt']
const TEXT_WIDTHS: Readonly<Record<string, number>> = { sn: 20, mn: 40, fr: 8 }

export function viewController(bytes: Uint8Array, { vendor = false } = {}): Shown {
  const id = decodeIdentifyController(bytes)
  return {
    text: (human) =>
      [
        rowLines(
          FIELDS.map(([name, format]) => row(id, name, format)),
          human,
        ),
        ...id.psds.map(powerStateText),
        ...(vendor ? ['vs[]:', dumpText(id.vs)] : []),
      ].join('\n'),
    json: () => ({
      ...Object.fromEntries(FIELDS.map(([name]) => [name, jsonValue(name, id[name])])),
      psds: id.psds.map(powerStateJson),
    }),
  }
}

function row(id: IdentifyController, name: Scalar, format?: 'x'): Row {
  const value = id[name]
  const bits = CONTROLLER_BITS[name]
  if (typeof value === 'number' && bits) {
    return { name, value: format ? hexText(value) : String(value), bits: bitLines(value, bits) }
  }
  if (name === 'ieee') return { name, value: id.ieee.toString(16).padStart(6, '0') }
  if (KELVINS.includes(name))
    return { name, value: String(value), bits: [`  ${temperatureText(value as number)}`] }
  if (format) return { name, value: hexText(value as number) }
  return { name, value: String(jsonValue(name, value)) }
}

// 128-bit numbers are text there, which no program reads wrongly; names keep the spaces that they are filled with.
function jsonValue(name: string, value: string | number | bigint): string | number {
  if (typeof value === 'bigint') return String(value)
  if (typeof value === 'number') return value
  return name === 'fguid' ? formatUuid(value) : value.padEnd(TEXT_WIDTHS[name] ?? 0)
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
