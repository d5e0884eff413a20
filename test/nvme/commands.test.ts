import test from 'ava'
import fc from 'fast-check'
import {
  decodeCreateCq,
  decodeCreateSq,
  decodeDsmAttributes,
  decodeDsmRanges,
  decodeFirmwareCommit,
  decodeFirmwareDownload,
  decodeFormat,
  decodeGetLogPage,
  decodeNamespaceSelect,
  decodeQueue,
  decodeSanitize,
  decodeSelfTest,
  encodeCreateCq,
  encodeCreateSq,
  encodeDsmAttributes,
  encodeDsmRanges,
  encodeFirmwareCommit,
  encodeFirmwareDownload,
  encodeFormat,
  encodeGetLogPage,
  encodeNamespaceSelect,
  encodeQueue,
  encodeSanitize,
  encodeSelfTest,
} from '../../lib/nvme/spec/commands.ts'
import { FNA } from '../../lib/nvme/spec/flags.ts'
import { ADMIN, endsAllData } from '../../lib/nvme/spec/opcodes.ts'

test('Get Log Page: dwords as the specification has them', (t) => {
  t.deepEqual(encodeGetLogPage({ lid: 2, bytes: 512 }), {
    cdw10: 0x007f_0002,
    cdw11: 0,
    cdw12: 0,
    cdw13: 0,
    cdw14: 0,
  })
  const request = {
    lid: 0x0d,
    bytes: 2 ** 20 * 4,
    lpo: 2 ** 33 + 8,
    lsp: 0x45,
    lsi: 0x1234,
    rae: true,
    uuid: 3,
    csi: 2,
    ot: true,
  }
  const dwords = { cdw10: 0xffff_c50d, cdw11: 0x1234_000f, cdw12: 8, cdw13: 2, cdw14: 0x0280_0003 }
  t.deepEqual(encodeGetLogPage(request), dwords)
  t.deepEqual(decodeGetLogPage(dwords), request)
  for (const bad of [{ bytes: 3 }, { bytes: 0 }, { bytes: 6 }, { bytes: 4, lpo: 2 }, { bytes: 4, lpo: -4 }]) {
    t.throws(() => encodeGetLogPage({ lid: 1, ...bad }), { code: 'ERR_OUT_OF_RANGE' })
  }
  t.throws(() => encodeGetLogPage({ lid: 256, bytes: 4 }), { code: 'ERR_OUT_OF_RANGE' })
})

test('Format NVM, Sanitize, Device Self-test: dword 10', (t) => {
  const format = { lbafl: 5, lbafu: 2, mset: true, pi: 3, pil: true, ses: 2 }
  t.is(encodeFormat(format), 0x2575)
  t.deepEqual(decodeFormat(0x2575), format)
  const sanitize = { sanact: 3, ause: true, owpass: 15, oipbp: true, ndas: true }
  t.is(encodeSanitize(sanitize), 0x3fb)
  t.deepEqual(decodeSanitize(0x3fb), sanitize)
  t.is(encodeSelfTest({ stc: 0xf }), 0xf)
  t.deepEqual(decodeSelfTest(0xfff2), { stc: 2 })
})

test('firmware: commit and download', (t) => {
  t.is(encodeFirmwareCommit({ fs: 7, ca: 3, bpid: 1 }), 0x8000_001f)
  t.deepEqual(decodeFirmwareCommit(0x8000_001f), { fs: 7, ca: 3, bpid: 1 })
  t.deepEqual(encodeFirmwareDownload({ bytes: 4096, offset: 8192 }), { cdw10: 1023, cdw11: 2048 })
  t.deepEqual(decodeFirmwareDownload({ cdw10: 0, cdw11: 0xffff_ffff }), { bytes: 4, offset: 2 ** 34 - 4 })
  for (const bad of [
    { bytes: 0, offset: 0 },
    { bytes: 5, offset: 0 },
    { bytes: 4, offset: 2 },
    { bytes: 4, offset: 2 ** 34 },
  ]) {
    t.throws(() => encodeFirmwareDownload(bad), { code: 'ERR_OUT_OF_RANGE' })
  }
})

test('I/O queues: dwords 10 and 11, entries zero-based', (t) => {
  t.is(encodeQueue({ qid: 5, qsize: 255 }), 0x00ff_0005)
  t.deepEqual(decodeQueue(0x00ff_0005), { qid: 5, qsize: 255 })
  t.is(encodeCreateCq({ pc: true, ien: true, iv: 3 }), 0x0003_0003)
  t.is(encodeCreateCq({ pc: true, ien: false, iv: 0 }), 1)
  t.deepEqual(decodeCreateCq(0x0003_0003), { pc: true, ien: true, iv: 3 })
  t.is(encodeCreateSq({ pc: true, cqid: 5 }), 0x0005_0001)
  t.deepEqual(decodeCreateSq(0x0005_0007), { pc: true, qprio: 3, cqid: 5 })
  t.throws(() => encodeQueue({ qid: 1, qsize: 0x1_0000 }), { code: 'ERR_OUT_OF_RANGE' })
})

test('namespaces: select', (t) => {
  t.is(encodeNamespaceSelect({ sel: 1 }), 1)
  t.deepEqual(decodeNamespaceSelect(0xf1), { sel: 1 })
})

test('Dataset Management: attributes, and ranges byte by byte', (t) => {
  t.is(encodeDsmAttributes({ ad: true }), 4)
  t.deepEqual(decodeDsmAttributes(3), { idr: true, idw: true, ad: false })
  const bytes = encodeDsmRanges([{ cattr: 0x0102_0304, nlb: 8, slba: 0x1_0000_0005 }])
  t.is(Buffer.from(bytes).toString('hex'), '04030201080000000500000001000000')
  t.deepEqual(decodeDsmRanges(bytes), [{ cattr: 0x0102_0304, nlb: 8, slba: 0x1_0000_0005 }])
  t.throws(() => encodeDsmRanges([]), { code: 'ERR_OUT_OF_RANGE' })
  t.throws(() => encodeDsmRanges(Array.from({ length: 257 }, () => ({}))), { code: 'ERR_OUT_OF_RANGE' })
})

test('what is decoded from any dwords is encoded to the same, but for reserved bits', (t) => {
  const dword = fc.integer({ min: 0, max: 0xffff_ffff })
  fc.assert(
    fc.property(dword, dword, dword, (a, b, c) => {
      t.is(encodeFormat(decodeFormat(a)), (a & 0x3fff) >>> 0)
      t.is(encodeSanitize(decodeSanitize(a)), (a & 0x3ff) >>> 0)
      t.is(encodeFirmwareCommit(decodeFirmwareCommit(a)), (a & 0x8000_003f) >>> 0)
      const download = { cdw10: a, cdw11: b }
      t.deepEqual(
        a === 0xffff_ffff ? download : encodeFirmwareDownload(decodeFirmwareDownload(download)),
        download,
      )
      const page = { cdw10: a, cdw11: b & 0xffff_0fff, cdw12: c & ~3, cdw13: b & 0xffff, cdw14: c }
      const unsigned = { ...page, cdw11: page.cdw11 >>> 0, cdw12: page.cdw12 >>> 0 }
      const { cdw14, ...rest } = encodeGetLogPage(decodeGetLogPage(unsigned))
      t.deepEqual({ ...rest, cdw14 }, { ...unsigned, cdw14: (c & 0xff80_007f) >>> 0 })
    }),
  )
})

test('a Format or Sanitize ends the data of every namespace where the controller says so', (t) => {
  const { FORMAT_NVM, SANITIZE, NAMESPACE_MANAGEMENT } = ADMIN
  const erase = 1 << 9
  t.true(endsAllData(SANITIZE, 2, 0))
  t.false(endsAllData(FORMAT_NVM, erase, 0))
  t.true(endsAllData(FORMAT_NVM, 0, FNA.FORMAT_ALL))
  t.false(endsAllData(FORMAT_NVM, 0, FNA.ERASE_ALL))
  t.true(endsAllData(FORMAT_NVM, erase, FNA.ERASE_ALL))
  t.false(endsAllData(NAMESPACE_MANAGEMENT, 1, FNA.FORMAT_ALL | FNA.ERASE_ALL))
})
