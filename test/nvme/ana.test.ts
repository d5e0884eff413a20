// The log page of asymmetric namespace access, and what statuses say of it.

import test from 'ava'
import fc from 'fast-check'
import { DecodeError } from '../../lib/errors.ts'
import {
  ANA_STATE,
  anaStateName,
  anaStateOf,
  decodeAnaLog,
  encodeAnaLog,
  isPathStatus,
} from '../../lib/nvme/spec/ana.ts'
import { STATUS } from '../../lib/nvme/spec/status.ts'

const dword = fc.nat(0xffff_ffff)
const count = fc.bigInt(0n, 2n ** 64n - 1n)
const group = fc.record({
  grpid: dword,
  state: fc.nat(15),
  chgcnt: count,
  nsids: fc.array(dword, { maxLength: 20 }),
})

test('an ANA log is decoded as it was encoded, whatever follows it', (t) => {
  fc.assert(
    fc.property(count, fc.array(group, { maxLength: 10 }), fc.nat(100), (chgcnt, groups, more) => {
      const bytes = Buffer.concat([encodeAnaLog({ chgcnt, groups }), Buffer.alloc(more, 0xff)])
      t.deepEqual(decodeAnaLog(bytes), {
        chgcnt,
        ngrps: groups.length,
        groups: groups.map((one) => ({ ...one, nnsids: one.nsids.length })),
      })
    }),
  )
})

test('an ANA log that is cut, or of any bytes, is decoded or refused with DecodeError', (t) => {
  const log = encodeAnaLog({ groups: [{ grpid: 1, state: 1, nsids: [1, 2] }] })
  for (let bytes = 0; bytes < log.length; bytes++) {
    t.throws(() => decodeAnaLog(log.subarray(0, bytes)), { instanceOf: DecodeError })
  }
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
      try {
        decodeAnaLog(bytes)
      } catch (error) {
        t.true(error instanceof DecodeError)
      }
    }),
  )
})

test('bytes of an ANA log stand where the specification puts them', (t) => {
  const bytes = Buffer.alloc(16 + 32 + 4)
  bytes.writeBigUInt64LE(3n, 0)
  bytes.writeUInt16LE(1, 8)
  bytes.writeUInt32LE(5, 16)
  bytes.writeUInt32LE(1, 20)
  bytes.writeBigUInt64LE(2n, 24)
  bytes[32] = 0xf3
  bytes.writeUInt32LE(9, 48)
  t.deepEqual(decodeAnaLog(bytes), {
    chgcnt: 3n,
    ngrps: 1,
    groups: [{ grpid: 5, nnsids: 1, chgcnt: 2n, state: ANA_STATE.INACCESSIBLE, nsids: [9] }],
  })
})

test('statuses of a path say which state they have met', (t) => {
  const field = (code: number) => code << 1
  t.is(anaStateOf(field(STATUS.ANA_TRANSITION)), ANA_STATE.CHANGE)
  t.is(anaStateOf(field(STATUS.ANA_INACCESSIBLE) | 0x8000), ANA_STATE.INACCESSIBLE)
  t.is(anaStateOf(field(STATUS.ANA_PERSISTENT_LOSS)), ANA_STATE.PERSISTENT_LOSS)
  t.is(anaStateOf(field(STATUS.HOST_PATHING_ERROR)), undefined)
  t.true(isPathStatus(field(STATUS.HOST_PATHING_ERROR)))
  t.false(isPathStatus(field(STATUS.COMPARE_FAILURE)))
  t.is(anaStateName(ANA_STATE.CHANGE), 'change')
})
