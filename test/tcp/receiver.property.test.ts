// PDUs out of a stream of bytes: whatever pieces they come in, what is sent is what is received, and what must not be is
// refused with the field's name.

import test from 'ava'
import fc from 'fast-check'
import { crc32c } from '../../lib/nvme/tcp/crc32c.ts'
import {
  checkIcResp,
  decodeIcReq,
  decodeIcResp,
  describeTermReq,
  encodeIcReq,
  encodeIcResp,
  encodeTermReq,
  PDU,
  typeSet,
  violation,
  writeCommon,
} from '../../lib/nvme/tcp/pdu.ts'
import { Receiver } from '../../lib/nvme/tcp/receiver.ts'

interface Agreed {
  hdgst: boolean
  ddgst: boolean
}

interface Sent {
  type: number
  fields: Uint8Array
  data: Uint8Array
  padding: number
}

const WITH_DATA = [PDU.C2H_DATA, PDU.H2C_DATA] as const
const HLEN: Record<number, number> = { [PDU.CAPSULE_CMD]: 72 }

function encode({ type, fields, data, padding }: Sent, { hdgst, ddgst }: Agreed): Buffer {
  const hlen = HLEN[type] ?? 24
  const withData = data.length > 0
  const pdo = withData ? Math.ceil((hlen + (hdgst ? 4 : 0)) / 4) * 4 + padding * 4 : 0
  const end = withData ? pdo : hlen + (hdgst ? 4 : 0)
  const plen = end + data.length + (withData && ddgst ? 4 : 0)
  const pdu = Buffer.alloc(plen)
  writeCommon(pdu, 0, type, (hdgst ? 1 : 0) | (withData && ddgst ? 2 : 0), hlen, pdo, plen)
  pdu.set(fields.subarray(0, hlen - 8), 8)
  if (hdgst) pdu.writeUInt32LE(crc32c(pdu, 0, hlen), hlen)
  pdu.set(data, end)
  if (withData && ddgst) pdu.writeUInt32LE(crc32c(data), end + data.length)
  return pdu
}

const ALL = typeSet(PDU.CAPSULE_CMD, PDU.CAPSULE_RESP, PDU.C2H_DATA, PDU.H2C_DATA, PDU.R2T)

/** Feeds a stream in pieces, and gives back what came. */
function receive(stream: Buffer, pieces: readonly number[], agreed: Agreed, accepted = ALL) {
  const got: { head: Buffer; data: Buffer; intact: boolean }[] = []
  let data = Buffer.alloc(0)
  const receiver = new Receiver({
    accepted,
    mostData: 1000,
    onHeader({ layout }) {
      data = Buffer.alloc(layout.data)
      receiver.store({ bytes: data }, 0)
    },
    onPdu({ head, layout }, intact) {
      got.push({ head: Buffer.from(head.subarray(0, layout.hlen)), data, intact })
    },
  })
  receiver.agreement = agreed
  for (let at = 0, i = 0; at < stream.length; i++) {
    const n = Math.min(stream.length - at, Math.max(1, pieces[i % Math.max(1, pieces.length)] ?? 7))
    receiver.feed(stream.subarray(at, at + n), n)
    at += n
  }
  return got
}

const digests = fc.record({ hdgst: fc.boolean(), ddgst: fc.boolean() })
const sent = fc
  .record({
    type: fc.constantFrom(PDU.CAPSULE_CMD, PDU.CAPSULE_RESP, PDU.R2T, ...WITH_DATA),
    fields: fc.uint8Array({ minLength: 64, maxLength: 64 }),
    data: fc.uint8Array({ minLength: 1, maxLength: 200 }),
    padding: fc.nat(3),
  })
  .map((pdu) => {
    const carries = (WITH_DATA as readonly number[]).includes(pdu.type) || pdu.type === PDU.CAPSULE_CMD
    return carries ? pdu : { ...pdu, data: new Uint8Array(0) }
  })

test('PDUs come out of any pieces as they went in', (t) => {
  fc.assert(
    fc.property(
      fc.array(sent, { minLength: 1, maxLength: 8 }),
      fc.array(fc.integer({ min: 1, max: 90 }), { maxLength: 6 }),
      digests,
      (pdus, pieces, agreed) => {
        const stream = Buffer.concat(pdus.map((pdu) => encode(pdu, agreed)))
        const got = receive(stream, pieces, agreed)
        return (
          got.length === pdus.length &&
          pdus.every(({ type, fields, data }, i) => {
            const { head, data: came, intact } = got[i]!
            const same = head.subarray(8).equals(Buffer.from(fields.subarray(0, head.length - 8)))
            return head[0] === type && intact && same && came.equals(Buffer.from(data))
          })
        )
      },
    ),
  )
  t.pass()
})

test('one wrong bit in data is found by its digest, and in a header ends all', (t) => {
  fc.assert(
    fc.property(sent, fc.nat(), fc.nat(7), (pdu, at, bit) => {
      const agreed = { hdgst: true, ddgst: true }
      const stream = encode(pdu, agreed)
      const hlen = HLEN[pdu.type] ?? 24
      const inHeader = hlen - 8
      const from = 8 + (at % inHeader)
      const broken = Buffer.from(stream)
      broken[from]! ^= 1 << bit
      t.throws(() => receive(broken, [], agreed), {
        code: 'ERR_UNVME_PROTOCOL',
        message: /header digest is wrong/,
      })
      if (pdu.data.length === 0) return
      const spoiled = Buffer.from(stream)
      spoiled[stream.length - 4 - 1 - (at % pdu.data.length)]! ^= 1 << bit
      t.false(receive(spoiled, [], agreed)[0]!.intact)
    }),
    { numRuns: 50 },
  )
})

test('any bytes at all are PDUs, or a violation that names a field', (t) => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 400 }), digests, (bytes, agreed) => {
      try {
        receive(Buffer.from(bytes), [], agreed)
      } catch (error) {
        const { code, fes } = error as { code: string; fes: number }
        return code === 'ERR_UNVME_PROTOCOL' && fes >= 1 && fes <= 6
      }
      return true
    }),
  )
  t.pass()
})

const RESPONSE = encode(
  { type: PDU.CAPSULE_RESP, fields: new Uint8Array(64), data: new Uint8Array(0), padding: 0 },
  { hdgst: false, ddgst: false },
)
const READ = encode(
  { type: PDU.C2H_DATA, fields: new Uint8Array(64), data: new Uint8Array(16), padding: 0 },
  { hdgst: false, ddgst: false },
)

for (const [what, pdu, at, value, message, fei] of [
  ['a type that does not exist', RESPONSE, 0, 0x0a, /PDU type ah does not exist/, 0],
  ['a type that may not come', RESPONSE, 0, PDU.IC_RESP, /ICResp is not expected/, 0],
  ['a header digest that was not agreed on', RESPONSE, 1, 1, /CapsuleResp: HDGSTF is 1/, 1],
  ['a data digest that was not agreed on', READ, 1, 2, /C2HData: DDGSTF is 1/, 1],
  ['another length of its header', RESPONSE, 2, 23, /CapsuleResp: HLEN is 23, 24 is needed/, 2],
  ['data inside of the header', READ, 3, 20, /C2HData: PDO is 20/, 3],
  ['data that is not aligned', READ, 3, 26, /C2HData: PDO is 26/, 3],
  ['data behind its end', READ, 3, 240, /C2HData: PDO is 240/, 3],
  ['a length below its header', RESPONSE, 4, 8, /CapsuleResp: PLEN is 8/, 4],
  ['data where there is none', RESPONSE, 4, 28, /CapsuleResp: PLEN is 28/, 4],
  ['no data where there must be', READ, 4, 24, /C2HData: PLEN is 24, with no data/, 4],
  ['more data than is taken', READ, 5, 16, /C2HData: PLEN is \d+: \d+ bytes of data, at most 1000/, 4],
] as const) {
  test(`a receiver refuses ${what}`, (t) => {
    const broken = Buffer.from(pdu)
    broken[at] = value
    const error = t.throws<Error & { fei: number }>(
      () => receive(broken, [broken.length], { hdgst: false, ddgst: false }),
      { code: 'ERR_UNVME_PROTOCOL', message },
    )
    t.is(error.fei, fei)
  })
}

test('ICReq and ICResp come back as they were', (t) => {
  fc.assert(
    fc.property(
      fc.integer({ min: 0, max: 0xffff }),
      fc.integer({ min: 0, max: 31 }),
      fc.integer({ min: 0, max: 3 }),
      fc.integer({ min: 0, max: 2 ** 32 - 1 }),
      (pfv, pda, dgst, dword) => {
        t.deepEqual(decodeIcReq(encodeIcReq({ pfv, hpda: pda, dgst, maxr2t: dword })), {
          ...{ pfv, hpda: pda, dgst, maxr2t: dword },
        })
        t.deepEqual(decodeIcResp(encodeIcResp({ pfv, cpda: pda, dgst, maxh2cdata: dword })), {
          ...{ pfv, cpda: pda, dgst, maxh2cdata: dword },
        })
      },
    ),
  )
})

test('an ICResp that can not be is refused by its field', (t) => {
  const good = { pfv: 0, cpda: 0, dgst: 1, maxh2cdata: 4096 }
  t.notThrows(() => checkIcResp(good, 1))
  for (const [change, message] of [
    [{ pfv: 1 }, /PFV is 1/],
    [{ cpda: 32 }, /CPDA is 32/],
    [{ dgst: 0 }, /header digests are on here and off there/],
    [{ dgst: 3 }, /data digests are off here and on there/],
    [{ maxh2cdata: 4092 }, /MAXH2CDATA is 4092/],
    [{ maxh2cdata: 4098 }, /MAXH2CDATA is 4098/],
  ] as const) {
    t.throws(() => checkIcResp({ ...good, ...change }, 1), { code: 'ERR_UNVME_PROTOCOL', message })
  }
})

test('a terminate request says what was wrong, with the header', (t) => {
  const pdu = encodeTermReq(PDU.C2H_TERM_REQ, violation(1, 3, 'C2HData: PDO is 20'), READ.subarray(0, 24))
  t.is(pdu.length, 48)
  t.is(pdu.readUInt16LE(8), 1)
  t.is(pdu.readUInt32LE(10), 3)
  t.true(pdu.subarray(24).equals(READ.subarray(0, 24)))
  t.is(describeTermReq(pdu), 'invalid PDU header field at byte 3')
  const [got] = receive(pdu, [], { hdgst: true, ddgst: true }, typeSet(PDU.C2H_TERM_REQ))
  t.is(got!.data.length, 24)
})
