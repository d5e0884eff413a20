import { execFileSync, spawnSync } from 'node:child_process'
import test from 'ava'
import fc from 'fast-check'
import { hexDump, hexRow } from '../../src/cli/hex.ts'

async function dump(parts: Uint8Array[]): Promise<string> {
  async function* chunks() {
    yield* parts
  }
  let text = ''
  for await (const lines of hexDump(chunks(), 0)) text += Buffer.from(lines).toString()
  return text
}

test('a row that is not full keeps its columns', (t) => {
  t.is(
    hexRow(0x1234, Buffer.from('short ~\x7f\x80', 'latin1')),
    '00001234  73 68 6f 72 74 20 7e 7f  80                       |short ~..|',
  )
  t.is(hexRow(2 ** 40, Buffer.from([0]))?.split(' ')[0], '10000000000')
})

test('the same dump however the bytes are cut', async (t) => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.uint8Array({ max: 50, maxLength: 50 })), async (parts) => {
      t.is(await dump(parts), await dump([Buffer.concat(parts)]))
    }),
  )
})

const hasHexdump = spawnSync('hexdump', ['-V']).error === undefined
const comparedTest = hasHexdump ? test : test.skip

comparedTest('the same as hexdump -C prints', async (t) => {
  for (const data of [
    Buffer.from('x'),
    Buffer.alloc(100),
    Buffer.concat([
      Buffer.alloc(64, 1),
      Buffer.from(Array.from({ length: 256 }, (_, i) => i)),
      Buffer.alloc(48, 1),
    ]),
  ]) {
    t.is(await dump([data]), execFileSync('hexdump', ['-C'], { input: data }).toString())
  }
})
