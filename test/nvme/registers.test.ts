import test from 'ava'
import {
  CSTS,
  decodeAdminQueues,
  decodeCapabilities,
  decodeConfiguration,
  encodeAdminQueues,
  encodeCapabilities,
  encodeConfiguration,
} from '../../lib/nvme/spec/registers.ts'

const CAP = {
  ...{ mqes: 1024, cqr: true, ams: 1, to: 7500, dstrd: 8, nssrs: true, css: 0x41, bps: false },
  ...{ mpsmin: 4096, mpsmax: 65536, pmrs: false, cmbs: true },
}

test('capabilities: counts, bytes and milliseconds of both halves', (t) => {
  t.deepEqual(encodeCapabilities(CAP), [0x0f03_03ff, 0x0240_0831])
  t.deepEqual({ ...decodeCapabilities(0x0f03_03ff, 0x0240_0831) }, CAP)
  // What is no multiple of 500 ms is rounded up.
  t.deepEqual(encodeCapabilities({ ...CAP, to: 7001 }), [0x0f03_03ff, 0x0240_0831])
})

test('configuration and admin queues: both ways', (t) => {
  const cc = { en: true, css: 6, mps: 4096, ams: 0, shn: 1, iosqes: 6, iocqes: 4 }
  t.is(encodeConfiguration(cc), 0x0046_4061)
  t.deepEqual({ ...decodeConfiguration(0x0046_4061) }, cc)
  t.is(encodeAdminQueues({ asqs: 32, acqs: 64 }), 0x003f_001f)
  t.deepEqual({ ...decodeAdminQueues(0x003f_001f) }, { asqs: 32, acqs: 64 })
})

test('status: masks of the bits and of the field', (t) => {
  const { RDY, CFS, SHST, NSSRO, PP } = CSTS
  t.deepEqual({ RDY, CFS, SHST, NSSRO, PP }, { RDY: 1, CFS: 2, SHST: 0xc, NSSRO: 0x10, PP: 0x20 })
})
