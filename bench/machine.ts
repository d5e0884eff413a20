// The machine that figures were measured on, as a line of text.

import fs from 'node:fs'
import os from 'node:os'

export function describeMachine(): string {
  const cpus = os.cpus()
  const memory = `${Math.round(os.totalmem() / 2 ** 30)} GiB of memory`
  const virtual = isVirtual() ? ', a virtual machine' : ''
  const model = cpus[0]?.model.trim() ?? 'unknown processor'
  return `Node ${process.version}, ${cpus.length} x ${model}, ${memory}${virtual}, Linux ${os.release()}`
}

/** The processor says that a hypervisor runs it. */
function isVirtual(): boolean {
  return /^flags\s*:.*\bhypervisor\b/m.test(fs.readFileSync('/proc/cpuinfo', 'utf8'))
}
