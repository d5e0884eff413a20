import test from 'ava'
import fc from 'fast-check'
import { DecodeError } from '../../lib/errors.ts'
import { readIovaRanges, readMappingsLeft } from '../../lib/vfio/capabilities.ts'
import { decodeIommuInfo } from '../../lib/vfio/structs.ts'
import { decodeRegion, readCapabilities, readMappableAreas } from '../../lib/vfio-abi/region.ts'

// An answer with capabilities from offset 32 on: each is [id, payload].
function answer(...caps: [id: number, payload: Buffer][]): Buffer {
  const parts: Buffer[] = [Buffer.alloc(32)]
  let offset = 32
  caps.forEach(([id, payload], i) => {
    const header = Buffer.alloc(8)
    header.writeUInt16LE(id, 0)
    header.writeUInt16LE(1, 2)
    offset += 8 + payload.length
    header.writeUInt32LE(i === caps.length - 1 ? 0 : offset, 4)
    parts.push(header, payload)
  })
  return Buffer.concat(parts)
}

function pairs(...list: [bigint, bigint][]): Buffer {
  const b = Buffer.alloc(8 + 16 * list.length)
  b.writeUInt32LE(list.length)
  list.forEach(([first, second], i) => {
    b.writeBigUInt64LE(first, 8 + 16 * i)
    b.writeBigUInt64LE(second, 16 + 16 * i)
  })
  return b
}

test('a chain in its order, and none', (t) => {
  const b = answer([3, Buffer.alloc(0)], [1, pairs()])
  t.deepEqual(readCapabilities(b, 32), [
    { id: 3, version: 1, offset: 32 },
    { id: 1, version: 1, offset: 40 },
  ])
  t.deepEqual(readCapabilities(b, 0), [])
})

test('mappable areas: those of the sparse capability, sorted, empty ones left out', (t) => {
  const b = answer([3, Buffer.alloc(0)], [1, pairs([0x3000n, 0x1000n], [0x2000n, 0n], [0n, 0x2000n])])
  t.deepEqual(readMappableAreas(b, 32, 0x4000), [
    { offset: 0, size: 0x2000 },
    { offset: 0x3000, size: 0x1000 },
  ])
})

test('without a sparse capability, all of the region is mappable', (t) => {
  t.deepEqual(readMappableAreas(answer([3, Buffer.alloc(0)]), 32, 0x4000), [{ offset: 0, size: 0x4000 }])
})

test('an area outside its region', (t) => {
  t.throws(() => readMappableAreas(answer([1, pairs([0x3000n, 0x2000n])]), 32, 0x4000), {
    instanceOf: DecodeError,
  })
})

test('IOVA ranges as VT-d reports them, and mappings left', (t) => {
  const left = Buffer.alloc(4)
  left.writeUInt32LE(65535)
  const b = answer([1, pairs([0n, 0xfedf_ffffn], [0xfef0_0000n, 0x7f_ffff_ffffn])], [3, left])
  t.deepEqual(readIovaRanges(b, 32), [
    { first: 0, last: 0xfedf_ffff },
    { first: 0xfef0_0000, last: 2 ** 39 - 1 },
  ])
  t.is(readMappingsLeft(b, 32), 65535)
})

test('ranges beyond 2^53 end there; an old kernel tells neither', (t) => {
  const b = answer([1, pairs([0n, 2n ** 64n - 1n])])
  t.deepEqual(readIovaRanges(b, 32), [{ first: 0, last: Number.MAX_SAFE_INTEGER }])
  t.is(readIovaRanges(Buffer.alloc(64), 0), null)
  t.is(readMappingsLeft(Buffer.alloc(64), 0), null)
})

test('a chain that returns to itself, or leaves the answer', (t) => {
  const b = answer([3, Buffer.alloc(0)])
  b.writeUInt32LE(32, 36)
  t.throws(() => readCapabilities(b, 32), { instanceOf: DecodeError, message: /returns/ })
  t.throws(() => readCapabilities(b, 33), { instanceOf: DecodeError })
  t.throws(() => readCapabilities(b, 0xffff_fff0), { instanceOf: DecodeError })
})

test('any bytes decode, or give a DecodeError', (t) => {
  const chain = fc
    .array(fc.tuple(fc.constantFrom(1, 2, 3), fc.uint8Array({ maxLength: 48 })), {
      minLength: 1,
      maxLength: 4,
    })
    .map((caps) => answer(...caps.map(([id, payload]): [number, Buffer] => [id, Buffer.from(payload)])))
  const bytes = fc.oneof(
    chain,
    fc.uint8Array({ maxLength: 256 }).map((b) => Buffer.from(b)),
    fc.tuple(chain, fc.nat(), fc.nat({ max: 255 })).map(([b, at, value]) => {
      b[at % b.length] = value
      return b
    }),
  )
  const calls = [
    (b: Buffer, first: number) => readCapabilities(b, first),
    (b: Buffer, first: number) => readMappableAreas(b, first, 0x4000),
    (b: Buffer, first: number) => readIovaRanges(b, first),
    (b: Buffer, first: number) => readMappingsLeft(b, first),
    (b: Buffer) => decodeRegion(b),
    (b: Buffer) => decodeIommuInfo(b),
  ]
  let decoded = 0
  fc.assert(
    fc.property(bytes, fc.oneof(fc.constant(32), fc.nat({ max: 300 })), (b, first) => {
      for (const call of calls) {
        try {
          call(b, first)
          decoded++
        } catch (error) {
          if (!(error instanceof DecodeError)) throw error
        }
      }
    }),
    { numRuns: 2000 },
  )
  t.true(decoded > 0)
})
