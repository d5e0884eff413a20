// A range of a namespace as one side of a copy or a comparison.
// Trade-off: a length that is no multiple of the block size is read as whole blocks and cut; it is written by
// reading the rest of the last block first.

import { statSync } from 'node:fs'
import { OutOfRangeError } from '../../lib/errors.ts'
import { parseSimAddress } from '../../lib/sim/index.ts'
import type { Namespace } from '../namespace.ts'
import type { TransferSink, TransferSource } from '../streams/index.ts'
import { checkInteger } from '../validate.ts'
import { fileIdentity } from './file-side.ts'
import type { Chunks, Side, TransferOptions } from './side.ts'

const FILE_CHUNK_BYTES = 1024 * 1024

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

/** Hands `bytes` from LBA `slba` on to `sink`, in DMA memory. Returns the bytes. */
export async function emptyDevice(
  ns: Namespace,
  slba: number,
  sink: TransferSink,
  bytes = (ns.blockcount - slba) * ns.blocksize,
  options: TransferOptions,
): Promise<number> {
  if (bytes === 0) return 0
  const nlb = Math.ceil(bytes / ns.blocksize)
  await ns.transferTo(
    (data, at) => sink(data.length <= bytes - at ? data : data.subarray(0, bytes - at), at),
    { slba, nlb, chunk: fileChunk(ns), ...blockOptions(ns, options) },
  )
  return bytes
}

/** Writes `bytes` from LBA `slba` on with what `source` fills DMA memory with. Returns the bytes written. */
export function fillDevice(
  ns: Namespace,
  slba: number,
  source: TransferSource,
  bytes: number,
  options: TransferOptions,
): Promise<number> {
  const { flush = true, pad = false } = options
  return ns.transferFrom(source, {
    slba,
    bytes,
    flush,
    pad,
    chunk: fileChunk(ns),
    ...blockOptions(ns, options),
  })
}

// A call of fs takes some 15 us beside what it moves: fewer of them than commands.
const fileChunk = (ns: Namespace) => Math.max(1, Math.floor(FILE_CHUNK_BYTES / ns.blocksize))

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
