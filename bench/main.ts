// npm run bench [-- name…]: figures of the driver, each beside its yardstick in the same run. Without a name, all but
// `nbd`, which needs fio and nbdkit, `vm-spdk` and `tcp-spdk`, which need SPDK, and those that boot a virtual machine.
// docs/performance.md says what the figures mean.

import fs from 'node:fs'
import os from 'node:os'
import { parseArgs } from 'node:util'
import { commands } from './commands.ts'
import { driver } from './driver.ts'
import { garbage } from './garbage.ts'
import { latency } from './latency.ts'
import { printTable, type Table } from './measure.ts'
import { memory } from './memory.ts'
import { nbd } from './nbd.ts'
import { occupancy } from './occupancy.ts'
import { promises } from './promises.ts'
import { readable } from './readable.ts'
import { scale } from './scale.ts'
import { streams } from './streams.ts'
import { tcpSpdk } from './tcp-spdk.ts'
import { threads } from './threads.ts'
import { kernel, serveTcp, tcpKernel, vm, vmSpdk } from './vm.ts'

/** Each yields its tables one by one, as they are measured. */
const BENCHMARKS: Readonly<Record<string, () => AsyncIterable<Table>>> = {
  driver,
  commands,
  latency,
  garbage,
  promises,
  readable,
  streams,
  occupancy,
  threads,
  memory,
  scale,
  nbd,
  vm,
  'vm-spdk': vmSpdk,
  kernel,
  'tcp-kernel': tcpKernel,
  'tcp-spdk': tcpSpdk,
  'serve-tcp': serveTcp,
}

const NAMED_ONLY = ['nbd', 'vm', 'vm-spdk', 'kernel', 'tcp-kernel', 'tcp-spdk', 'serve-tcp']
const names = Object.keys(BENCHMARKS)
const { positionals } = parseArgs({ allowPositionals: true })
const unknown = positionals.find((name) => !names.includes(name))
if (unknown !== undefined) {
  console.error(`bench: no benchmark ${unknown}; there are: ${names.join(', ')}`)
  process.exitCode = 2
} else {
  console.log(describeMachine())
  for (const name of positionals.length > 0
    ? positionals
    : names.filter((name) => !NAMED_ONLY.includes(name))) {
    for await (const table of BENCHMARKS[name]!()) printTable(table)
  }
}

function describeMachine(): string {
  const cpus = os.cpus()
  const memory = `${Math.round(os.totalmem() / 2 ** 30)} GiB of memory`
  const virtual = /^flags\s*:.*\bhypervisor\b/m.test(fs.readFileSync('/proc/cpuinfo', 'utf8'))
  const model = cpus[0]?.model.trim() ?? 'unknown processor'
  const kernel = `Linux ${os.release()}`
  return `Node ${process.version}, ${cpus.length} x ${model}, ${memory}${virtual ? ', a virtual machine' : ''}, ${kernel}`
}
