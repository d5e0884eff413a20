// Messages of vfio-user byte by byte, and what decoders do with bytes that are none.

import test from 'ava'
import fc from 'fast-check'
import { DecodeError } from '../../lib/errors.ts'
import {
  decodeDeviceInfo,
  decodeIrqInfo,
  decodeIrqSet,
  decodeRegionRequest,
  encodeDeviceInfo,
  encodeIrqInfo,
  encodeIrqSet,
  encodeRegionRequest,
  irqSetFlags,
} from '../../lib/vfio-abi/device.ts'
import { decodeRegion } from '../../lib/vfio-abi/region.ts'
import { COMMAND, commandName } from '../../lib/vfio-user/constants.ts'
import {
  decodeDmaMap,
  decodeDmaUnmap,
  decodeHeader,
  decodeRegionAccess,
  encodeDmaMap,
  encodeDmaUnmap,
  encodeMessage,
  encodeRegion,
  encodeRegionAccess,
} from '../../lib/vfio-user/structs.ts'
import { decodeVersion, encodeVersion } from '../../lib/vfio-user/version.ts'
import { hex } from './wire.ts'

test('a message: id, command, size with its header, flags, errno, then the payload', (t) => {
  const message = encodeMessage({ id: 0x1234, command: COMMAND.REGION_READ, flags: 1 }, hex('aabbcc'))
  t.deepEqual(message, hex('3412 0900 13000000 01000000 00000000 aabbcc'))
  const refusal = encodeMessage({ id: 7, command: COMMAND.DMA_UNMAP, flags: 0x21 }, Buffer.alloc(0), 2)
  t.deepEqual(refusal, hex('0700 0300 10000000 21000000 02000000'), 'an error reply is the header alone')
  t.deepEqual(decodeHeader(refusal), { id: 7, command: 3, size: 16, flags: 0x21, errno: 2 })
})

test('commands by number', (t) => {
  t.deepEqual(Object.values(COMMAND), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13])
  t.is(commandName(8), 'SET_IRQS')
  t.is(commandName(99), 'command 99')
})

test('VERSION: two numbers, and JSON with a NUL at its end', (t) => {
  const bytes = Buffer.concat([
    hex('0000 0100'),
    Buffer.from('{"capabilities":{"max_msg_fds":8,"max_data_xfer_size":1048576}}\0'),
  ])
  const version = { major: 0, minor: 1, capabilities: { maxMsgFds: 8, maxDataXferSize: 1048576 } }
  t.deepEqual(encodeVersion(version), bytes)
  t.deepEqual(decodeVersion(bytes), version)
})

test('VERSION without JSON, or without some of it: the defaults of the protocol', (t) => {
  const defaults = { maxMsgFds: 1, maxDataXferSize: 1048576 }
  for (const json of ['', '{}\0', '{"capabilities":{}}\0', '{"other":[1],"capabilities":{"new":{}}}\0']) {
    const bytes = Buffer.concat([hex('0000 0200'), Buffer.from(json)])
    t.deepEqual(decodeVersion(bytes), { major: 0, minor: 2, capabilities: defaults }, json)
  }
})

test('VERSION that can not be understood', (t) => {
  const deep = `{"capabilities":${'['.repeat(1e5)}${']'.repeat(1e5)}}\0`
  const bad = ['{', '{}', '\0', '[\0', 'null\0', '7\0', '{"capabilities":7}\0', '{"capabilities":null}\0']
  const fds = [0, -1, 1.5, '8', null, {}, [[]]].map(
    (value) => `${JSON.stringify({ capabilities: { max_msg_fds: value } })}\0`,
  )
  const nested = deep.replace('{"capabilities":', '{"capabilities":{"max_msg_fds":').replace('}\0', '}}\0')
  for (const json of [...bad, ...fds, nested]) {
    const bytes = Buffer.concat([hex('0000 0100'), Buffer.from(json)])
    t.throws(() => decodeVersion(bytes), { instanceOf: DecodeError }, json.slice(0, 60))
  }
  t.throws(() => decodeVersion(hex('000001')), { instanceOf: DecodeError })
})

test('DMA_MAP: argsz 32, flags, offset, iova, size', (t) => {
  const map = { flags: 3, offset: 0x2000, iova: 0x12_3456_7000, size: 0x80_0000 }
  const bytes = hex('20000000 03000000 0020000000000000 0070563412000000 0000800000000000')
  t.deepEqual(encodeDmaMap(map), bytes)
  t.deepEqual(decodeDmaMap(bytes), map)
})

test('DMA_UNMAP: argsz 24, flags, iova, size', (t) => {
  const unmap = { flags: 0, iova: 0x1_0000_0000, size: 0x1000 }
  const bytes = hex('18000000 00000000 0000000001000000 0010000000000000')
  t.deepEqual(encodeDmaUnmap(unmap), bytes)
  t.deepEqual(decodeDmaUnmap(bytes), unmap)
})

test('GET_INFO: argsz 16, flags, regions, irqs', (t) => {
  t.deepEqual(encodeDeviceInfo({ flags: 0, regions: 0, irqs: 0 }), hex('10000000 00000000 00000000 00000000'))
  const bytes = hex('10000000 03000000 09000000 05000000')
  t.deepEqual(encodeDeviceInfo({ flags: 3, regions: 9, irqs: 5 }), bytes)
  t.deepEqual(decodeDeviceInfo(bytes), { flags: 3, regions: 9, irqs: 5 })
})

test('GET_REGION_INFO asks with argsz 4096', (t) => {
  const bytes = hex('00100000 00000000 07000000 00000000 0000000000000000 0000000000000000')
  t.deepEqual(encodeRegionRequest(7), bytes)
  t.deepEqual(decodeRegionRequest(bytes), { argsz: 4096, index: 7 })
})

test('GET_REGION_INFO, the reply: BAR 0 with one area, the doorbells', (t) => {
  const bytes = hex(`
    40000000 0f000000 00000000 20000000 0020000000000000 0000000000000000
    0100 0100 00000000 01000000 00000000 0010000000000000 0010000000000000`)
  const areas = [{ offset: 0x1000, size: 0x1000 }]
  t.deepEqual(encodeRegion({ index: 0, flags: 0xf, size: 0x2000, areas }), bytes)
  t.deepEqual(decodeRegion(bytes), { flags: 0xf, capOffset: 0x20, size: 0x2000, offset: 0, areas })
  const plain = hex('20000000 03000000 07000000 00000000 0010000000000000 0000000000000000')
  t.deepEqual(encodeRegion({ index: 7, flags: 3, size: 0x1000, areas: [] }), plain)
  t.deepEqual(decodeRegion(plain).areas, [])
})

test('GET_IRQ_INFO: argsz 16, flags, index, count', (t) => {
  t.deepEqual(encodeIrqInfo({ flags: 0, index: 2, count: 0 }), hex('10000000 00000000 02000000 00000000'))
  t.deepEqual(decodeIrqInfo(hex('10000000 01000000 02000000 11000000')), { flags: 1, index: 2, count: 17 })
})

test('SET_IRQS: argsz 20, flags 24h with eventfds and 21h without, index, start, count', (t) => {
  const set = { flags: irqSetFlags(8), index: 2, start: 8, count: 8 }
  const bytes = hex('14000000 24000000 02000000 08000000 08000000')
  t.deepEqual(encodeIrqSet(set), bytes)
  t.deepEqual(decodeIrqSet(bytes), set)
  const off = hex('14000000 21000000 02000000 00000000 00000000')
  t.deepEqual(encodeIrqSet({ flags: irqSetFlags(0), index: 2, start: 0, count: 0 }), off)
})

test('REGION_READ and REGION_WRITE: offset, region, count, data', (t) => {
  const access = { offset: 0x14, region: 0, count: 4 }
  t.deepEqual(encodeRegionAccess(access), hex('1400000000000000 00000000 04000000'))
  const write = encodeRegionAccess(access, hex('01006000'))
  t.deepEqual(write, hex('1400000000000000 00000000 04000000 01006000'))
  t.deepEqual(decodeRegionAccess(write), access)
})

test('whatever the bytes, a decoder returns a structure or throws DecodeError', (t) => {
  const decoders = [
    decodeDmaMap,
    decodeDmaUnmap,
    decodeDeviceInfo,
    decodeRegionRequest,
    decodeRegion,
    decodeIrqInfo,
    decodeIrqSet,
    decodeRegionAccess,
    decodeVersion,
  ]
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 96 }), fc.constantFrom(...decoders), (bytes, decode) => {
      try {
        return typeof decode(Buffer.from(bytes)) === 'object'
      } catch (error) {
        return error instanceof DecodeError
      }
    }),
    { numRuns: 20_000 },
  )
  t.pass()
})
