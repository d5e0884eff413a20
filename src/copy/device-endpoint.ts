// A range of a namespace as one endpoint of a copy or a comparison.
// A length that is no multiple of the block size is read as whole blocks and cut; it is written by
// reading the rest of the last block first. What memory both ends reach is moved without a copy: see `fillDevice`,
// and `emptyDevice`; the rest goes through chunks of a window, and is copied once.

import { OutOfRangeError } from '../../lib/errors.ts'
import { blockExtents } from '../../lib/nvme/host/lba-status.ts'
import { throwIfAborted } from '../../lib/sys/abort.ts'
import { eventLoopTurn, isEventLoopDue } from '../../lib/sys/event-loop.ts'
import type { Namespace } from '../namespace/namespace.ts'
import { checkInteger } from '../queue/validate.ts'
import { withBytesWritten } from '../streams/session.ts'
import type { TransferSink, TransferSource } from '../streams/transfer.ts'
import type { Chunks, Endpoint, TransferOptions } from './endpoint.ts'
import { alignedExtents, type Extent } from './extents.ts'
import { createDeviceWriter, zeroBuffer } from './writers.ts'

// A call of fs takes some 15 us beside what it moves, so a chunk of a file is larger than a command's usual 128 KiB.
// Eight of them, half the file's and half the device's, stay in a processor's cache: 32 took a quarter more of its time.
const FILE_CHUNK_BYTES = 2 ** 20
const FILE_CHUNKS = 8
// Holes that reading goes around, aligned: smaller ones are read in less time than reading begins again.
const HOLE_BYTES = 2 ** 20

/**
 * @param slba first LBA
 * @param owned close the namespace with the endpoint
 * @param holes its controller tells which blocks are holes: see `tellsHoles`
 * @throws OutOfRangeError where the namespace ends before `slba`
 */
export function createDeviceEndpoint(
  ns: Namespace,
  name: string,
  slba: number,
  owned: boolean,
  holes = false,
): Endpoint {
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
    hardware: !ns.controller.transport.emulated,
    file: ns.controller.transport.image,
    read: (bytes = (ns.blockcount - slba) * blocksize, options) => readDevice(ns, slba, bytes, options),
    write: (chunks, bytes, options) => writeDevice(ns, slba, chunks, bytes, options),
    writer: async ({ pad = false, known = false, askHoles = false }) =>
      createDeviceWriter(ns, slba, pad, known, holes && askHoles),
    ...(holes && {
      extents: (from: number, bytes: number) => deviceExtents(ns, slba, from, bytes),
      readData: (bytes = (ns.blockcount - slba) * blocksize, options: TransferOptions) =>
        readData(ns, slba, bytes, options),
    }),
    close: async () => {
      if (owned) await ns.close()
    },
  }
}

/** Deallocated blocks are holes. */
async function* deviceExtents(
  ns: Namespace,
  slba: number,
  from: number,
  bytes: number,
): AsyncGenerator<Extent> {
  const { controller, id, blocksize } = ns
  const first = Math.floor(from / blocksize)
  const end = Math.ceil((from + bytes) / blocksize)
  let lba = first
  for await (const { nlb, data } of blockExtents(controller, id, slba + first, end - first)) {
    const at = Math.max(from, lba * blocksize)
    lba += nlb
    yield { at, bytes: Math.min(from + bytes, lba * blocksize) - at, kind: data ? 'data' : 'hole' }
  }
}

async function* readData(ns: Namespace, slba: number, bytes: number, options: TransferOptions): Chunks {
  const extents = alignedExtents(deviceExtents(ns, slba, 0, bytes), HOLE_BYTES, bytes)
  for await (const { at, bytes: length, kind } of extents) {
    if (kind === 'data') yield* readDevice(ns, slba + at / ns.blocksize, length, options)
    else {
      for (let left = length; left > 0; ) {
        if (isEventLoopDue(performance.now())) await eventLoopTurn()
        throwIfAborted(options.signal)
        const zeroes = zeroBuffer().subarray(0, left)
        yield zeroes
        left -= zeroes.length
      }
    }
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
  const cut: TransferSink = (data, at) =>
    sink(data.length <= bytes - at ? data : data.subarray(0, bytes - at), at)
  try {
    await ns.transferTo(cut, { slba, nlb, ...fileOptions(ns, options) })
  } catch (error) {
    throw withBytesWritten(error, 0, bytes)
  }
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
  return ns.transferFrom(source, {
    slba,
    bytes,
    ...writeOptions(options),
    ...fileOptions(ns, options),
  })
}

/** Fills `buffer` from LBA `slba` on; of a last block that does not fit, its beginning is copied. */
export async function readBlocks(
  { promises, blocksize }: Namespace,
  buffer: Buffer,
  slba: number,
): Promise<void> {
  const nlb = Math.floor(buffer.length / blocksize)
  const whole = nlb * blocksize
  if (nlb > 0) await promises.read(buffer, slba, nlb)
  if (whole === buffer.length) return
  const last = await promises.read(Buffer.allocUnsafe(blocksize), slba + nlb)
  last.copy(buffer, whole)
}

async function writeDevice(
  ns: Namespace,
  slba: number,
  chunks: Chunks,
  bytes: number | undefined,
  options: TransferOptions,
): Promise<number> {
  const nlb = bytes === undefined ? ns.blockcount - slba : Math.max(1, Math.ceil(bytes / ns.blocksize))
  return ns.writeBlocks(chunks, { slba, nlb, ...writeOptions(options), ...blockOptions(ns, options) })
}

function writeOptions({ flush = true, pad = false }: TransferOptions) {
  return { flush, pad }
}

function blockOptions(ns: Namespace, { chunk, depth, signal }: TransferOptions) {
  return {
    ...(chunk !== undefined && { chunk: chunk / ns.blocksize }),
    ...(depth !== undefined && { depth }),
    signal,
  }
}

// Smaller chunks where the queue, or the depth asked for, has no space for the commands of eight.
function fileOptions(ns: Namespace, options: TransferOptions) {
  const how = blockOptions(ns, options)
  if (how.chunk !== undefined) return how
  const commands = Math.max(1, Math.floor(Math.min(how.depth ?? Infinity, ns.maxiopq) / FILE_CHUNKS))
  const chunk = Math.max(1, Math.min(Math.floor(FILE_CHUNK_BYTES / ns.blocksize), commands * ns.maxbpio))
  return { depth: FILE_CHUNKS * Math.ceil(chunk / ns.maxbpio), ...how, chunk }
}
