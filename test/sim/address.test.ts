import test from 'ava'
import fc from 'fast-check'
import { AddressError } from '../../lib/errors.ts'
import { parseSimAddress, SIM_OPTIONS } from '../../lib/sim/index.ts'

test('sim: alone is 1 GiB in memory with 512 byte blocks', (t) => {
  const config = parseSimAddress('sim:')
  t.like(config, { address: 'sim:', path: undefined, size: undefined, lba: 512, nsids: [1], mdts: 8 })
  t.like(config, {
    qcount: 16,
    qsize: 4096,
    dstrd: 0,
    latency: { min: 0, max: 0 },
    thread: false,
    populate: false,
    faults: [],
  })
})

test('every option is understood', (t) => {
  const address =
    'sim:disk.img?size=256M&lba=4096&ns=1,3,5&mdts=5&qcount=2&qsize=64&dstrd=3&latency=100us-2ms&thread=1&serial=S1&model=My%20model&fault=read@64+8:status=281h&nsid=3'
  const config = parseSimAddress(address)
  t.like(config, {
    path: 'disk.img',
    size: 2 ** 28,
    lba: 4096,
    nsids: [1, 3, 5],
    mdts: 5,
    qcount: 2,
    qsize: 64,
  })
  t.like(config, { dstrd: 3, latency: { min: 0.1, max: 2 }, thread: true, serial: 'S1', model: 'My model' })
  t.deepEqual(config.faults, [{ opcode: 2, slba: 64, nlb: 8, action: { kind: 'status', status: 0x281 } }])
  t.is(config.address, address.replace('&nsid=3', ''))
  t.is(parseSimAddress('sim:x?nsid=2&lba=512').address, 'sim:x?lba=512')
  t.is(parseSimAddress('sim:?nsid=2').address, 'sim:')
})

test('namespaces are counted or listed', (t) => {
  t.deepEqual(parseSimAddress('sim:?ns=3').nsids, [1, 2, 3])
  t.deepEqual(parseSimAddress('sim:?ns=7,').nsids, [7])
  t.deepEqual(parseSimAddress('sim:?ns=9,2').nsids, [2, 9])
})

test('sizes and times take their units', (t) => {
  for (const [text, bytes] of [
    ['4096', 4096],
    ['8K', 8192],
    ['8KiB', 8192],
    ['3m', 3 * 2 ** 20],
    ['2G', 2 ** 31],
    ['16T', 2 ** 44],
  ] as const) {
    t.is(parseSimAddress(`sim:?size=${text}`).size, bytes)
  }
  t.deepEqual(parseSimAddress('sim:?latency=1.5ms').latency, { min: 1.5, max: 1.5 })
  t.deepEqual(parseSimAddress('sim:?latency=2s').latency, { min: 2000, max: 2000 })
})

test('the same image has the same serial number, and another image another', (t) => {
  t.is(parseSimAddress('sim:a.img').serial, parseSimAddress('sim:a.img?lba=4096').serial)
  t.not(parseSimAddress('sim:a.img').serial, parseSimAddress('sim:b.img').serial)
})

test('fault rules: every part and action', (t) => {
  const rules = parseSimAddress(
    'sim:?fault=any:fatal,write@5#2*3:delay=1ms,flush:lose,verify#9:vanish,dsm:behind=4',
  ).faults
  t.deepEqual(rules, [
    { action: { kind: 'fatal' } },
    { opcode: 1, slba: 5, skip: 2, times: 3, action: { kind: 'delay', ms: 1 } },
    { opcode: 0, action: { kind: 'lose' } },
    { opcode: 12, skip: 9, action: { kind: 'vanish' } },
    { opcode: 9, action: { kind: 'behind', commands: 4 } },
  ])
})

const bad: [string, RegExp][] = [
  ['sim:?sise=1G', /unknown option 'sise'; the nearest is 'size'/],
  ['sim:a.img?populate=1', /populate=1 is for a medium in memory/],
  ['sim:?latencyy=1us', /unknown option 'latencyy'; the nearest is 'latency'/],
  ['sim:?size', /option 'size' needs a value/],
  ['sim:?size=', /bad value size=;/],
  ['sim:?size=1G&size=2G', /option 'size' is given twice/],
  ['sim:?size=-1', /bad value size=-1/],
  ['sim:?size=0', /bad value size=0/],
  ['sim:?size=512i', /bad value size=512i/],
  ['sim:?size=17T', /bad value size=17T/],
  ['sim:?size=16T&ns=5', /size=16T for each of 5 namespaces/],
  ['sim:?size=1000', /size=1000 is no multiple of lba=512/],
  ['sim:?lba=1024', /bad value lba=1024; 512\|4096 is needed/],
  ['sim:?ns=0', /bad value ns=0/],
  ['sim:?ns=1,1', /bad value ns=1,1/],
  ['sim:?ns=1,4294967295', /bad value ns=/],
  ['sim:?mdts=17', /bad value mdts=17/],
  ['sim:?qcount=0', /bad value qcount=0/],
  ['sim:?qsize=1', /bad value qsize=1/],
  ['sim:?dstrd=9', /bad value dstrd=9/],
  ['sim:?latency=5', /bad value latency=5/],
  ['sim:?latency=2ms-1ms', /bad value latency=2ms-1ms/],
  ['sim:?latency=2h', /bad value latency=2h/],
  ['sim:?thread=yes', /bad value thread=yes/],
  ['sim:?serial=123456789012345678901', /bad value serial=/],
  ['sim:?serial=%zz', /bad value serial=%zz/],
  ['sim:?fault=read', /bad value fault=read/],
  ['sim:?fault=reed:lose', /bad value fault=reed:lose/],
  ['sim:?fault=read:status=0h', /bad value fault=/],
  ['sim:?fault=constructor:lose', /bad value fault=/],
  ['sim:?nsid=0', /bad value nsid=0/],
  ['sim:a\0b', /NUL/],
  ['nvme0', /does not start with sim:/],
]
for (const [address, message] of bad) {
  test(`refused: ${JSON.stringify(address)}`, (t) => {
    const error = t.throws(() => parseSimAddress(address), { instanceOf: AddressError, message })
    t.is(error?.code, 'ERR_UNVME_ADDRESS')
    t.true(error?.message.includes(address))
  })
}

test('any text is an address or an AddressError', (t) => {
  const names = fc.constantFrom(...SIM_OPTIONS.map(({ name }) => name), 'x', '')
  const values = fc.oneof(
    fc.string(),
    fc.constantFrom('1', '512', '1G', '0', '100us', 'read:lose', '1,2', ','),
  )
  const query = fc
    .array(fc.tuple(names, values))
    .map((pairs) => pairs.map((pair) => pair.join('=')).join('&'))
  const addresses = fc.oneof(
    fc.string(),
    fc.tuple(fc.string(), query).map(([path, q]) => `sim:${path}?${q}`),
  )
  t.notThrows(() =>
    fc.assert(
      fc.property(addresses, (address) => {
        try {
          const config = parseSimAddress(address)
          return config.nsids.length > 0 && config.qsize >= 2
        } catch (error) {
          return error instanceof AddressError
        }
      }),
      { numRuns: 2000 },
    ),
  )
})

test('every option that help shows is understood with its own default', (t) => {
  const defaults: Record<string, string> = {
    size: '1G',
    serial: 'X',
    fault: 'any:lose',
    nsid: '1',
    model: 'M',
  }
  for (const { name, default: byDefault } of SIM_OPTIONS) {
    t.notThrows(() => parseSimAddress(`sim:?${name}=${defaults[name] ?? byDefault}`), name)
  }
})
