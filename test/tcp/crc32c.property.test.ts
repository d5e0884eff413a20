// CRC-32C by tables is that of its definition, whole and in parts.

import test from 'ava'
import fc from 'fast-check'
import { crc32c } from '../../lib/nvme/tcp/crc32c.ts'

function bitByBit(bytes: Uint8Array): number {
  let crc = 0xffff_ffff
  for (const byte of bytes) {
    crc ^= byte
    for (let i = 0; i < 8; i++) crc = (crc >>> 1) ^ ((crc & 1) === 0 ? 0 : 0x82f6_3b78)
  }
  return ~crc >>> 0
}

test('crc32c gives the values that RFC 3720 and others print', (t) => {
  t.is(crc32c(Buffer.from('123456789')), 0xe306_9283)
  t.is(crc32c(new Uint8Array(0)), 0)
  t.is(crc32c(new Uint8Array(32)), 0x8a91_36aa)
  t.is(crc32c(new Uint8Array(32).fill(0xff)), 0x62a8_ab43)
  t.is(crc32c(Uint8Array.from({ length: 32 }, (_, i) => i)), 0x46dd_794e)
})

test('crc32c of any bytes, at any offset, in any parts', (t) => {
  const inputs = [fc.uint8Array({ maxLength: 300 }), fc.nat(20), fc.nat(300)] as const
  fc.assert(
    fc.property(...inputs, (bytes, before, split) => {
      const whole = bitByBit(bytes)
      const shifted = new Uint8Array(before + bytes.length + 3)
      shifted.set(bytes, before)
      const at = Math.min(split, bytes.length)
      return (
        crc32c(bytes) === whole &&
        crc32c(shifted, before, before + bytes.length) === whole &&
        crc32c(bytes, at, bytes.length, crc32c(bytes, 0, at)) === whole
      )
    }),
  )
  t.pass()
})
