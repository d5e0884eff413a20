// Opens two namespaces of one controller, which share its queues, and moves data from one to the other.
//
//   node dist/examples/two-namespaces.js [ADDRESS]
//
// The device needs two namespaces, and the second one's first 1024 blocks are overwritten. Trade-off: the first
// open decides how many queues there are; the controller is shut down with the last namespace.

import { pipeline } from 'node:stream/promises'
import { open } from 'unvme'

const [address = 'sim:?size=64M&ns=2'] = process.argv.slice(2)

await using first = await open(address, { nsid: 1, qcount: 2 })
await using second = await first.openNamespace(2)
for (const ns of [first, second]) {
  console.log(`namespace ${ns.id} of ${ns.nscount}: ${ns.blockcount} blocks of ${ns.blocksize} bytes`)
}

const bytes = 1024 * first.blocksize
if (address.startsWith('sim:')) await first.promises.write(Buffer.alloc(bytes, 'namespace 1 '), 0)

// Each direction has a queue of its own.
await pipeline(
  first.createReadStream({ slba: 0, nlb: 1024, qid: 0 }),
  second.createWriteStream({ slba: 0, qid: 1 }),
)

const [a, b] = await Promise.all([
  first.promises.read(Buffer.alloc(bytes), 0),
  second.promises.read(Buffer.alloc(bytes), 0),
])
console.log(a.equals(b) ? `${bytes} bytes are the same in both` : 'the namespaces differ')
process.exitCode = a.equals(b) ? 0 : 1
