// Views of structures that the software controller does not have, on bytes that the encoders make.

import test from 'ava'
import fc from 'fast-check'
import { ANA_STATE, encodeAnaLog } from '../../lib/nvme/spec/ana.ts'
import {
  encodeControllerList,
  encodeIndependentNamespace,
  encodeNamespaceDescriptors,
  encodeNamespaceList,
} from '../../lib/nvme/spec/identify.ts'
import { encodeChangedNamespaces, encodePersistentEventLog } from '../../lib/nvme/spec/logs.ts'
import { ALL_NAMESPACES } from '../../lib/nvme/spec/opcodes.ts'
import type { Shown } from '../../src/cli/admin/show.ts'
import { viewFeatures } from '../../src/cli/admin/views/feature.ts'
import {
  viewController,
  viewControllers,
  viewDescriptors,
  viewIndependent,
  viewNamespace,
  viewNamespaceList,
} from '../../src/cli/admin/views/identify.ts'
import {
  viewAna,
  viewChanged,
  viewEffects,
  viewErrors,
  viewFirmware,
  viewPersistentEvents,
  viewSanitize,
  viewSelfTest,
  viewSmart,
} from '../../src/cli/admin/views/logs.ts'
import { viewRegisters } from '../../src/cli/admin/views/registers.ts'

test('descriptors: each type by its name, with its place', (t) => {
  const shown = viewDescriptors(
    encodeNamespaceDescriptors([
      { nidt: 3, nid: 'f81d4fae7dec11d0a76500a0c91e6bf6' },
      { nidt: 4, nid: '02' },
      { nidt: 9, nid: 'abcd' },
    ]),
  )
  t.is(shown.text(false), 'uuid    : f81d4fae-7dec-11d0-a765-00a0c91e6bf6\ncsi     : 0x2\nunknown : abcd')
  t.deepEqual(shown.json(), {
    'ns-descs': [
      { loc: 0, nidt: 3, nidl: 16, type: 'uuid', uuid: 'f81d4fae-7dec-11d0-a765-00a0c91e6bf6' },
      { loc: 20, nidt: 4, nidl: 1, type: 'csi', csi: '0x2' },
      { loc: 25, nidt: 9, nidl: 2, type: 'unknown', unknown: 'abcd' },
    ],
  })
})

test('controllers: their number, and each', (t) => {
  t.is(viewControllers(encodeControllerList([])).text(false), 'num of ctrls present: 0')
  const two = viewControllers(encodeControllerList([1, 0x20]))
  t.is(two.text(false), 'num of ctrls present: 2\n[   0]:0x1\n[   1]:0x20')
  t.deepEqual(two.json(), { num_ctrl: 2, ctrl_list: [{ ctrl_id: 1 }, { ctrl_id: 32 }] })
})

test('independent fields, and their bits', (t) => {
  const shown = viewIndependent(encodeIndependentNamespace({ nmic: 1, fpi: 0x85, endgid: 7, nstat: 1 }))
  t.regex(
    shown.text(false),
    /^nsfeat {3}: 0\nnmic {5}: 0x1\n(.*\n)*fpi {6}: 0x85\n(.*\n)*endgid {3}: 7\nnstat {4}: 0x1$/,
  )
  t.regex(shown.text(true), /\n {2}\[6:0\] {3}: 0x5 {2}5 % remain to be formatted\n/)
  t.regex(shown.text(true), /\n {2}\[0:0\] {3}: 0x1 {2}Ready\n/)
  t.like(shown.json(), { nmic: 1, fpi: 0x85, endgid: 7, nstat: 1 })
})

test('changed namespaces: a list, or too many for one', (t) => {
  const some = viewChanged(encodeChangedNamespaces({ nsids: [2, 17] }), 'dev')
  t.is(some.text(false), '[   0]:0x2\n[   1]:0x11')
  t.deepEqual(some.json(), {
    'Changed Namespace List Log': 'dev',
    dev: { '[   0]': '0x2', '[   1]': '0x11' },
  })
  const many = viewChanged(encodeNamespaceList([ALL_NAMESPACES]), 'dev')
  t.is(many.text(false), 'more than 1024 namespaces changed: look at all of them')
})

test('the ANA log: groups, states and namespaces, as nvme-cli has them', (t) => {
  const groups = [
    { grpid: 1, state: ANA_STATE.OPTIMIZED, chgcnt: 2n, nsids: [1, 3] },
    { grpid: 9, state: 7 },
  ]
  const view = viewAna(encodeAnaLog({ chgcnt: 5n, groups }), 'dev')
  t.is(
    view.text(false),
    'Asymmetric Namespace Access Log for NVMe device: dev\nANA LOG HEADER :-\nchgcnt\t:\t5\nngrps\t:\t2\n' +
      'ANA Log Desc :-\ngrpid\t:\t1\nnnsids\t:\t2\nchgcnt\t:\t2\nstate\t:\toptimized\n\tnsid\t:\t1\n\tnsid\t:\t3\n\n' +
      'ANA Log Desc :-\ngrpid\t:\t9\nnnsids\t:\t0\nchgcnt\t:\t0\nstate\t:\tinvalid state\n',
  )
  t.deepEqual(view.json(), {
    'Asymmetric Namespace Access Log for NVMe device': 'dev',
    chgcnt: 5n,
    ngrps: 2,
    'ANA DESC LIST ': [
      { grpid: 1, nnsids: 2, chgcnt: 2n, state: 'optimized', NSIDS: [{ nsid: 1 }, { nsid: 3 }] },
      { grpid: 9, nnsids: 0, chgcnt: 0n, state: 'invalid state', NSIDS: [] },
    ],
  })
})

test('persistent events: header, types, times, bytes; and how many were read', (t) => {
  const bytes = encodePersistentEventLog({
    sn: 'SN',
    ts: { timestamp: 86_400_000 },
    events: [
      { etype: 4, etype_rev: 1, cntlid: 3, ets: { timestamp: 1000 }, data: new Uint8Array([1, 2]) },
      { etype: 0x42 },
    ],
  })
  const whole = viewPersistentEvents(bytes)
  t.regex(
    whole.text(false),
    /\ntnev +: 2\n(.*\n)*ts +: 86400000 ms \(1970-01-02T00:00:00\.000Z\)\n(.*\n)*sn +: SN\n/,
  )
  t.regex(
    whole.text(false),
    /\n\nEvent 0\ntype +: 0x4 \(Power-on or Reset\), revision 1\ncntlid +: 3\n.*\ndata +: 2 bytes, after 0 of the vendor\n00000000 {2}01 02 /,
  )
  t.regex(whole.text(false), /\n\nEvent 1\ntype +: 0x42 \(Reserved\), revision 0\n/)
  const { events } = whole.json() as { events: unknown[] }
  t.like(events[0], { etype: 4, data: '0102', vsi: '' })
  t.regex(
    viewPersistentEvents(bytes.subarray(0, bytes.length - 1)).text(false),
    /\n\n1 of 2 events were read$/,
  )
})

// Each view with the bytes of its structure.
const VIEWS: Readonly<Record<string, readonly [bytes: number, view: (bytes: Buffer) => Shown]>> = {
  'id-ctrl': [4096, (bytes) => viewController(bytes, { vendor: true })],
  'id-ns': [4096, (bytes) => viewNamespace(bytes, { vendor: true })],
  'list-ns': [4096, viewNamespaceList],
  'ns-descs': [4096, viewDescriptors],
  'list-ctrl': [4096, viewControllers],
  'cmdset-ind-id-ns': [4096, viewIndependent],
  'show-regs': [0x6c, viewRegisters],
  'smart-log': [512, viewSmart],
  'error-log': [640, viewErrors],
  'fw-log': [512, (bytes) => viewFirmware(bytes, 'dev')],
  'effects-log': [4096, viewEffects],
  'self-test-log': [564, viewSelfTest],
  'sanitize-log': [512, (bytes) => viewSanitize(bytes, 'dev')],
  'changed-ns-list-log': [4096, (bytes) => viewChanged(bytes, 'dev')],
  'persistent-event-log': [2048, viewPersistentEvents],
  'get-feature': [
    4096,
    (data) => {
      const [fid, select] = [data[0]! & 0x8f, data[1]! & 3]
      return viewFeatures([{ fid, select, value: data.readUInt32LE(2), data: data.subarray(8) }], true)
    },
  ],
}

for (const [name, [length, view]] of Object.entries(VIEWS)) {
  test(`view of ${name}: any bytes are shown, as text, with words taken apart and as JSON`, (t) => {
    const shown = (bytes: Uint8Array) => {
      const { text, json } = view(Buffer.from(bytes))
      return [text(false), text(true), json()]
    }
    t.is(shown(new Uint8Array(length)).length, 3)
    t.is(shown(new Uint8Array(length).fill(0xff)).length, 3)
    fc.assert(
      fc.property(fc.uint8Array({ minLength: length, maxLength: length, size: 'max' }), (bytes) => {
        t.is(shown(bytes).length, 3)
      }),
      { numRuns: 20 },
    )
  })
}
