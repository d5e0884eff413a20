// `sim:disk.img?lba=4096`: the software controller, in this process.

import fs from 'node:fs'
import { isDeepStrictEqual } from 'node:util'
import { InUseError } from '../../lib/errors.ts'
import { openPcieTransport, type PcieTransport } from '../../lib/nvme/pcie/transport.ts'
import { parseSimAddress, type SimConfig } from '../../lib/sim/address.ts'
import type { SimFunction } from '../../lib/sim/function.ts'
import { openSim } from '../../lib/sim/open.ts'
import { inodeIdentity, realPath } from '../../lib/sys/file.ts'
import { checkPlatform } from './platform.ts'
import type { Resolve } from './target.ts'

export const resolve: Resolve = (address, { faults, threads, shadowDoorbells, sgl }) => {
  const config = parseSimAddress(address)
  checkPlatform(address, { inline: !config.thread && threads !== true })
  const { path, nsid } = config
  const sim = { ...(faults !== undefined && { faults }), ...(threads !== undefined && { thread: threads }) }
  return {
    key: () => (path === undefined ? null : `sim:${imageKey(path)}`),
    nsid,
    check: (open) => checkSame(config, ((open as PcieTransport).pci as SimFunction).config),
    connect: async () => openPcieTransport(await openSim(address, sim), { shadowDoorbells, sgl }),
  }
}

// One image is one controller, by whatever name it is reached: symbolic and hard links among them.
function imageKey(path: string): string {
  try {
    return inodeIdentity(fs.statSync(path, { bigint: true }))
  } catch {
    return realPath(path)
  }
}

// An address without options is that of the controller as it is, whatever it was opened with.
function checkSame(asked: SimConfig, open: SimConfig): void {
  if (!asked.address.includes('?')) return
  const differing = SHAPE.filter(
    (name) => asked[name] !== undefined && !isDeepStrictEqual(asked[name], open[name]),
  )
  if (differing.length > 0) {
    throw new InUseError(
      `${asked.address} is open already as ${open.address}, which differs in ${differing.join(', ')}`,
    )
  }
}

const SHAPE = [
  'size',
  'spare',
  'lba',
  'nsids',
  'mdts',
  'qcount',
  'qsize',
  'dstrd',
  'shadow',
  'sgl',
  'latency',
] as const satisfies readonly (keyof SimConfig)[]
