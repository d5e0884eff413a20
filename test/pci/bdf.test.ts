import test from 'ava'
import fc from 'fast-check'
import { AddressError } from '../../lib/errors.ts'
import {
  canonicalPciName,
  formatNamespaceName,
  formatPciName,
  parseNamespaceName,
  parsePciName,
} from '../../lib/pci/bdf.ts'

const pciName = fc.record({
  domain: fc.integer({ min: 0, max: 0xffff_ffff }),
  bus: fc.integer({ min: 0, max: 0xff }),
  device: fc.integer({ min: 0, max: 0x1f }),
  function: fc.integer({ min: 0, max: 7 }),
})

test('names with and without domain mean the same function', (t) => {
  t.deepEqual(parsePciName('0a:00.1'), { domain: 0, bus: 10, device: 0, function: 1 })
  t.deepEqual(parsePciName('0000:0A:00.1'), parsePciName('0a:00.1'))
  t.is(canonicalPciName('a:0.1'), '0000:0a:00.1')
  // Domains above ffff are those of VMD and of hypervisors.
  t.is(canonicalPciName('10000:e1:00.0'), '10000:e1:00.0')
})

test('every name that is formatted parses to itself', (t) => {
  fc.assert(
    fc.property(pciName, fc.integer({ min: 1, max: 0xffff_fffe }), (name, nsid) => {
      const text = formatPciName(name)
      t.deepEqual(parsePciName(text), name)
      t.deepEqual(parseNamespaceName(formatNamespaceName({ pciName: text, nsid })), { pciName: text, nsid })
    }),
  )
})

test('namespace 1 is meant where none is named', (t) => {
  t.deepEqual(parseNamespaceName('0a:00.0'), { pciName: '0000:0a:00.0', nsid: 1 })
  t.deepEqual(parseNamespaceName('0a:00.0/12'), { pciName: '0000:0a:00.0', nsid: 12 })
})

for (const text of [
  '',
  '0a',
  '0a:00',
  '0a:00.8',
  '0a:20.0',
  '100:00.0',
  '0a:00.0 ',
  '00:0a:00.0',
  'nvme0',
  '0a:00.0.0',
]) {
  test(`'${text}' is no PCI name`, (t) => {
    const error = t.throws(() => parsePciName(text), { instanceOf: AddressError })
    t.true(error.message.includes(`'${text}'`))
  })
}

for (const text of [
  '0a:00.0/',
  '0a:00.0/0',
  '0a:00.0/-1',
  '0a:00.0/4294967295',
  '0a:00.0/1x',
  '0a:00.0/1/2',
]) {
  test(`'${text}' names no namespace`, (t) => {
    t.throws(() => parseNamespaceName(text), { instanceOf: AddressError })
  })
}

test('any text is a name or an AddressError', (t) => {
  fc.assert(
    fc.property(fc.string(), (text) => {
      try {
        t.regex(parseNamespaceName(text).pciName, /^[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$/)
      } catch (error) {
        t.true(error instanceof AddressError)
      }
    }),
  )
})
