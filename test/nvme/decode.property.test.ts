import test from 'ava'
import fc from 'fast-check'
import { DecodeError } from '../../lib/errors.ts'
import * as nvme from '../../lib/nvme/index.ts'

// Every decoder of a data structure, with the encoder that undoes it.
const DECODERS = {
  IdentifyController: [nvme.decodeIdentifyController, nvme.encodeIdentifyController, 4096],
  IdentifyNamespace: [nvme.decodeIdentifyNamespace, nvme.encodeIdentifyNamespace, 4096],
  CommandSetNamespace: [nvme.decodeCommandSetNamespace, nvme.encodeCommandSetNamespace, 4096],
  CommandSetController: [nvme.decodeCommandSetController, nvme.encodeCommandSetController, 4096],
  IndependentNamespace: [nvme.decodeIndependentNamespace, nvme.encodeIndependentNamespace, 4096],
  NamespaceList: [nvme.decodeNamespaceList, nvme.encodeNamespaceList, 4096],
  ControllerList: [nvme.decodeControllerList, nvme.encodeControllerList, 4096],
  NamespaceDescriptors: [nvme.decodeNamespaceDescriptors, nvme.encodeNamespaceDescriptors, 4096],
  ErrorLog: [nvme.decodeErrorLog, nvme.encodeErrorLog, 640],
  SmartLog: [nvme.decodeSmartLog, nvme.encodeSmartLog, 512],
  FirmwareSlotLog: [nvme.decodeFirmwareSlotLog, nvme.encodeFirmwareSlotLog, 512],
  ChangedNamespaces: [nvme.decodeChangedNamespaces, nvme.encodeChangedNamespaces, 4096],
  EffectsLog: [nvme.decodeEffectsLog, nvme.encodeEffectsLog, 4096],
  SelfTestLog: [nvme.decodeSelfTestLog, nvme.encodeSelfTestLog, 564],
  TelemetryHeader: [nvme.decodeTelemetryHeader, nvme.encodeTelemetryHeader, 512],
  PersistentEventHeader: [nvme.decodePersistentEventHeader, null, 512],
  PersistentEventLog: [nvme.decodePersistentEventLog, null, 2048],
  AnaLog: [nvme.decodeAnaLog, null, 16],
  SanitizeLog: [nvme.decodeSanitizeLog, nvme.encodeSanitizeLog, 512],
  Timestamp: [nvme.decodeTimestamp, nvme.encodeTimestamp, 8],
  LbaRanges: [nvme.decodeLbaRanges, nvme.encodeLbaRanges, 4096],
  PowerStateTransitions: [nvme.decodePowerStateTransitions, nvme.encodePowerStateTransitions, 256],
  HostMemoryBuffer: [nvme.decodeHostMemoryBuffer, nvme.encodeHostMemoryBuffer, 4096],
  PredictableLatency: [nvme.decodePredictableLatency, nvme.encodePredictableLatency, 512],
  HostBehavior: [nvme.decodeHostBehavior, nvme.encodeHostBehavior, 512],
  DsmRanges: [nvme.decodeDsmRanges, null, 4096],
  LbaStatusList: [nvme.decodeLbaStatusList, null, 4096],
  HostMetadata: [nvme.decodeHostMetadata, nvme.encodeHostMetadata, 4096],
} as unknown as Record<
  string,
  [(bytes: Uint8Array) => unknown, ((value: unknown) => Uint8Array) | null, number]
>

const anyBytes = fc.uint8Array({ minLength: 0, maxLength: 4200, size: 'max' })

/** What a decoder gives, or its DecodeError; any other error passes through and fails the test. */
function attempt(decode: (bytes: Uint8Array) => unknown, bytes: Uint8Array): unknown {
  try {
    return decode(bytes)
  } catch (error) {
    if (error instanceof DecodeError) return error.message
    throw error
  }
}

test('every exported decoder of a data structure is in the list', (t) => {
  const listed = new Set(Object.keys(DECODERS).map((name) => `decode${name}`))
  // These take a number, or a second argument, and have tests of their own.
  const others =
    /Status|Feature|Effects$|AsyncEvent|Capabilities|Configuration|HostIdentifier|DsmAttributes|FirmwareCommit|FirmwareDownload|Format$|GetLogPage|NamespaceSelect|Queue$|CreateCq$|CreateSq$|AdminQueues$|Sanitize$|SelfTest$/
  const exported = Object.keys(nvme).filter((name) => name.startsWith('decode') && !others.test(name))
  t.deepEqual(
    exported.filter((name) => !listed.has(name)),
    [],
  )
})

for (const [name, [decode, encode, length]] of Object.entries(DECODERS)) {
  test(`${name}: arbitrary bytes give a value or a DecodeError, and nothing around them matters`, (t) => {
    fc.assert(
      fc.property(anyBytes, fc.integer({ min: 0, max: 255 }), (bytes, around) => {
        const room = new Uint8Array(bytes.length + 8192).fill(around)
        room.set(bytes, 33)
        t.deepEqual(attempt(decode, room.subarray(33, 33 + bytes.length)), attempt(decode, bytes))
      }),
      { numRuns: 30 },
    )
  })

  if (encode === null) continue
  test(`${name}: what was decoded is decoded again from its encoding`, (t) => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: length, maxLength: length, size: 'max' }), (bytes) => {
        calm(name, bytes)
        const value = attempt(decode, bytes)
        if (typeof value === 'string') return
        const encoded = encode(value)
        t.true(encoded.length <= length)
        t.deepEqual(decode(encoded), value)
      }),
      { numRuns: 30 },
    )
  })
}

// Random bytes are rarely a valid structure: make those valid that would always be refused.
function calm(name: string, bytes: Uint8Array): void {
  // Sizes of more than 53 bits.
  if (name === 'IdentifyNamespace') for (const at of [0, 8, 16]) bytes.set([0x1f, 0], at + 6)
  // Text that is no UTF-8 grows when it is written again.
  if (name === 'IdentifyController') bytes.fill(0x41, 768, 1024)
  if (name === 'ControllerList') bytes[1]! &= 7
  if (name === 'NamespaceDescriptors') {
    // EUI-64, command set, UUID, and the end.
    bytes.set([1, 8], 0)
    bytes.set([4, 1], 12)
    bytes.set([3, 16], 17)
    bytes[38] = 0
  }
  if (name === 'HostMetadata') for (const at of [0, 4, 5]) bytes[at] = 1
}
