// A range of a namespace as one side of a copy or a comparison.
// Trade-off: a length that is no multiple of the block size is read as whole blocks and cut; it is written by
// reading the rest of the last block first.

import { statSync } from 'node:fs'
import { OutOfRangeError } from '../../lib/errors.ts'
import { parseSimAddress } from '../../lib/sim/index.ts'
import type { Namespace } from '../namespace.ts'
import { checkInteger } from '../validate.ts'
import { fileIdentity } from './file-side.ts'
import type { Chunks, Side, TransferOptions } from './side.ts'

/**
 * @param slba first LBA
 * @param owned close the namespace with the side
 * @throws OutOfRangeError where the namespace ends before `slba`
 */
export function createDeviceSide(ns: Namespace, name: string, slba: number, owned: boolean): Side {
  checkInteger('slba', slba, 0)
  if (slba >= ns.blockcount) {
    throw new OutOfRangeError(`slba ${slba} is after the last LBA ${ns.blockcount - 1} of ${name}`)
  }
  const { blocksize } = ns
  return {
    name,
    ns,
    slba,
    blocksize,
    size: (ns.blockcount - slba) * blocksize,
    rereadable: true,
    hardware: !ns.controller.pci.transport.startsWith('sim'),
    file: imageOf(ns.device),
    read: (bytes = (ns.blockcount - slba) * blocksize, options) => readDevice(ns, slba, bytes, options),
    write: (chunks, bytes, options) => writeDevice(ns, slba, chunks, bytes, options),
    close: async () => {
      if (owned) await ns.close()
    },
  }
}

async function* readDevice(ns: Namespace, slba: number, bytes: number, options: TransferOptions): Chunks {
  if (bytes === 0) return
  const nlb = Math.ceil(bytes / ns.blocksize)
  let left = bytes
  for await (const { data } of ns.blocks({ slba, nlb, ...blockOptions(ns, options) })) {
    yield data.length <= left ? data : data.subarray(0, left)
    left -= data.length
  }
}

async function writeDevice(
  ns: Namespace,
  slba: number,
  chunks: Chunks,
  bytes: number | undefined,
  options: TransferOptions,
): Promise<number> {
  const { flush = true, pad = false } = options
  const nlb = bytes === undefined ? ns.blockcount - slba : Math.max(1, Math.ceil(bytes / ns.blocksize))
  return ns.writeBlocks(chunks, { slba, nlb, flush, pad, ...blockOptions(ns, options) })
}

function blockOptions(ns: Namespace, { chunk, depth, signal }: TransferOptions) {
  return {
    ...(chunk !== undefined && { chunk: chunk / ns.blocksize }),
    ...(depth !== undefined && { depth }),
    signal,
  }
}

/** The file behind a software controller, so that it is not overwritten as a file while it is a device. */
function imageOf(address: string): string | undefined {
  const path = address.startsWith('sim:') ? parseSimAddress(address).path : undefined
  return path && fileIdentity(statSync(path))
}
