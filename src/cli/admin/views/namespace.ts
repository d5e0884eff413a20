// `id-ns`: Identify Namespace by nvme-cli's names.
// Trade-off: fields that count only where a flag says so are left out where it does not, as nvme-cli does.

import { NSFEAT } from '../../../../lib/nvme/spec/identify/flags.ts'
import {
  decodeIdentifyNamespace,
  formatIndex,
  type IdentifyNamespace,
  type LbaFormat,
} from '../../../../lib/nvme/spec/identify/namespace.ts'
import type { Shown } from '../show.ts'
import { type BitRow, bitLines, dumpText, either, hexText, oneOf, type Row, rowLines } from '../text.ts'

type Scalar = Exclude<keyof IdentifyNamespace, 'lbafs' | 'vs'>

const OPTIMAL: readonly Scalar[] = ['npwg', 'npwa', 'npdg', 'npda', 'nows']
const FIELDS: readonly Scalar[] = [
  ...([
    'nsze',
    'ncap',
    'nuse',
    'nsfeat',
    'nlbaf',
    'flbas',
    'mc',
    'dpc',
    'dps',
    'nmic',
    'rescap',
    'fpi',
  ] as const),
  ...(['dlfeat', 'nawun', 'nawupf', 'nacwu', 'nabsn', 'nabo', 'nabspf', 'noiob', 'nvmcap'] as const),
  ...OPTIMAL,
  ...([
    'mssrl',
    'mcl',
    'msrc',
    'nulbaf',
    'anagrpid',
    'nsattr',
    'nvmsetid',
    'endgid',
    'nguid',
    'eui64',
  ] as const),
]
const HEX: readonly Scalar[] = [
  'nsze',
  'ncap',
  'nuse',
  'nsfeat',
  'flbas',
  'mc',
  'dpc',
  'dps',
  'nmic',
  'rescap',
  'fpi',
]

/** Bits of the words of Identify Namespace, by field. */
export const NAMESPACE_BITS: Readonly<Partial<Record<Scalar, readonly BitRow[]>>> = {
  nsfeat: [
    [4, 4, 'NPWG, NPWA, NPDG, NPDA and NOWS'],
    [3, 3, either('NGUID and EUI64 may be used again', 'NGUID and EUI64 are never used again')],
    [2, 2, 'Deallocated or Unwritten Logical Block error'],
    [1, 1, either('AWUN, AWUPF and ACWU count', 'NAWUN, NAWUPF and NACWU count')],
    [0, 0, 'Thin Provisioning'],
  ],
  flbas: [
    [6, 5, (value) => `Format in use, high bits: ${value}`],
    [4, 4, either('Metadata in a buffer of its own', 'Metadata at the end of each block')],
    [3, 0, (value) => `Format in use, low bits: ${value}`],
  ],
  mc: [
    [1, 1, 'Metadata in a buffer of its own'],
    [0, 0, 'Metadata at the end of each block'],
  ],
  dpc: [
    [4, 4, 'Protection Information as last bytes of the metadata'],
    [3, 3, 'Protection Information as first bytes of the metadata'],
    [2, 2, 'Protection Information Type 3'],
    [1, 1, 'Protection Information Type 2'],
    [0, 0, 'Protection Information Type 1'],
  ],
  dps: [
    [3, 3, either('Protection Information is last', 'Protection Information is first')],
    [2, 0, oneOf('Protection Information is off', 'Type 1 is on', 'Type 2 is on', 'Type 3 is on')],
  ],
  nmic: [[0, 0, either('Attached to one controller at a time', 'Can be attached to several controllers')]],
  rescap: [
    [7, 7, either('Ignore Existing Key as in revision 1.2.1', 'Ignore Existing Key as in revision 1.3')],
    [6, 6, 'Exclusive Access - All Registrants'],
    [5, 5, 'Write Exclusive - All Registrants'],
    [4, 4, 'Exclusive Access - Registrants Only'],
    [3, 3, 'Write Exclusive - Registrants Only'],
    [2, 2, 'Exclusive Access'],
    [1, 1, 'Write Exclusive'],
    [0, 0, 'Persist Through Power Loss'],
  ],
  fpi: [
    [7, 7, 'Format Progress Indicator'],
    [6, 0, (value) => `${value} % remain to be formatted`],
  ],
  dlfeat: [
    [
      4,
      4,
      either('Guard of deallocated blocks is FFFFh', 'Guard of deallocated blocks is the CRC of their data'),
    ],
    [3, 3, 'Deallocate in Write Zeroes'],
    [
      2,
      0,
      oneOf(
        'Reads of deallocated blocks: not reported',
        'Deallocated blocks read 00h',
        'Deallocated blocks read FFh',
      ),
    ],
  ],
  nsattr: [[0, 0, either('Not write protected', 'Write protected')]],
}

export function viewNamespace(bytes: Uint8Array, { vendor = false } = {}): Shown {
  const id = decodeIdentifyNamespace(bytes)
  const optimal = (id.nsfeat & NSFEAT.OPTIMAL_IO) !== 0
  const names = optimal ? FIELDS : FIELDS.filter((name) => !OPTIMAL.includes(name))
  const inUse = id.lbafs.every(({ lbads }) => lbads === 0) ? -1 : formatIndex(id)
  const sizes = exactSizes(bytes)
  const exact = (name: Scalar) => sizes[name] ?? id[name]
  return {
    text: (human) =>
      [
        rowLines(
          names.map((name) => row(name, exact(name))),
          human,
        ),
        ...(inUse >= id.lbafs.length
          ? [`flbas names LBA format ${inUse}, and there are ${id.lbafs.length}`]
          : []),
        ...id.lbafs.map((format, n) => (human ? formatSentence : formatText)(format, n, n === inUse)),
        ...(vendor ? ['vs[]:', dumpText(id.vs)] : []),
      ].join('\n'),
    json: () => ({
      ...Object.fromEntries(names.map((name) => [name, sizes[name] ?? jsonValue(id[name])])),
      lbafs: id.lbafs.map(({ ms, lbads, rp }) => ({ ms, ds: lbads, rp })),
    }),
  }
}

/** Sizes in blocks that are no safe integers, which the decoded structure has rounded. */
function exactSizes(bytes: Uint8Array): Partial<Record<Scalar, bigint>> {
  const view = new DataView(bytes.buffer, bytes.byteOffset)
  const sizes = (['nsze', 'ncap', 'nuse'] as const).map((name, i) => [name, view.getBigUint64(i * 8, true)])
  return Object.fromEntries(sizes.filter(([, size]) => !Number.isSafeInteger(Number(size))))
}

function row(name: Scalar, value: string | number | bigint): Row {
  const text = HEX.includes(name) ? hexText(value as number | bigint) : String(value)
  const bits = NAMESPACE_BITS[name]
  return { name, value: text, ...(bits && { bits: bitLines(value as number, bits) }) }
}

function jsonValue(value: string | number | bigint): string | number {
  return typeof value === 'bigint' ? String(value) : value
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
