import test from 'ava'
import fc from 'fast-check'
import { hexDump as dumpOf } from '../../lib/log/index.ts'
import { hexDump } from '../../src/cli/data.ts'

test('the dump of a stream is that of its bytes, however they are cut', async (t) => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.uint8Array({ max: 50, maxLength: 50 })), async (parts) => {
      async function* chunks() {
        yield* parts
      }
      let text = ''
      for await (const lines of hexDump(chunks(), 512)) text += Buffer.from(lines).toString()
      t.is(text, dumpOf(Buffer.concat(parts), 512))
    }),
  )
})
