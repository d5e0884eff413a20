import test from 'ava'
import fc from 'fast-check'
import { statusName } from '../../lib/nvme/index.ts'
import { decodeStatus, encodeStatus, STATUS, statusCode } from '../../lib/nvme/spec/status.ts'

test('a status field of all parts', (t) => {
  // Bits: DNR 1, M 0, CRD 10, SCT 010, SC 10000001, P 1.
  const field = 0b1_0_10_010_10000001_1
  t.deepEqual(decodeStatus(field), {
    sct: 2,
    sc: 0x81,
    crd: 2,
    more: false,
    dnr: true,
    name: 'Unrecovered Read Error',
  })
  t.is(statusCode(field), STATUS.UNRECOVERED_READ_ERROR)
  t.is(encodeStatus({ sct: 2, sc: 0x81, crd: 2, dnr: true }, 1), field)
})

test('the phase tag is no part of the status', (t) => {
  t.is(statusCode(1), STATUS.SUCCESS)
  t.deepEqual(decodeStatus(0x4001), decodeStatus(0x4000))
  t.true(decodeStatus(0x4001).more)
})

test('media errors and LBA Out of Range are errors', (t) => {
  // A mask that drops the type, or bit 7 of the code, takes these for success.
  t.is(statusCode(0x0101), STATUS.LBA_OUT_OF_RANGE)
  t.is(decodeStatus(0x0100).name, 'LBA Out of Range')
  t.is(statusCode(0x0500), STATUS.WRITE_FAULT)
  t.is(decodeStatus(0x0501).name, 'Write Fault')
  t.is(statusCode(0x0200), STATUS.COMPLETION_QUEUE_INVALID)
})

test('every constant has a name of its own, and is a whole status field when shifted by one', (t) => {
  const names = new Set<string>()
  for (const [key, code] of Object.entries(STATUS)) {
    const { sct, sc, name } = decodeStatus(code << 1)
    t.is((sct << 8) | sc, code, key)
    t.notRegex(name, /Reserved|Vendor/, key)
    names.add(name)
  }
  t.is(names.size, Object.keys(STATUS).length)
})

test('codes without a name say what they are', (t) => {
  t.is(statusName(0, 0x7f), 'Reserved Generic Command Status (7fh)')
  t.is(statusName(1, 0xc1), 'Vendor Specific Command Specific Status (c1h)')
  t.is(statusName(4, 0x02), 'Reserved Status Code Type (4, 02h)')
  t.is(statusName(7, 0x02), 'Vendor Specific (02h)')
})

test('any 16-bit field comes back from its decoded form', (t) => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 0xffff }), (field) => {
      return encodeStatus(decodeStatus(field), (field & 1) as 0 | 1) === field
    }),
  )
  t.pass()
})
