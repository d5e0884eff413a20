// A log of text lines in a namespace: appends its arguments, of any length, to what is there, and prints all of it.
//
//   node dist/examples/adapters/bytes.js [ADDRESS [LINE]...]
//
// Without arguments it writes two lines to a software controller. Each line goes right behind the one before it,
// whatever blocks that touches, and is flushed before the head that counts it: a line is there in whole, or not at all.

import { open } from 'unvme'
import { bytes } from 'unvme/adapters'
import '../support/one-line.ts'

const HEAD = 16
const MAGIC = 'log-of-lines'

const [address = 'sim:?size=64M', ...given] = process.argv.slice(2)
const lines = process.argv.length > 2 ? given : ['first', 'a second one']
await using ns = await open(address)
const access = bytes(ns)

const head = await access.read(Buffer.alloc(HEAD), 0)
const isLog = head.toString('latin1', 0, 12) === MAGIC
let end = HEAD
if (isLog) end = head.readUInt32LE(12)
else if (head.some((byte) => byte !== 0)) {
  const what = `${address} holds something else, which is not overwritten`
  throw Object.assign(new Error(what), { code: 'ERR_OTHER_DATA' })
}

for (const line of lines) {
  const data = Buffer.from(`${new Date().toISOString()} ${line}\n`)
  await access.write(data, end)
  await access.flush()
  end += data.length
  head.write(MAGIC, 'latin1')
  head.writeUInt32LE(end, 12)
  await access.write(head, 0)
}
await access.flush()

const text = await access.read(Buffer.alloc(end - HEAD), HEAD)
process.stdout.write(text)
