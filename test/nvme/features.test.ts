import test from 'ava'
import fc from 'fast-check'
import { DecodeError, OutOfRangeError } from '../../lib/errors.ts'
import {
  decodeFeature,
  decodeFeatureCapabilities,
  decodeGetFeatures,
  decodeHostBehavior,
  decodeHostIdentifier,
  decodeHostMemoryBuffer,
  decodeHostMetadata,
  decodeLbaRanges,
  decodePowerStateTransitions,
  decodePredictableLatency,
  decodeSetFeatures,
  decodeTimestamp,
  encodeFeature,
  encodeFeatureCapabilities,
  encodeGetFeatures,
  encodeHostBehavior,
  encodeHostIdentifier,
  encodeHostMemoryBuffer,
  encodeHostMetadata,
  encodeLbaRanges,
  encodePowerStateTransitions,
  encodePredictableLatency,
  encodeSetFeatures,
  encodeTimestamp,
  FEATURE,
  FEATURE_SELECT,
  FEATURE_VALUE,
  featureInfo,
  featureName,
} from '../../lib/nvme/spec/features.ts'
import { fixture } from './fixture.ts'

// Dwords laid by hand from section 5.21.1, each with the fields it stands for.
const VALUES = [
  [FEATURE.ARBITRATION, 0x1f0f0704, { ab: 4, lpw: 7, mpw: 15, hpw: 31 }],
  [FEATURE.POWER_MANAGEMENT, 0x00000044, { ps: 4, wh: 2 }],
  [FEATURE.LBA_RANGE_TYPE, 0x0000003f, { num: 63 }],
  [FEATURE.TEMPERATURE_THRESHOLD, 0x0012015d, { tmpth: 349, tmpsel: 2, thsel: 1 }],
  [FEATURE.ERROR_RECOVERY, 0x00010064, { tler: 100, dulbe: true }],
  [FEATURE.VOLATILE_WRITE_CACHE, 0x00000001, { wce: true }],
  [FEATURE.NUMBER_OF_QUEUES, 0x000f001f, { nsq: 31, ncq: 15 }],
  [FEATURE.INTERRUPT_COALESCING, 0x00000a07, { thr: 7, time: 10 }],
  [FEATURE.INTERRUPT_VECTOR_CONFIGURATION, 0x00010203, { iv: 0x203, cd: true }],
  [FEATURE.WRITE_ATOMICITY, 0x00000001, { dn: true }],
  [
    FEATURE.ASYNC_EVENT_CONFIGURATION,
    0x0000a51f,
    {
      smart: 0x1f,
      nan: true,
      fan: false,
      tln: true,
      anacn: false,
      plealcn: false,
      lsian: true,
      egealcn: false,
      nnsshdn: true,
    },
  ],
  [FEATURE.AUTONOMOUS_POWER_STATE, 0x00000001, { apste: true }],
  [FEATURE.HOST_MEMORY_BUFFER, 0x00000003, { ehm: true, mr: true }],
  [FEATURE.KEEP_ALIVE_TIMER, 0x80000001, { kato: 0x8000_0001 }],
  [FEATURE.THERMAL_MANAGEMENT, 0x01570161, { tmt1: 343, tmt2: 353 }],
  [FEATURE.NON_OPERATIONAL_POWER_STATE, 0x00000001, { noppme: true }],
  [FEATURE.READ_RECOVERY_LEVEL, 0x0000000f, { rrl: 15 }],
  [FEATURE.PREDICTABLE_LATENCY_CONFIG, 0x00000001, { ple: true }],
  [FEATURE.PREDICTABLE_LATENCY_WINDOW, 0x00000002, { ws: 2 }],
  [FEATURE.LBA_STATUS_INTERVAL, 0x00020001, { lsiri: 1, lsipi: 2 }],
  [FEATURE.SANITIZE_CONFIG, 0x00000001, { nodrm: true }],
  [FEATURE.ENDURANCE_GROUP_EVENT, 0x000d0007, { endgid: 7, egcw: 13 }],
  [FEATURE.IO_COMMAND_SET_PROFILE, 0x000001ff, { iocsci: 511 }],
  [FEATURE.SPINUP_CONTROL, 0x00000001, { spinup: true }],
  [FEATURE.SOFTWARE_PROGRESS_MARKER, 0x000000fe, { pbslc: 254 }],
  [FEATURE.HOST_IDENTIFIER, 0x00000001, { exhid: true }],
  [FEATURE.RESERVATION_NOTIFICATION_MASK, 0x0000000a, { regpre: true, resrel: false, respre: true }],
  [FEATURE.RESERVATION_PERSISTENCE, 0x00000001, { ptpl: true }],
  [FEATURE.WRITE_PROTECTION, 0x00000003, { wps: 3 }],
] as const

test('every feature value that is a dword', (t) => {
  for (const [fid, dword, fields] of VALUES) {
    t.deepEqual({ ...decodeFeature(fid as number, dword) }, fields, featureName(fid))
    t.is(encodeFeature(fid as number, fields), dword, featureName(fid))
  }
  t.deepEqual(VALUES.map(([fid]) => String(fid)).sort(), [...FEATURE_VALUE.keys()].map(String).sort())
})

test('a value is its fields and nothing else', (t) => {
  fc.assert(
    fc.property(fc.constantFrom(...VALUES), fc.nat(0xffff_ffff), ([fid], dword) => {
      const fields = decodeFeature(fid as number, dword)
      const again = encodeFeature(fid as number, fields)
      t.deepEqual(decodeFeature(fid as number, again), fields)
      t.is((again & ~dword) >>> 0, 0)
    }),
  )
})

test('a feature without fields is its dword', (t) => {
  t.deepEqual(decodeFeature(0xc0, 0xdeadbeef), { value: 0xdeadbeef })
  t.is(encodeFeature(0xc0, { value: 0xdeadbeef }), 0xdeadbeef)
  t.is(encodeFeature(FEATURE.NUMBER_OF_QUEUES, { nsq: 3 }), 3)
  t.throws(() => encodeFeature(FEATURE.NUMBER_OF_QUEUES, { nsq: 65536 }), {
    instanceOf: OutOfRangeError,
    message: /^nsq: 65536/,
  })
})

test('features have names, data and a scope', (t) => {
  t.deepEqual(featureInfo(FEATURE.LBA_RANGE_TYPE), {
    name: 'LBA Range Type',
    getBytes: 4096,
    setBytes: 4096,
    namespaceSpecific: true,
    dword: 11,
  })
  t.like(featureInfo(FEATURE.HOST_MEMORY_BUFFER), { getBytes: 4096, setBytes: 0 })
  t.like(featureInfo(FEATURE.READ_RECOVERY_LEVEL), { dword: 12, getBytes: 0 })
  t.is(featureName(0xc1), 'Vendor Specific')
  t.is(featureName(0x7c), 'Reserved')
  for (const fid of Object.values(FEATURE)) t.not(featureName(fid), 'Reserved')
})

test('dword 10 of Get Features and Set Features', (t) => {
  t.is(encodeGetFeatures({ fid: FEATURE.NUMBER_OF_QUEUES, sel: FEATURE_SELECT.SUPPORTED }), 0x307)
  t.deepEqual(decodeGetFeatures(0x207), { fid: 7, sel: FEATURE_SELECT.SAVED })
  t.is(encodeSetFeatures({ fid: 0x84, sv: true }), 0x8000_0084)
  t.deepEqual(decodeSetFeatures(0x8000_0006), { fid: 6, sv: true })
  t.deepEqual(decodeFeatureCapabilities(5), { saveable: true, namespaceSpecific: false, changeable: true })
  t.is(encodeFeatureCapabilities({ namespaceSpecific: true, changeable: true }), 6)
})

test('LBA ranges', (t) => {
  const bytes = fixture(4096, [
    [0, [1, 3]],
    [16, [0x00, 0x08, 0, 0, 0, 0, 0, 0]],
    [24, [0xff, 0xff, 0, 0, 1, 0, 0, 0]],
    [32, [0xaa, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xbb]],
    [64, [0x80]],
  ])
  const ranges = decodeLbaRanges(bytes, 2)
  t.is(ranges.length, 2)
  t.deepEqual(ranges[0], {
    type: 1,
    overwriteable: true,
    hidden: true,
    slba: 2048n,
    nlb: 0x1_0000_ffffn,
    guid: 'aa0000000000000000000000000000bb',
  })
  t.is(decodeLbaRanges(bytes).length, 64)
  t.deepEqual(encodeLbaRanges(ranges), bytes)
})

test('autonomous power state transitions', (t) => {
  // State 0 goes to state 3 after 100 ms, state 1 to state 31 after the longest time.
  const bytes = fixture(256, [[0, [0x18, 0x64, 0, 0, 0, 0, 0, 0, 0xf8, 0xff, 0xff, 0xff]]])
  const entries = decodePowerStateTransitions(bytes)
  t.is(entries.length, 32)
  t.deepEqual(entries[0], { itps: 3, itpt: 100 })
  t.deepEqual(entries[1], { itps: 31, itpt: 0xff_ffff })
  t.deepEqual(encodePowerStateTransitions(entries.slice(0, 2)), bytes)
})

test('host memory buffer, predictable latency, host behavior', (t) => {
  const hmb = fixture(4096, [[0, [0, 2, 0, 0, 0, 0x10, 0, 0xf0, 1, 0, 0, 0, 8, 0, 0, 0]]])
  t.deepEqual(decodeHostMemoryBuffer(hmb), { hsize: 512, hmdlal: 0xf0001000, hmdlau: 1, hmdlec: 8 })
  t.deepEqual(encodeHostMemoryBuffer(decodeHostMemoryBuffer(hmb)), hmb)

  const plm = fixture(512, [
    [0, [3, 0x80]],
    [32, [1, 0, 0, 0, 0, 0, 0, 0x80, 2, 0, 0, 0, 0, 0, 0, 0, 3]],
  ])
  const latency = { ee: 0x8003, dtwinrt: 0x8000_0000_0000_0001n, dtwinwt: 2n, dtwintt: 3n }
  t.deepEqual(decodePredictableLatency(plm), latency)
  t.deepEqual(encodePredictableLatency(latency), plm)

  const behavior = fixture(512, [[0, [1, 0, 1]]])
  t.deepEqual(decodeHostBehavior(behavior), { acre: 1, etdas: 0, lbafee: 1 })
  t.deepEqual(encodeHostBehavior({ acre: 1, lbafee: 1 }), behavior)
})

test('timestamp', (t) => {
  // 2021-01-01T00:00:00Z in milliseconds, set by the host.
  const bytes = new Uint8Array([0x00, 0x70, 0x3e, 0xbb, 0x76, 0x01, 0x02, 0])
  t.deepEqual(decodeTimestamp(bytes), { timestamp: Date.UTC(2021, 0, 1), synch: false, origin: 1 })
  t.deepEqual(encodeTimestamp(decodeTimestamp(bytes)), bytes)
  t.throws(() => encodeTimestamp({ timestamp: 2 ** 48 }), { instanceOf: OutOfRangeError })
})

test('host identifier and metadata', (t) => {
  const hostid = new Uint8Array([1, 2, 3, 4, 5, 6, 7, 8])
  t.is(decodeHostIdentifier(hostid, false), '0102030405060708')
  t.deepEqual(encodeHostIdentifier('0102030405060708'), hostid)
  t.throws(() => decodeHostIdentifier(hostid, true), { instanceOf: DecodeError })
  t.is(encodeHostIdentifier('00'.repeat(16)).length, 16)

  const bytes = fixture(4096, [[0, [2, 0, 1, 0, 4, 0, 0x61, 0x62, 0x63, 0x64, 2, 1, 0, 0]]])
  const elements = decodeHostMetadata(bytes)
  t.deepEqual(elements, [
    { type: 1, revision: 0, value: new Uint8Array(Buffer.from('abcd')) },
    { type: 2, revision: 1, value: new Uint8Array() },
  ])
  t.deepEqual(encodeHostMetadata(elements), bytes)
  const large = { type: 1, revision: 0, value: new Uint8Array(4091) }
  t.throws(() => encodeHostMetadata([large]), { instanceOf: OutOfRangeError })
  bytes.set([0xff, 0xff], 4)
  // The first one passes the end: what is there of it.
  t.is(decodeHostMetadata(bytes).length, 1)
  t.throws(() => decodeHostMetadata(bytes.subarray(1)), { instanceOf: DecodeError })
})
