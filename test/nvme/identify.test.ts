import test from 'ava'
import { DecodeError, OutOfRangeError } from '../../lib/errors.ts'
import {
  decodeControllerList,
  decodeIdentifyController,
  decodeIdentifyNamespace,
  decodeNamespaceList,
  encodeControllerList,
  encodeIdentifyController,
  encodeIdentifyNamespace,
  encodeNamespaceList,
  formattedLba,
} from '../../lib/nvme/spec/identify.ts'
import { fixture } from './fixture.ts'

// Offsets: NVMe 1.4 base, figure 247. Values are chosen so that no two neighbours look alike.
const CONTROLLER = fixture(4096, [
  [0, [0x44, 0x13]],
  [2, [0xf4, 0x1a]],
  [4, 'SER-0001            '],
  [24, 'A model of forty characters             '],
  [64, 'FW 1.2  '],
  [72, [6]],
  [73, [0x75, 0xa0, 0x00]],
  [76, [0x02]],
  [77, [5]],
  [78, [0x34, 0x12]],
  [80, [0, 4, 1, 0]],
  [84, [0x40, 0x42, 0x0f, 0x00]],
  [88, [0x80, 0x84, 0x1e, 0x00]],
  [92, [0x00, 0x03, 0x00, 0x80]],
  [96, [0x0a, 0, 0, 0]],
  [100, [0x10, 0x80]],
  [111, [1]],
  [112, [0xff, 0xee, 0xdd, 0xcc, 0xbb, 0xaa, 0x99, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0x00]],
  [128, [1, 0, 2, 0, 3, 0]],
  [253, [1, 0x87, 3]],
  [256, [0x1f, 0x01]],
  [258, [3, 7, 0x17, 0x1e, 63, 4, 1, 1]],
  [266, [0x57, 0x01]],
  [268, [0x61, 0x01]],
  [270, [0x32, 0]],
  [272, [0x00, 0x40, 0, 0]],
  [276, [0x00, 0x01, 0, 0]],
  [280, [0x00, 0x60, 0x81, 0x9d, 0x70, 0x03, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x80]],
  [296, [0x01]],
  [312, [0x04, 0x03, 0x02, 0x81]],
  [316, [0x2c, 0x01]],
  [318, [1, 0xff]],
  [320, [0x0a, 0]],
  [322, [1, 0]],
  [324, [0x11, 0x01, 0x75, 0x01]],
  [328, [0x07, 0, 0, 0xa0]],
  [332, [0x10, 0, 0, 0]],
  [336, [8, 0, 9, 0, 10, 0]],
  [342, [11, 12]],
  [344, [13, 0, 0, 0, 14, 0, 0, 0, 15, 0, 0, 0, 16, 0]],
  [368, [17]],
  [512, [0x66, 0x44]],
  [514, [0x00, 0x01]],
  [516, [0x20, 0, 0, 0]],
  [520, [0x5f, 0x00]],
  [522, [1, 0]],
  [524, [4, 7]],
  [526, [0xff, 0x03, 0x07, 0x00]],
  [530, [1, 2]],
  [532, [3, 0, 1, 0]],
  [536, [1, 0, 0x0f, 0]],
  [540, [0x80, 0, 0, 0]],
  [544, [0x19]],
  [560, [0x1a]],
  [768, 'nqn.2014-08.org.nvmexpress:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6'],
  [1792, [4, 0, 0, 0, 1, 0, 0, 0, 2, 0, 3, 5, 6, 0, 7]],
  // Power state 0: 25 W; state 4: 0.005 W, non-operational; figure 248.
  [
    2048,
    [0xc4, 0x09, 0, 0x00, 0xe8, 0x03, 0, 0, 0xd0, 0x07, 0, 0, 1, 2, 3, 4, 0x90, 1, 0x80, 0, 0x20, 3, 0x42],
  ],
  [2048 + 4 * 32, [0x32, 0x00, 0, 0x03, 0xa0, 0x86, 1, 0, 0x40, 0x0d, 3, 0, 4, 4, 4, 4, 0x32, 0, 0x40, 0]],
  // A fifth state's bytes, beyond npss.
  [2048 + 5 * 32, [0xff]],
  [3072, [0xde, 0xad]],
  [4095, [0xef]],
])

test('Identify Controller, field by field', (t) => {
  const id = decodeIdentifyController(CONTROLLER)
  t.like(id, {
    vid: 0x1344,
    ssvid: 0x1af4,
    sn: 'SER-0001',
    mn: 'A model of forty characters',
    fr: 'FW 1.2',
    rab: 6,
    ieee: 0x00a075,
    cmic: 2,
    mdts: 5,
    cntlid: 0x1234,
    ver: 0x10400,
    rtd3r: 1_000_000,
    rtd3e: 2_000_000,
    oaes: 0x80000300,
    ctratt: 10,
    rrls: 0x8010,
    cntrltype: 1,
    fguid: 'ffeeddccbbaa99887766554433221100',
    crdt1: 1,
    crdt2: 2,
    crdt3: 3,
    nvmsr: 1,
    vwci: 0x87,
    mec: 3,
    oacs: 0x11f,
    acl: 3,
    aerl: 7,
    frmw: 0x17,
    lpa: 0x1e,
    elpe: 63,
    npss: 4,
    avscc: 1,
    apsta: 1,
    wctemp: 343,
    cctemp: 353,
    mtfa: 50,
    hmpre: 0x4000,
    hmmin: 0x100,
    tnvmcap: 0x80000000000000000000_03709d816000n,
    unvmcap: 1n,
    rpmbs: 0x81020304,
    edstt: 300,
    dsto: 1,
    fwug: 255,
    kas: 10,
    hctma: 1,
    mntmt: 273,
    mxtmt: 373,
    sanicap: 0xa0000007,
    hmminds: 16,
    hmmaxd: 8,
    nsetidmax: 9,
    endgidmax: 10,
    anatt: 11,
    anacap: 12,
    anagrpmax: 13,
    nanagrpid: 14,
    pels: 15,
    domainid: 16,
    megcap: 17n,
  })
  t.like(id, {
    sqes: 0x66,
    cqes: 0x44,
    maxcmd: 256,
    nn: 32,
    oncs: 0x5f,
    fuses: 1,
    fna: 4,
    vwc: 7,
    awun: 1023,
    awupf: 7,
    icsvscc: 1,
    nwpc: 2,
    acwu: 3,
    ocfs: 1,
    sgls: 0xf0001,
    mnan: 128,
    maxdna: 25n,
    maxcna: 26,
    subnqn: 'nqn.2014-08.org.nvmexpress:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6',
    ioccsz: 4,
    iorcsz: 1,
    icdoff: 2,
    fcatt: 3,
    msdbd: 5,
    ofcs: 6,
    dctype: 7,
  })
  t.is(id.psds.length, 5)
  t.deepEqual(id.psds[0], {
    mp: 2500,
    mxps: false,
    nops: false,
    enlat: 1000,
    exlat: 2000,
    rrt: 1,
    rrl: 2,
    rwt: 3,
    rwl: 4,
    idlp: 400,
    ips: 2,
    actp: 800,
    apw: 2,
    aps: 1,
  })
  t.like(id.psds[4], { mp: 50, mxps: true, nops: true, enlat: 100_000, exlat: 200_000, idlp: 50, ips: 1 })
  t.is(id.vs[0], 0xde)
  t.is(id.vs[1023], 0xef)
})

test('Identify Controller, encoded again, is the same bytes', (t) => {
  const expected = CONTROLLER.slice()
  expected.fill(0, 2048 + 5 * 32, 3072)
  t.deepEqual(encodeIdentifyController(decodeIdentifyController(CONTROLLER)), expected)
})

test('Identify Controller: what is left out is zero, text is spaces', (t) => {
  const target = new Uint8Array(5000).fill(0xaa)
  t.is(encodeIdentifyController({ vid: 0x1344, mn: 'M' }, target), target)
  const expected = fixture(4096, [
    [0, [0x44, 0x13]],
    [4, ' '.repeat(20)],
    [24, `M${' '.repeat(39)}`],
    [64, ' '.repeat(8)],
  ])
  t.deepEqual(target.slice(0, 4096), expected)
  t.is(target[4096], 0xaa)
})

// Figure 245.
const NAMESPACE = fixture(4096, [
  [0, [0xb0, 0x66, 0xdb, 0x1b, 0, 0, 0, 0]],
  [8, [0xb0, 0x66, 0xdb, 0x1b, 0, 0, 1, 0]],
  [16, [0x01, 0, 0, 0, 2, 0, 0, 0]],
  [24, [0x1f, 2, 0x11, 3, 0x1f, 0x09, 1, 0xff, 0x82, 0x09]],
  [34, [1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6, 0, 0x00, 0x01]],
  [48, [0x00, 0x60, 0x81, 0x9d, 0x70, 0x03]],
  [64, [7, 0, 8, 0, 9, 0, 10, 0, 11, 0, 12, 0, 13, 0, 0, 0, 14]],
  [82, [0]],
  [92, [15, 0, 0, 0]],
  [99, [1, 16, 0, 17, 0]],
  [104, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]],
  [120, [0x00, 0x25, 0x38, 0xb1, 0x00, 0x00, 0x00, 0x01]],
  [128, [0, 0, 9, 2, 8, 0, 12, 0, 64, 0, 12, 3]],
  [384, [1]],
  [4095, [2]],
])

test('Identify Namespace, field by field', (t) => {
  const ns = decodeIdentifyNamespace(NAMESPACE)
  t.like(ns, {
    nsze: 467_363_504,
    ncap: 467_363_504 + 2 ** 48,
    nuse: 2 ** 33 + 1,
    nsfeat: 0x1f,
    nlbaf: 2,
    flbas: 0x11,
    mc: 3,
    dpc: 0x1f,
    dps: 9,
    nmic: 1,
    rescap: 0xff,
    fpi: 0x82,
    dlfeat: 9,
    nawun: 1,
    nawupf: 2,
    nacwu: 3,
    nabsn: 4,
    nabo: 5,
    nabspf: 6,
    noiob: 256,
    nvmcap: 0x03709d816000n,
    npwg: 7,
    npwa: 8,
    npdg: 9,
    npda: 10,
    nows: 11,
    mssrl: 12,
    mcl: 13,
    msrc: 14,
    nulbaf: 0,
    anagrpid: 15,
    nsattr: 1,
    nvmsetid: 16,
    endgid: 17,
    nguid: '000102030405060708090a0b0c0d0e0f',
    eui64: '002538b100000001',
    lbafs: [
      { ms: 0, lbads: 9, rp: 2 },
      { ms: 8, lbads: 12, rp: 0 },
      { ms: 64, lbads: 12, rp: 3 },
    ],
  })
  t.deepEqual(encodeIdentifyNamespace(ns), NAMESPACE)
  t.deepEqual(formattedLba(ns), { ms: 8, lbads: 12, rp: 0, index: 1, bytes: 4096, extended: true })
})

test('an LBA format beyond 15 takes the upper bits of flbas, but only where there are that many', (t) => {
  const lbafs = Array.from({ length: 33 }, (_, i) => ({ ms: i, lbads: 9, rp: 0 }))
  t.is(formattedLba({ flbas: 0x40, lbafs }).index, 32)
  t.is(formattedLba({ flbas: 0x61, lbafs: lbafs.slice(0, 16) }).index, 1)
  t.throws(() => formattedLba({ flbas: 2, lbafs: lbafs.slice(0, 2) }), { instanceOf: DecodeError })
  t.throws(() => formattedLba({ flbas: 0, lbafs: [{ ms: 0, lbads: 0, rp: 0 }] }), { instanceOf: DecodeError })
})

test('decodeIdentifyNamespace: sizes beyond a safe integer come rounded, and hide nothing else', (t) => {
  const ones = new Array<number>(8).fill(0xff)
  const { nsze, nuse, lbafs } = decodeIdentifyNamespace(
    fixture(4096, [
      [0, [8]],
      [16, ones],
      [130, [9]],
    ]),
  )
  t.is(nsze, 8)
  t.is(nuse, 2 ** 64)
  t.is(lbafs[0]?.lbads, 9)
})

test('namespace lists end at their first zero, or are full', (t) => {
  const bytes = fixture(4096, [[0, [1, 0, 0, 0, 5, 0, 0, 0, 0xfe, 0xff, 0xff, 0xff, 0, 0, 0, 0, 9]]])
  t.deepEqual(decodeNamespaceList(bytes), [1, 5, 0xffff_fffe])
  bytes[16] = 0
  t.deepEqual(encodeNamespaceList([1, 5, 0xffff_fffe]), bytes)
  const full = Array.from({ length: 1024 }, (_, i) => i + 1)
  t.deepEqual(decodeNamespaceList(encodeNamespaceList(full)), full)
  t.throws(() => encodeNamespaceList([...full, 1025]), { instanceOf: OutOfRangeError })
})

test('controller lists have a count', (t) => {
  const bytes = fixture(4096, [[0, [2, 0, 0x34, 0x12, 7, 0]]])
  t.deepEqual(decodeControllerList(bytes), [0x1234, 7])
  t.deepEqual(encodeControllerList([0x1234, 7]), bytes)
  t.deepEqual(decodeControllerList(bytes.subarray(0, 6)), [0x1234, 7])
  t.throws(() => decodeControllerList(bytes.subarray(0, 5)), { instanceOf: DecodeError })
  // A count of more than there is space for.
  t.is(decodeControllerList(fixture(4096, [[0, [0xff, 0xff, 3]]])).length, 2047)
})

test('what does not fit is refused by the name of its field', (t) => {
  t.throws(() => encodeIdentifyController({ rab: 256 }), {
    instanceOf: OutOfRangeError,
    message: /^rab: 256/,
  })
  t.throws(() => encodeIdentifyController({ sn: 'x'.repeat(21) }), { message: /^sn:/ })
  t.throws(() => encodeIdentifyController({ psds: [{}, { apw: 8 }] }), { message: /^psds\[1\]\.apw: 8/ })
  t.throws(() => encodeIdentifyController({ tnvmcap: 1n << 128n }), { message: /^tnvmcap:/ })
  t.throws(() => encodeIdentifyController({ subnqn: 'é'.repeat(129) }), { message: /^subnqn:/ })
  t.throws(() => encodeIdentifyController({ vs: new Uint8Array(1025) }), { message: /^vs: 1025 bytes/ })
  t.throws(() => encodeIdentifyNamespace({ nsze: 1.5 }), { message: /^nsze:/ })
  t.throws(() => encodeIdentifyNamespace({ nguid: '00' }), { message: /^nguid:/ })
  t.throws(() => encodeIdentifyNamespace({}, new Uint8Array(4095)), { instanceOf: OutOfRangeError })
})

test('too few bytes are a DecodeError that says how many', (t) => {
  const short = new Uint8Array(4095)
  const decoders = [decodeIdentifyController, decodeIdentifyNamespace, decodeNamespaceList]
  for (const decode of decoders) {
    t.throws(() => decode(short), {
      instanceOf: DecodeError,
      message: /4096 bytes are needed, there are 4095/,
    })
  }
})
