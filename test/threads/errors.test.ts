// Errors that are posted to another thread arrive as what they were.

import test from 'ava'
import fc from 'fast-check'
import * as errors from '../../lib/errors.ts'
import { packError, unpackError } from '../../src/shares/protocol.ts'

const post = (error: unknown) => unpackError(structuredClone(packError(error)))

test('an error of this package keeps its class, code, fields, message, stack and cause', (t) => {
  const failure = {
    opcode: 2,
    opcodeName: 'Read',
    qid: 1,
    nsid: 1,
    slba: 96,
    nlb: 8,
    sct: 2,
    sc: 0x81,
    statusName: 'Unrecovered Read Error',
    dnr: true,
    more: false,
  }
  const error = new errors.NvmeError(failure)
  const copy = post(error)
  t.true(copy instanceof errors.NvmeError && copy instanceof errors.UnvmeError && copy instanceof Error)
  t.like(copy, { ...failure, code: 'ERR_NVME_STATUS', message: error.message, stack: error.stack })
  t.is(String(copy), String(error))
  const removed = post(new errors.DeviceRemovedError('gone', { cause: error }))
  t.true(removed instanceof errors.DeviceRemovedError)
  t.true(removed.cause instanceof errors.NvmeError)
  const system = post(
    new errors.SystemCallError('no', { code: 'EBUSY', errno: 16, syscall: 'mmap', path: '/x' }),
  )
  t.like(system, { code: 'EBUSY', errno: -16, syscall: 'mmap', path: '/x' })
  t.like(post(new errors.EndOfRangeError('full', 512)), { code: 'ERR_UNVME_END_OF_RANGE', bytesWritten: 512 })
})

test('anything that can be thrown can be posted', (t) => {
  fc.assert(
    fc.property(fc.anything(), (thrown) => {
      const copy = post(thrown)
      t.true(copy instanceof Error)
    }),
    { numRuns: 200 },
  )
  t.is(post('words').message, 'words')
  t.is(post({ toString: '' }).message, "{ toString: '' }")
  t.is(post(new TypeError('wrong')).name, 'TypeError')
  const circular = new Error('round')
  circular.cause = circular
  t.is(post(circular).message, 'round')
})
