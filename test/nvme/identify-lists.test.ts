import test from 'ava'
import { DecodeError, OutOfRangeError } from '../../lib/errors.ts'
import {
  decodeIndependentNamespace,
  decodeNamespaceDescriptors,
  encodeIndependentNamespace,
  encodeNamespaceDescriptors,
  formatUuid,
  NAMESPACE_ID_TYPE,
} from '../../lib/nvme/spec/identify.ts'
import { fixture } from './fixture.ts'

const UUID = [0xf8, 0x1d, 0x4f, 0xae, 0x7d, 0xec, 0x11, 0xd0, 0xa7, 0x65, 0, 0xa0, 0xc9, 0x1e, 0x6b, 0xf6]

test('namespace identification descriptors', (t) => {
  const bytes = fixture(4096, [
    [0, [1, 8, 0, 0, 0x00, 0x25, 0x38, 0xb1, 0, 0, 0, 1]],
    [12, [3, 16, 0, 0, ...UUID]],
    [32, [4, 1, 0, 0, 2]],
  ])
  const descriptors = decodeNamespaceDescriptors(bytes)
  t.deepEqual(descriptors, [
    { nidt: NAMESPACE_ID_TYPE.EUI64, nid: '002538b100000001' },
    { nidt: NAMESPACE_ID_TYPE.UUID, nid: 'f81d4fae7dec11d0a76500a0c91e6bf6' },
    { nidt: NAMESPACE_ID_TYPE.CSI, nid: '02' },
  ])
  t.is(formatUuid(descriptors[1]?.nid ?? ''), 'f81d4fae-7dec-11d0-a765-00a0c91e6bf6')
  t.deepEqual(encodeNamespaceDescriptors(descriptors), bytes)
})

test('decodeNamespaceDescriptors: a bad descriptor says so, and does not hide the good ones', (t) => {
  const wrongLength = fixture(4096, [
    [0, [1, 16]],
    [20, [3, 16, 0, 0, ...UUID]],
  ])
  t.deepEqual(decodeNamespaceDescriptors(wrongLength), [
    { nidt: 1, nid: '00'.repeat(16), fault: 'a length of 16 bytes, where type 1 has 8' },
    { nidt: 3, nid: 'f81d4fae7dec11d0a76500a0c91e6bf6' },
  ])
  // A reserved type that ends beyond the data.
  const long = fixture(4096, [])
  for (let at = 0; at < 4096; at += 204) long.set([9, 200], at)
  const descriptors = decodeNamespaceDescriptors(long)
  t.is(descriptors.length, 21)
  t.deepEqual(
    descriptors.filter(({ fault }) => fault !== undefined),
    [{ nidt: 9, nid: '00'.repeat(12), fault: 'a length of 200 bytes, which passes the end of the list' }],
  )
  t.throws(() => decodeNamespaceDescriptors(new Uint8Array(4095)), { instanceOf: DecodeError })
  t.throws(() => encodeNamespaceDescriptors([{ nidt: 3, nid: '00' }]), { instanceOf: OutOfRangeError })
  t.throws(() => encodeNamespaceDescriptors([{ nidt: 4, nid: 'x' }]), { instanceOf: OutOfRangeError })
  const many = Array.from({ length: 205 }, () => ({ nidt: 3, nid: '00'.repeat(16) }))
  t.throws(() => encodeNamespaceDescriptors(many), { instanceOf: OutOfRangeError, message: /4100 bytes/ })
})

test('I/O command set independent namespace', (t) => {
  const bytes = fixture(4096, [[0, [0x10, 1, 0xff, 0x80, 5, 0, 0, 0, 1, 0, 6, 0, 7, 0, 1]]])
  const ns = decodeIndependentNamespace(bytes)
  t.deepEqual(ns, {
    nsfeat: 0x10,
    nmic: 1,
    rescap: 0xff,
    fpi: 0x80,
    anagrpid: 5,
    nsattr: 1,
    nvmsetid: 6,
    endgid: 7,
    nstat: 1,
  })
  t.deepEqual(encodeIndependentNamespace(ns), bytes)
})
