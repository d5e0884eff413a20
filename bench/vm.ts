// This driver beside other ways, in the virtual machine, on its null-backed controller. Emulated, so that it runs anywhere: ratios are what counts, on an otherwise idle host.

import path from 'node:path'
import { type MachineOptions, runInMachine } from '../scripts/vm/machine.ts'
import { findParts } from '../scripts/vm/parts.ts'
import type { Table } from './measure.ts'
import { DEEPEST, DEEPEST_TCP } from './vm-works.ts'

const LIMIT_S = 600

/** Beside Node's own way on the kernel's block device, with the controller once under VFIO, once under the kernel. */
export const vm = () => inMachine('vm-guest.js', { driver: 'vfio' })

/** Beside SPDK's perf, both with the controller under VFIO. SPDK is no package: who has built it says where its program is. */
export async function* vmSpdk(): AsyncGenerator<Table> {
  const program = process.env.UNVME_SPDK_PERF
  if (program) yield* inMachine('vm-spdk-guest.js', { driver: 'vfio' }, DEEPEST, [path.resolve(program)])
  else console.error('bench: SPDK is left out: UNVME_SPDK_PERF is to be the path of its examples/nvme/perf')
}

/** Linux's host on our NVMe/TCP server, beside Linux's own target. */
export const serveTcp = () => inMachine('serve-tcp-guest.js', { driver: 'none', cpus: 2 })

/** Through the kernel's driver, beside fs and fio on the same device. */
export const kernel = () => inMachine('kernel-guest.js', { driver: 'nvme' })

/** Over TCP, on Linux's target in the same machine: this driver, and the kernel's with fs and fio. */
export const tcpKernel = () =>
  inMachine('tcp-kernel-guest.js', { driver: 'none', shapes: [], cpus: 2 }, DEEPEST_TCP)

type Machine = Pick<MachineOptions, 'driver' | 'shapes' | 'cpus'>

async function* inMachine(
  program: string,
  options: Machine,
  deepest = DEEPEST,
  words: string[] = [],
): AsyncGenerator<Table> {
  const found = findParts({ programs: program.startsWith('vm-') ? [] : ['fio'] })
  if ('missing' in found) {
    console.error(`bench: the virtual machine is left out: ${found.missing}`)
    return
  }
  const { status, stdout, ...result } = await runInMachine({
    // Without --enable-source-maps: with it V8 marks its whole heap for each 32 MiB that a stream of Buffers gives.
    command: [process.execPath, path.join(import.meta.dirname, program), ...words],
    shapes: ['null4096'],
    ...options,
    timeLimit: LIMIT_S,
    // libuv's threads are what fs.read has in flight: as many as the deepest row asks for, and some for itself.
    env: { UV_THREADPOOL_SIZE: String(deepest + 8) },
    stderr: process.stderr,
  })
  if (status === 0) {
    yield JSON.parse(stdout) as Table
    return
  }
  const last = result.console.trimEnd().split('\n').slice(-5).join('\n')
  console.error(`bench: the machine ended with status ${status}\n${last}`)
  process.exitCode = 1
}
