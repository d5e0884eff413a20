// What a controller says that no controller should: each command as a process, on answers that are replaced by odd ones.

import { readFileSync } from 'node:fs'
import test, { type ExecutionContext } from 'ava'
import {
  encodeIdentifyController,
  encodeIdentifyNamespace,
  encodeNamespaceList,
} from '../../lib/nvme/spec/identify.ts'
import { encodeTelemetryHeader } from '../../lib/nvme/spec/logs.ts'
import { testFolder } from '../support/folder.ts'
import { type Outcome, unvme } from './command.ts'

const file = testFolder()
const PRELOAD = new URL('../support/odd-data.js', import.meta.url).href

/** By opcode and the lowest byte of dword 10: see support/odd-data. */
type Odd = Readonly<Record<string, Uint8Array | 'refused'>>

function oddly(odd: Odd, line: string): Promise<Outcome> {
  const answers = Object.entries(odd).map(([key, answer]) => [
    key,
    answer === 'refused' ? answer : Buffer.from(answer).toString('hex'),
  ])
  const env = {
    NODE_OPTIONS: `${process.env.NODE_OPTIONS ?? ''} --import=${PRELOAD}`,
    ODD_DATA: JSON.stringify(Object.fromEntries(answers)),
  }
  return unvme(line.split(' '), { env })
}

async function ok(t: ExecutionContext, odd: Odd, line: string): Promise<string> {
  const { code, stdout, stderr } = await oddly(odd, line)
  t.is(stderr, '', line)
  t.is(code, 0, line)
  return stdout
}

const NAMESPACE = '06 00'
const CONTROLLER = '06 01'
const ACTIVE = '06 02'
const DESCRIPTORS = '06 03'
const TELEMETRY = '02 07'
const GET_HOST_BEHAVIOR = '0a 16'

/** A namespace of 2048 blocks of 512 bytes, with odd bytes put in. */
function namespaceWith(patches: readonly (readonly [at: number, bytes: readonly number[]])[]): Uint8Array {
  const value = { nsze: 2048, ncap: 2048, nuse: 7, lbafs: [{ lbads: 9 }, { lbads: 12 }], nlbaf: 1 }
  const bytes = encodeIdentifyNamespace(value)
  for (const [at, patch] of patches) bytes.set(patch, at)
  return bytes
}

const ONES = new Array<number>(8).fill(0xff)
const ODD_NAMESPACES = {
  'NUSE beyond 2^53': namespaceWith([[16, ONES]]),
  'NCAP and NUSE beyond 2^53': namespaceWith([
    [8, ONES],
    [16, ONES],
  ]),
  'FLBAS that names no format': namespaceWith([[26, [5]]]),
  'a format of 2^0 bytes': namespaceWith([[130, [0]]]),
  'all ones': new Uint8Array(4096).fill(0xff),
}

for (const [what, bytes] of Object.entries(ODD_NAMESPACES)) {
  test(`id-ns: shows a namespace with ${what}, as text, JSON and bytes`, async (t) => {
    const odd = { [NAMESPACE]: bytes }
    t.regex(await ok(t, odd, 'id-ns sim:?size=1M -H'), /^nsze +: 0x/)
    JSON.parse(await ok(t, odd, 'id-ns sim:?size=1M -o json'))
    t.is((await ok(t, odd, 'id-ns sim:?size=1M -o binary')).length > 0, true)
  })
}

test('id-ns: sizes beyond 2^53 are exact', async (t) => {
  const odd = { [NAMESPACE]: ODD_NAMESPACES['NUSE beyond 2^53'] }
  t.regex(await ok(t, odd, 'id-ns sim:?size=1M'), /\nnuse +: 0xffffffffffffffff\n/)
  t.regex(await ok(t, odd, 'id-ns sim:?size=1M -o json'), /"nuse": 18446744073709551615,/)
})

test('read: an informative field that is odd keeps no namespace from opening', async (t) => {
  const odd = { [NAMESPACE]: ODD_NAMESPACES['NCAP and NUSE beyond 2^53'] }
  t.is(await ok(t, odd, 'read sim:?size=1M --nlb 1'), '\0'.repeat(512))
  const { code, stderr } = await oddly(
    { [NAMESPACE]: namespaceWith([[0, ONES]]) },
    'read sim:?size=1M --nlb 1',
  )
  t.is(code, 1)
  t.regex(stderr, /namespace 1: a size of 18446744073709552000 logical blocks \(NSZE\).*ERR_UNVME_DECODE/)
})

test('ns-descs: a bad descriptor does not hide the good ones, nor the bytes', async (t) => {
  const bytes = new Uint8Array(4096)
  bytes.set([1, 16], 0)
  bytes.set([4, 1, 0, 0, 2], 20)
  const odd = { [DESCRIPTORS]: bytes }
  t.is(
    await ok(t, odd, 'ns-descs sim:?size=1M'),
    `eui64   : ${'00'.repeat(16)} (a length of 16 bytes, where type 1 has 8)\ncsi     : 0x2\n`,
  )
  const [first] = JSON.parse(await ok(t, odd, 'ns-descs sim:?size=1M -o json'))['ns-descs']
  t.is(first.fault, 'a length of 16 bytes, where type 1 has 8')
  t.is((await ok(t, odd, 'ns-descs sim:?size=1M -b')).length, 4096)
  t.is(await ok(t, { [DESCRIPTORS]: new Uint8Array(4096) }, 'ns-descs sim:?size=1M'), '')
})

test('info and list-ns: a full list that is repeated, and a controller without one', async (t) => {
  const full = encodeNamespaceList(Array.from({ length: 1024 }, (_, i) => i + 1))
  t.regex(await ok(t, { [ACTIVE]: full }, 'info sim:?size=1M'), /\nnamespace +: 1 \(of 1024\)\n/)
  const refused = { [ACTIVE]: 'refused' } as const
  t.regex(await ok(t, refused, 'info sim:?size=1M&ns=2,5'), /\nnamespace +: 2 \(of 2\)\n/)
  t.is(await ok(t, refused, 'list-ns sim:?size=1M&ns=2,5 -n 3'), '[   0]:0x5\n')
})

/** Identify Controller of one with data area 4, whose other fields the commands do not need. */
const WITH_AREA_4 = encodeIdentifyController({ sn: 'ODD', mn: 'ODD', fr: '1', lpa: 0x4e, nn: 1, mdts: 5 })
const LOG = Buffer.concat([
  encodeTelemetryHeader({ lid: 7, dalb1: 2, dalb2: 0, dalb3: 6, dalb4: 0 }),
  Buffer.alloc(6 * 512, 7),
])

test('telemetry-log: areas that are empty do not hide those before them', async (t) => {
  const path = file('areas.bin')
  const odd = { [TELEMETRY]: LOG, [CONTROLLER]: WITH_AREA_4, [GET_HOST_BEHAVIOR]: Buffer.from([0, 1]) }
  for (const [area, blocks] of [
    [1, 2],
    [2, 2],
    [3, 6],
    [4, 6],
  ] as const) {
    await ok(t, odd, `telemetry-log sim:?size=1M -d ${area} -o ${path}`)
    t.deepEqual(readFileSync(path), LOG.subarray(0, (blocks + 1) * 512), `area ${area}`)
  }
})

test('telemetry-log: a controller without area 4, or without Host Behavior Support, is named', async (t) => {
  const line = `telemetry-log sim:?size=1M -d 4 -o ${file('none.bin')}`
  const lacks = await oddly({}, line)
  t.is(lacks.code, 1)
  t.regex(lacks.stderr, /no telemetry data area 4 \(bit 6 of LPA is 0\): --data-area 3 is its last/)
  const feature = await oddly({ [CONTROLLER]: WITH_AREA_4 }, line)
  t.is(feature.code, 1)
  t.regex(feature.stderr, /no Host Behavior Support \(feature 16h\), which data area 4 needs/)
})
