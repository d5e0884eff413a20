// Tests your own code against a device that fails: a software controller whose faults are part of its address.
//
//   node dist/examples/faults.js
//
// Here block 64 can't be read twice, and the third time it can; what is tested is a read with retries of its own.
// Faults of the software controller only; a real device has its own.

import { type Namespace, NvmeError, open } from 'unvme'
import './support/one-line.ts'

// Status 281h: Unrecovered Read Error, a media error.
// The driver would try again by itself, since the controller says that the failure may pass.
await using ns = await open('sim:?size=8M&fault=read@64*2:status=281h', { retries: 0 })

/** Your code: reads blocks, and tries again where the medium failed. */
async function readWithRetry(from: Namespace, slba: number, nlb: number, tries: number): Promise<Buffer> {
  for (let left = tries - 1; ; left--) {
    try {
      return await from.promises.read(Buffer.alloc(nlb * from.blocksize), slba)
    } catch (error) {
      if (!(error instanceof NvmeError) || error.dnr || left === 0) throw error
      console.log(`again: ${error.message}`)
    }
  }
}

await ns.promises.write(Buffer.alloc(8 * ns.blocksize, 'precious '), 60)
const data = await readWithRetry(ns, 60, 8, 3)
console.log(`read after all: ${data.toString('latin1', 0, 8)}, ${data.length} bytes`)
