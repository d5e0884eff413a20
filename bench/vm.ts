// This driver beside Node's own way on the kernel's block device, in the virtual machine, on its null-backed
// controller. Trade-off: emulated, so that it runs anywhere: ratios are what counts, on an otherwise idle host.

import path from 'node:path'
import { runInMachine } from '../scripts/vm/machine.ts'
import { findParts } from '../scripts/vm/parts.ts'
import type { Table } from './table.ts'
import { DEPTHS } from './vm-work.ts'

const LIMIT_S = 600

export async function* vm(): AsyncGenerator<Table> {
  const found = findParts()
  if ('missing' in found) {
    console.error(`bench: the virtual machine is left out: ${found.missing}`)
    return
  }
  // libuv's threads are what fs.read has in flight: as many as the deepest row asks for, and some for itself.
  const env = { UV_THREADPOOL_SIZE: String(Math.max(...DEPTHS) + 8) }
  const guest = path.join(import.meta.dirname, 'vm-guest.js')
  const {
    status,
    stdout,
    console: last,
  } = await runInMachine({
    // Without --enable-source-maps: with it V8 marks its whole heap for each 32 MiB that a stream of Buffers gives.
    command: [process.execPath, guest],
    shapes: ['null4096'],
    timeLimit: LIMIT_S,
    env,
    stderr: process.stderr,
  })
  if (status !== 0) {
    console.error(
      `bench: the machine ended with status ${status}\n${last.trimEnd().split('\n').slice(-5).join('\n')}`,
    )
    process.exitCode = 1
    return
  }
  yield JSON.parse(stdout) as Table
}
