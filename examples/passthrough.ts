// Sends raw admin and I/O commands, for what has no call of its own: Identify, and a Write Uncorrectable that
// makes a block fail.
//
//   node dist/examples/passthrough.js [ADDRESS]
//
// The block is written again afterwards. Nothing is checked but the opcode and the memory; opcode and
// dwords are those of the specification (NVMe 1.4 base, sections 5 and 6).

import { ADMIN, NVM, NvmeError, open } from 'unvme'
import './support/one-line.ts'

const [address = 'sim:?size=64M'] = process.argv.slice(2)
await using ns = await open(address)

// Identify Controller: CNS 01h.
const data = Buffer.alloc(4096)
await ns.admin({ opcode: ADMIN.IDENTIFY, data, cdw10: 1 })
const text = (from: number, to: number) => data.toString('latin1', from, to).trim()
console.log(`model ${text(24, 64)}, serial ${text(4, 24)}, firmware ${text(64, 72)}`)

// An I/O command with its dwords: LBA 7, one block (NLB is zero-based).
const LBA = 7
await ns.promises.cmd({ opcode: NVM.WRITE_UNCORRECTABLE, cdw10: LBA, cdw12: 0 })
try {
  await ns.promises.read(Buffer.alloc(ns.blocksize), LBA)
} catch (error) {
  if (!(error instanceof NvmeError)) throw error
  console.log(error.message)
}
await ns.promises.write(Buffer.alloc(ns.blocksize), LBA)
const again = await ns.promises.read(Buffer.alloc(ns.blocksize), LBA)
console.log(`written again, it reads ${again.length} bytes`)
