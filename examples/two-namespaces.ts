// Opens two namespaces of one controller, which share its queues, and moves data from one to the other.
//
//   node dist/examples/two-namespaces.js [ADDRESS]
//
// The device needs two namespaces with blocks of one size; of the second one, the first 1024 blocks are overwritten.
// The first open decides how many queues there are, here all that the device has, so that each direction
// has its own where there are two; the controller is shut down with the last namespace.

import { pipeline } from 'node:stream/promises'
import { AddressError, open } from 'unvme'
import './support/one-line.ts'

const [address = 'sim:?size=64M&ns=2'] = process.argv.slice(2)

await using first = await open(address, { qcount: 0 })
const other = (await first.controller.activeNamespaces()).find((nsid) => nsid !== first.id)
if (other === undefined) {
  throw new AddressError(`${address}: two namespaces are needed, namespace ${first.id} is the only one`)
}
await using second = await first.openNamespace(other)
if (second.blocksize !== first.blocksize) {
  throw new AddressError(
    `${address}: blocks of ${first.blocksize} and ${second.blocksize} bytes: one size is needed`,
  )
}
for (const ns of [first, second]) {
  console.log(`namespace ${ns.id} of ${ns.nscount}: ${ns.blockcount} blocks of ${ns.blocksize} bytes`)
}

const nlb = Math.min(1024, first.blockcount, second.blockcount)
const bytes = nlb * first.blocksize
if (address.startsWith('sim:')) await first.promises.write(Buffer.alloc(bytes, 'namespace 1 '), 0)

await pipeline(
  first.createReadStream({ slba: 0, nlb, qid: 0 }),
  second.createWriteStream({ slba: 0, qid: first.qcount > 1 ? 1 : 0 }),
)

const [a, b] = await Promise.all([
  first.promises.read(Buffer.alloc(bytes), 0),
  second.promises.read(Buffer.alloc(bytes), 0),
])
console.log(a.equals(b) ? `${bytes} bytes are the same in both` : 'the namespaces differ')
process.exitCode = a.equals(b) ? 0 : 1
