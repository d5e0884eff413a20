import test from 'ava'
import { DecodeError, OutOfRangeError } from '../../lib/errors.ts'
import { celsius } from '../../lib/nvme/spec/codec.ts'
import {
  dataUnitsToBytes,
  decodeChangedNamespaces,
  decodeCommandEffects,
  decodeEffectsLog,
  decodeErrorLog,
  decodeFirmwareSlotLog,
  decodePersistentEventLog,
  decodeSanitizeLog,
  decodeSelfTestLog,
  decodeSmartLog,
  decodeTelemetryHeader,
  encodeChangedNamespaces,
  encodeCommandEffects,
  encodeEffectsLog,
  encodeErrorLog,
  encodeFirmwareSlotLog,
  encodePersistentEventLog,
  encodeSanitizeLog,
  encodeSelfTestLog,
  encodeSmartLog,
  encodeTelemetryHeader,
  logPageName,
  SANITIZE_STATE,
  sanitizeStateName,
  selfTestResultName,
  telemetryBytes,
} from '../../lib/nvme/spec/logs.ts'
import { decodeStatus } from '../../lib/nvme/spec/status.ts'
import { fixture } from './fixture.ts'

const ONES_8 = [255, 255, 255, 255, 255, 255, 255, 255]

test('error log: one entry, field by field', (t) => {
  const bytes = fixture(128, [
    [0, [0x05, 0, 0, 0, 1, 0, 0, 0]],
    [8, [0x03, 0x00, 0x34, 0x12]],
    // DNR, SCT 2, SC 81h, phase tag 1.
    [12, [0x03, 0x85]],
    [14, [0x28, 0x03]],
    [16, [0x10, 0x32, 0x54, 0x76, 0x98, 0xba, 0xdc, 0xfe]],
    [24, [2, 0, 0, 0]],
    [28, [0xc0, 0, 1, 2]],
    [32, [0x78, 0x56, 0x34, 0x12, 0, 0, 0, 0x80]],
    [40, [0xcd, 0xab]],
    [63, [1]],
  ])
  const [entry, unused] = decodeErrorLog(bytes)
  t.deepEqual(entry, {
    error_count: 0x1_0000_0005n,
    sqid: 3,
    cmdid: 0x1234,
    status_field: 0x4281,
    phase_tag: 1,
    parm_error_location: 0x328,
    lba: 0xfedcba9876543210n,
    nsid: 2,
    vs: 0xc0,
    trtype: 0,
    csi: 1,
    opcode: 2,
    cs: 0x8000000012345678n,
    trtype_spec_info: 0xabcd,
    log_page_version: 1,
  })
  t.is(unused?.error_count, 0n)
  t.like(decodeStatus((entry?.status_field ?? 0) << 1), { sct: 2, sc: 0x81, dnr: true })
  t.deepEqual(encodeErrorLog(decodeErrorLog(bytes)), bytes)
})

test('error log: a part of an entry is none, an LBA of all ones is no error', (t) => {
  t.is(decodeErrorLog(new Uint8Array(64 * 3 + 63)).length, 3)
  t.throws(() => decodeErrorLog(new Uint8Array(63)), { instanceOf: DecodeError })
  t.is(decodeErrorLog(fixture(64, [[16, ONES_8]]))[0]?.lba, 2n ** 64n - 1n)
  t.throws(() => encodeErrorLog([{}, {}], new Uint8Array(127)), { instanceOf: OutOfRangeError })
})

// Every field has a value of its own in its own bytes: one that is shifted shows.
const SMART = fixture(512, [
  [0, [0x2a]],
  [1, [0x37, 0x01]],
  [3, [100, 10, 3, 0x0d]],
  [32, [0x10, 0x11, 0x12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x1f]],
  [48, [0x20, 0x21]],
  [64, [0x30, 0x31]],
  [80, [0x40, 0x41]],
  [96, [0x50, 0x51]],
  [112, [0x60, 0x61]],
  [128, [0x70, 0x71]],
  [144, [0x80, 0x81]],
  [160, [0x90, 0x91]],
  [176, [0xa0, 0xa1]],
  [192, [0xb0, 0xb1, 0xb2, 0xb3]],
  [196, [0xc0, 0xc1, 0xc2, 0xc3]],
  [200, [1, 1, 2, 1, 3, 1, 4, 1, 5, 1, 6, 1, 7, 1, 8, 1]],
  [216, [0xd0, 0, 0, 0xd1]],
  [220, [0xe0, 0, 0, 0xe1]],
  [224, [0xf0, 0, 0, 0xf1]],
  [228, [0xf8, 0, 0, 0xf9]],
])

test('SMART log, field by field', (t) => {
  const log = decodeSmartLog(SMART)
  t.deepEqual(log, {
    critical_warning: 0x2a,
    temperature: 311,
    avail_spare: 100,
    spare_thresh: 10,
    percent_used: 3,
    endurance_grp_critical_warning_summary: 0x0d,
    data_units_read: 0x1f000000000000000000000000121110n,
    data_units_written: 0x2120n,
    host_read_commands: 0x3130n,
    host_write_commands: 0x4140n,
    controller_busy_time: 0x5150n,
    power_cycles: 0x6160n,
    power_on_hours: 0x7170n,
    unsafe_shutdowns: 0x8180n,
    media_errors: 0x9190n,
    num_err_log_entries: 0xa1a0n,
    warning_temp_time: 0xb3b2b1b0,
    critical_comp_time: 0xc3c2c1c0,
    temperature_sensors: [0x101, 0x102, 0x103, 0x104, 0x105, 0x106, 0x107, 0x108],
    thm_temp1_trans_count: 0xd10000d0,
    thm_temp2_trans_count: 0xe10000e0,
    thm_temp1_total_time: 0xf10000f0,
    thm_temp2_total_time: 0xf90000f8,
  })
  t.deepEqual(encodeSmartLog(log), SMART)
  t.is(celsius(log.temperature), 38)
  t.is(dataUnitsToBytes(3n), 1_536_000n)
})

test('firmware slots: the active one is found while another is to come', (t) => {
  const bytes = fixture(512, [
    [0, [0x31]],
    [8, '1.0     '],
    [24, '2.0-rc12'],
  ])
  const log = decodeFirmwareSlotLog(bytes)
  t.deepEqual(log.afi, { active: 1, next: 3 })
  t.deepEqual(log.frs, ['1.0', '', '2.0-rc12', '', '', '', ''])
  t.deepEqual(encodeFirmwareSlotLog(log), bytes)
})

test('changed namespaces, and too many of them', (t) => {
  const bytes = fixture(4096, [[0, [1, 0, 0, 0, 7, 0, 0, 0]]])
  t.deepEqual(decodeChangedNamespaces(bytes), { nsids: [1, 7], overflow: false })
  t.deepEqual(encodeChangedNamespaces({ nsids: [1, 7] }), bytes)
  const overflow = fixture(4096, [[0, [255, 255, 255, 255]]])
  t.deepEqual(decodeChangedNamespaces(overflow), { nsids: [], overflow: true })
  t.deepEqual(encodeChangedNamespaces({ nsids: Array.from({ length: 1025 }, (_, i) => i + 1) }), overflow)
})

test('commands supported and effects', (t) => {
  // Identify; Format NVM: supported, changes blocks and capabilities, alone on the namespace; Write.
  const bytes = fixture(4096, [
    [0x06 * 4, [1, 0, 0, 0]],
    [0x80 * 4, [0x07, 0, 0x09, 0x00]],
    [1024 + 0x01 * 4, [3, 0, 0x10, 0x01]],
  ])
  const log = decodeEffectsLog(bytes)
  t.is(log.acs.length, 256)
  t.is(log.acs[0x06], 1)
  t.is(log.iocs[0x01], 0x01100003)
  t.deepEqual(decodeCommandEffects(log.acs[0x80] ?? 0), {
    csupp: true,
    lbcc: true,
    ncc: true,
    nic: false,
    ccc: false,
    cser: 0,
    cse: 1,
    uss: true,
    csp: 0,
  })
  t.is(decodeCommandEffects(0x01100003).csp, 0x11)
  t.is(encodeCommandEffects(), 1)
  t.is(encodeCommandEffects({ lbcc: true, ncc: true, cse: 1, uss: true }), log.acs[0x80] ?? 0)
  t.is(encodeCommandEffects({ csupp: false, csp: 0xfff, cser: 3 }), 0xfff0c000)
  t.deepEqual(encodeEffectsLog(log), bytes)
})

test('device self-test log', (t) => {
  const bytes = fixture(564, [
    [0, [2, 25]],
    // An extended test that failed in segment 3 of namespace 1.
    [4, [0x27, 3, 0x0f, 0]],
    [8, [0x10, 0x27, 0, 0, 0, 0, 0, 0]],
    [16, [1, 0, 0, 0]],
    [20, [0, 0, 0, 0, 1, 0, 0, 0]],
    [28, [2, 0x81, 0xaa, 0xbb]],
    [32, [0x11]],
  ])
  for (let i = 2; i < 20; i++) bytes[4 + i * 28] = 0x0f
  const log = decodeSelfTestLog(bytes)
  t.is(log.current_operation, 2)
  t.is(log.completion, 25)
  t.deepEqual(log.results[0], {
    result: 7,
    code: 2,
    segment: 3,
    nsid_valid: true,
    flba_valid: true,
    sct_valid: true,
    sc_valid: true,
    poh: 10_000n,
    nsid: 1,
    flba: 0x1_0000_0000n,
    sct: 2,
    sc: 0x81,
    vs: new Uint8Array([0xaa, 0xbb]),
  })
  t.is(
    selfTestResultName(log.results[0]?.result ?? 0),
    'Operation completed with one or more failed segments',
  )
  t.like(log.results[1], { result: 1, code: 1, nsid_valid: false })
  t.is(log.results[19]?.result, 15)
  t.deepEqual(encodeSelfTestLog(log), bytes)
  t.deepEqual(encodeSelfTestLog({ ...log, results: log.results.slice(0, 2) }), bytes)
})

test('telemetry header', (t) => {
  const bytes = fixture(512, [
    [0, [7]],
    [5, [0x75, 0xa0, 0x00]],
    [8, [2, 0, 5, 0, 0x00, 0x01]],
    [16, [0, 0, 1, 0]],
    [381, [9, 1, 17]],
    [384, 'why'],
  ])
  const header = decodeTelemetryHeader(bytes)
  t.like(header, {
    lid: 7,
    ieee: 0x00a075,
    dalb1: 2,
    dalb2: 5,
    dalb3: 256,
    dalb4: 65536,
    hostdgn: 9,
    ctrlavail: 1,
    ctrldgn: 17,
  })
  t.is(telemetryBytes(header, 1), 3 * 512)
  t.is(telemetryBytes(header, 4), 65537 * 512)
  // An area that is empty does not hide those before it.
  t.is(telemetryBytes({ ...header, dalb4: 0 }, 4), 257 * 512)
  t.is(telemetryBytes({ ...header, dalb2: 0 }, 2), 3 * 512)
  t.deepEqual(encodeTelemetryHeader(header), bytes)
})

test('sanitize status', (t) => {
  const bytes = fixture(512, [
    [0, [0x00, 0x40]],
    [2, [0x1a, 0x01]],
    [4, [0x23, 0x01, 0, 0]],
    [8, [60, 0, 0, 0, 120, 0, 0, 0, 2, 0, 0, 0, 255, 255, 255, 255, 6, 0, 0, 0, 7, 0, 0, 0]],
  ])
  const log = decodeSanitizeLog(bytes)
  t.deepEqual(log, {
    sprog: 0x4000,
    sstat: { status: SANITIZE_STATE.IN_PROGRESS, passes: 3, global_erased: true },
    scdw10: 0x123,
    eto: 60,
    etbe: 120,
    etce: 2,
    etond: 0xffff_ffff,
    etbend: 6,
    etcend: 7,
  })
  t.is(sanitizeStateName(log.sstat.status), 'In progress')
  t.deepEqual(encodeSanitizeLog(log), bytes)
  t.like(decodeSanitizeLog(encodeSanitizeLog({})), { sprog: 0xffff, sstat: { status: 0 }, eto: 0xffff_ffff })
})

const EVENTS = fixture(512 + 24 + 6 + 24, [
  [0, [0x0d]],
  [4, [2, 0, 0, 0]],
  [8, [0x36, 0x02]],
  [16, [1, 0, 0xec, 0x01]],
  [20, [0x80, 0x96, 0x98, 0, 0, 0, 0x02]],
  [28, [0x20]],
  [44, [0x05]],
  [52, [0x44, 0x13, 0xf4, 0x1a]],
  [56, 'SN                  '],
  [76, 'MN                                      '],
  [116, 'nqn.x'],
  [372, [3, 0, 0x01, 0, 4, 0]],
  [480, [0xfe, 0x3f]],
  // Power on or reset, with 2 bytes of the vendor's and 4 of data.
  [512, [4, 1, 21, 0, 0x34, 0x12]],
  [518, [1, 0, 0, 0, 0, 1, 1, 0]],
  [532, [2, 0, 6, 0, 0xaa, 0xbb, 1, 2, 3, 4]],
  [542, [3, 1, 21, 0, 0x34, 0x12]],
])

test('persistent events, with what they hold as bytes', (t) => {
  const log = decodePersistentEventLog(EVENTS)
  t.like(log, {
    lid: 13,
    tnev: 2,
    tll: 566n,
    rv: 1,
    lhl: 492,
    ts: { timestamp: 10_000_000, synch: false, origin: 1 },
    poh: 32n,
    pcc: 5n,
    vid: 0x1344,
    ssvid: 0x1af4,
    sn: 'SN',
    mn: 'MN',
    subnqn: 'nqn.x',
    gen_number: 3,
    rci: 0x40001,
  })
  t.is(log.events.length, 2)
  t.like(log.events[0], {
    etype: 4,
    etype_rev: 1,
    ehl: 21,
    cntlid: 0x1234,
    ets: { timestamp: 0x0100_0000_0001, synch: true, origin: 0 },
    vsil: 2,
    el: 6,
    vsi: new Uint8Array([0xaa, 0xbb]),
    data: new Uint8Array([1, 2, 3, 4]),
  })
  t.like(log.events[1], { etype: 3, el: 0 })
  t.deepEqual(new Uint8Array(encodePersistentEventLog(log)), EVENTS)
})

test('persistent events: one that is cut off is left out', (t) => {
  t.is(decodePersistentEventLog(EVENTS.subarray(0, 541)).events.length, 0)
  t.is(decodePersistentEventLog(EVENTS.subarray(0, 542)).events.length, 1)
  t.is(decodePersistentEventLog(EVENTS.subarray(0, 565)).events.length, 1)
})

test('log pages have names', (t) => {
  t.is(logPageName(2), 'SMART / Health Information')
  t.is(logPageName(0x7f), 'Reserved')
  t.is(logPageName(0xc0), 'Vendor Specific')
})

test('too few bytes are a DecodeError', (t) => {
  const lengths = [
    [decodeSmartLog, 512],
    [decodeFirmwareSlotLog, 512],
    [decodeChangedNamespaces, 4096],
    [decodeEffectsLog, 4096],
    [decodeSelfTestLog, 564],
    [decodeTelemetryHeader, 512],
    [decodePersistentEventLog, 512],
    [decodeSanitizeLog, 512],
  ] as const
  for (const [decode, length] of lengths) {
    t.throws(() => decode(new Uint8Array(length - 1)), { instanceOf: DecodeError })
    t.notThrows(() => decode(new Uint8Array(length)))
  }
})
