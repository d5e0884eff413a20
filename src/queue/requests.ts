// Operations made ready to start, ranges without data and single commands of any kind, and operations as promises.
// Every field is set each time, since operations are reused; that is cheaper than making new ones. One
// function serves all promises, since a closure for each costs more than a command's posting.

import {
  AbortError,
  ArgumentTypeError,
  FreedBufferError,
  OutOfRangeError,
  UnsupportedError,
} from '../../lib/errors.ts'
import type { DmaPool } from '../../lib/memory/pool.ts'
import type { LentMemory } from '../../lib/memory/source.ts'
import type { DmaTag } from '../../lib/memory/tag.ts'
import {
  COMMAND_NAMES,
  type CommandFields,
  checkCommand,
  checkDataBytes,
} from '../../lib/nvme/host/check-command.ts'
import {
  DSM_MAX_RANGES,
  DSM_RANGE_BYTES,
  encodeDsmAttributes,
  encodeDsmRanges,
  ioDataBytes,
} from '../../lib/nvme/spec/commands.ts'
import { NVM, opcodeName } from '../../lib/nvme/spec/opcodes.ts'
import { onAbort } from '../../lib/sys/abort.ts'
import { rejectPaced } from '../../lib/sys/event-loop.ts'
import type { OptionNames } from '../../lib/sys/options.ts'
import { show } from '../../lib/sys/show.ts'
import { type Geometry, PRACT } from './geometry.ts'
import type { IoQueue } from './io-queue.ts'
import { type Bounce, KIND, type Operation } from './operation.ts'
import { checkAlignment, checkBuffer, checkInteger, checkRange } from './validate.ts'

/** Any I/O command, for `cmd` and `acmd`. Dwords that are left out are 0. */
export interface IoCommand extends CommandFields {
  /** Default: this namespace. */
  nsid?: number | undefined
  /** DMA memory that the command reads or writes, from its first to its last byte. */
  buf?: Uint8Array | undefined
  /**
   * DMA memory for the metadata of its blocks, where the namespace's format has a buffer of its own for it: its
   * bytes for each block, one block after the other. Reads, writes and compares need it then, unless the controller
   * makes protection information by itself (PRACT).
   */
  metadata?: Uint8Array | undefined
  /**
   * It may be sent again where the controller was reset with it in flight, or says that its failure may pass. Only
   * commands count for which it does not matter how often they are executed: reads, writes, Write Zeroes, Verify.
   * Default: true for Flush and Dataset Management alone.
   */
  retry?: boolean | undefined
}

const IO_COMMAND_NAMES: OptionNames<IoCommand> = {
  ...COMMAND_NAMES,
  buf: true,
  metadata: true,
  retry: true,
}
const DATA = ['buf', 'metadata'] as const

/** A range for `deallocate`. */
export interface LbaRange {
  /** First LBA, and number of blocks. */
  slba: number
  nlb: number
}

// The least that a PRP entry's offset is a multiple of.
const DWORD = 4
// Those that carry metadata where a namespace has it.
const WITH_METADATA: ReadonlySet<number> = new Set([NVM.READ, NVM.WRITE, NVM.COMPARE])
const LEAST_BLOCK_BYTES = 512
const DEALLOCATE = encodeDsmAttributes({ ad: true })

/** A range command without data: Write Zeroes, Verify. */
export function prepareRange(
  queue: IoQueue,
  geometry: Geometry,
  opc: number,
  slba: number,
  nlb: number,
): Operation {
  const op = queue.operations.take()
  setCommand(op, opc, null, 0, 0, 0, 0, 0)
  op.kind = KIND.RANGE
  op.slba = slba
  op.nlb = nlb
  op.geometry = geometry
  return op
}

/** Makes a single command of an operation, but for its geometry: without a buffer of its own, and without metadata. */
export function setCommand(
  op: Operation,
  opcode: number,
  tag: DmaTag | null,
  bytes: number,
  cdw10: number,
  cdw11: number,
  cdw12: number,
  cdw13: number,
): void {
  op.slba = op.nlb = 0
  op.opc = opcode
  op.kind = KIND.SINGLE
  op.buf = null
  op.allocation = tag === null ? null : tag.allocation
  op.lo = tag === null ? 0 : tag.lo
  op.hi = tag === null ? 0 : tag.hi
  op.bytes = bytes
  op.cdw10 = cdw10
  op.cdw11 = cdw11
  op.cdw12 = cdw12
  op.cdw13 = cdw13
  op.cdw14 = op.cdw15 = 0
  op.metadata = null
  op.mptrLo = op.mptrHi = 0
}

/** A single command, as it is. */
export function prepareCommand(
  call: string,
  queue: IoQueue,
  geometry: Geometry,
  pool: DmaPool,
  command: IoCommand,
): Operation {
  checkCommand(call, command, IO_COMMAND_NAMES, DATA)
  const { opcode, nsid = geometry.nsid, buf, metadata } = command
  const tag = buf && pool.tagOf(buf, call)
  if (tag !== undefined) checkAlignment(call, tag, DWORD)
  if (buf !== undefined && buf.length > queue.pair.maxBytes) {
    throw new OutOfRangeError(
      `${call}: buf has ${buf.length} bytes, one command's data at most ${queue.pair.maxBytes}`,
    )
  }
  checkDataBytes(call, opcodeName(opcode), buf, ioDataBytes(command, blockBytes(command, geometry)))
  if (nsid === geometry.nsid) checkMetadata(call, command, geometry)
  const metadataTag = metadata && pool.tagOf(metadata, call)
  if (metadataTag !== undefined) {
    checkAlignment(call, metadataTag, DWORD)
    if (queue.pair.takesMetadata === false) {
      throw new UnsupportedError(`${call}: this device has no buffer of its own for metadata`)
    }
  }
  const { cdw10 = 0, cdw11 = 0, cdw12 = 0, cdw13 = 0 } = command
  const op = queue.operations.take()
  setCommand(op, opcode, tag ?? null, buf?.length ?? 0, cdw10, cdw11, cdw12, cdw13)
  op.geometry = nsid === geometry.nsid ? geometry : { ...geometry, nsid }
  op.buf = (buf as Buffer | undefined) ?? null
  op.cdw14 = command.cdw14 ?? 0
  op.cdw15 = command.cdw15 ?? 0
  op.metadata = metadataTag?.allocation ?? null
  op.mptrLo = metadataTag?.lo ?? 0
  op.mptrHi = metadataTag?.hi ?? 0
  op.retry = command.retry ?? (opcode === NVM.FLUSH || opcode === NVM.DATASET_MANAGEMENT)
  return op
}

// What one block takes of the data: of another namespace the least that there is, since its format is not known here.
function blockBytes({ nsid, cdw12 = 0 }: IoCommand, geometry: Geometry): number {
  if (nsid !== undefined && nsid !== geometry.nsid) return LEAST_BLOCK_BYTES
  return geometry.blocksize + ((cdw12 & PRACT) === 0 ? geometry.interleavedBytes : 0)
}

// Without a buffer for it the device would take metadata from address 0, or put it there.
function checkMetadata(call: string, { opcode, cdw12 = 0, metadata }: IoCommand, geometry: Geometry): void {
  const { separateBytes, flags, nsid } = geometry
  if (separateBytes === 0 || !WITH_METADATA.has(opcode) || (cdw12 & flags) !== 0) return
  const nlb = (cdw12 & 0xffff) + 1
  const what = `opcode ${opcode.toString(16)}h has ${separateBytes} bytes of metadata for each of ${nlb} blocks of namespace ${nsid}`
  if (metadata === undefined) throw new ArgumentTypeError(`${call}: metadata must be a Buffer: ${what}`)
  if (metadata.length < nlb * separateBytes) {
    throw new OutOfRangeError(`${call}: metadata has ${metadata.length} bytes: ${what}`)
  }
}

/**
 * Dataset Management with the deallocate attribute (NVM command set, section 3.2.3).
 * @param buf DMA memory that the ranges are written into: 16 bytes for each, up to 256
 */
export function deallocateCommand(buf: Buffer, ranges: readonly LbaRange[], geometry: Geometry): IoCommand {
  if (!Array.isArray(ranges)) {
    throw new ArgumentTypeError(`deallocate: ranges must be an array, received ${show(ranges)}`)
  }
  checkInteger('deallocate: number of ranges', ranges.length, 1, DSM_MAX_RANGES)
  for (const range of ranges as readonly (LbaRange | null)[]) {
    checkRange('deallocate', range?.slba, range?.nlb, geometry)
    checkInteger('deallocate: nlb', range?.nlb, 1, 0xffff_ffff)
  }
  checkBuffer('deallocate', buf)
  checkInteger('deallocate: bytes of buf', buf.length, ranges.length * DSM_RANGE_BYTES)
  const data = buf.subarray(0, ranges.length * DSM_RANGE_BYTES)
  data.set(encodeDsmRanges(ranges.map(({ slba, nlb }) => ({ slba, nlb }))))
  return { opcode: NVM.DATASET_MANAGEMENT, buf: data, cdw10: ranges.length - 1, cdw11: DEALLOCATE }
}

// V8 looks an import up at each use; a constant of the module itself it puts into the code.
const { TRANSFER } = KIND
const { READ } = NVM

export interface SendOptions {
  readonly signal?: AbortSignal | undefined
  /** false: sent once only. */
  readonly retry?: boolean | undefined
}

/** Sends a transfer of checked arguments: resolves with its buffer. */
export function sendTransfer<B extends Uint8Array>(
  queue: IoQueue,
  geometry: Geometry,
  opc: number,
  buf: B,
  tag: DmaTag,
  slba: number,
  nlb: number,
  options: SendOptions | undefined,
): Promise<B> {
  const signal = options?.signal
  if (signal?.aborted) return rejectPaced(new AbortError(signal.reason))
  const op = queue.operations.take()
  if (options?.retry === false) op.once = true
  const promise = promiseOf<B>(op, signal)
  queue.requestTransfer(op, geometry, opc, buf as Uint8Array as Buffer, tag, slba, nlb)
  return promise
}

/**
 * The same with `bounce` in place of the caller's buffer, which it resolves with and data is copied from or to. The memory is
 * given back when no command needs it any more.
 * @param buf as long as the blocks
 */
export function sendBounced(
  queue: IoQueue,
  geometry: Geometry,
  opc: number,
  buf: Uint8Array,
  bounce: Bounce,
  slba: number,
  nlb: number,
  options: SendOptions | undefined,
): Promise<unknown> {
  const signal = options?.signal
  if (signal?.aborted) {
    bounce.home.give(bounce)
    return rejectPaced(new AbortError(signal.reason))
  }
  if (opc !== READ) {
    // It may have been taken away while the call waited for memory, or have grown.
    const error = errorIfTaken(opc, nlb, geometry, buf)
    if (error !== null) {
      bounce.home.give(bounce)
      return rejectPaced(error)
    }
    const bytes = nlb * geometry.blocksize
    bounce.buffer.set(buf.byteLength === bytes ? buf : buf.subarray(0, bytes))
  }
  const op = queue.operations.take()
  if (options?.retry === false) op.once = true
  op.bounce = bounce
  op.caller = buf
  const promise = promiseOf<unknown>(op, signal, settleBounced)
  queue.requestTransfer(op, geometry, opc, bounce.buffer, bounce, slba, nlb)
  return promise
}

/**
 * The same of a read, with the caller's buffer as it is, which its pool has lent: `DmaPool.lend`. Nothing of the device
 * touches it any more when the promise is settled.
 */
export function sendLent<B extends Uint8Array>(
  queue: IoQueue,
  geometry: Geometry,
  buf: B,
  lent: LentMemory,
  slba: number,
  nlb: number,
  options: SendOptions | undefined,
): Promise<B> {
  const op = queue.operations.take()
  if (options?.retry === false) op.once = true
  op.lent = lent
  const promise = promiseOf<B>(op, options?.signal, settleLent)
  queue.requestTransfer(op, geometry, READ, buf as Uint8Array as Buffer, lent, slba, nlb)
  return promise
}

/** Sends an operation: resolves with dword 0 of its last completion. */
export function send(queue: IoQueue, op: Operation, options: SendOptions | undefined): Promise<number> {
  const signal = options?.signal
  if (signal?.aborted) {
    queue.operations.give(op)
    return rejectPaced(new AbortError(signal.reason))
  }
  if (options?.retry === false) op.once = true
  const promise = promiseOf<number>(op, signal)
  queue.request(op)
  return promise
}

// One function for all promises: a closure for each would be made, and its code looked up, with every call.
let nextResolve: (value: never) => void
const executor = (resolve: (value: never) => void) => {
  nextResolve = resolve
}

/** What settles when the operation is done: with its buffer, or dword 0 where it is no transfer. */
function promiseOf<T>(op: Operation, signal: AbortSignal | undefined, onDone = settle): Promise<T> {
  const promise = new Promise<T>(executor as never)
  op.resolve = nextResolve
  op.onDone = onDone
  if (signal !== undefined) watch(op, signal, nextResolve)
  return promise
}

function watch(op: Operation, signal: AbortSignal, resolve: (value: never) => void): void {
  op.context = onAbort(signal, () => {
    const error = new AbortError(signal.reason)
    op.resolve = null
    op.caller = null
    op.lent?.part()
    resolve(rejection(error))
    op.queue.cancel(op, error)
  })
}

function settle(op: Operation): void {
  const error = op.field === 0 && op.cause === null ? null : op.takeError()
  end(op, op.kind === TRANSFER ? op.buf : op.result, error)
}

// The call has been aborted where no one waits for it any more: an error that comes then is no unhandled rejection.
function end(op: Operation, value: unknown, error: Error | null): void {
  const { resolve, context } = op
  op.onDone = null
  op.resolve = null
  op.once = false
  op.queue.operations.give(op)
  if (context !== null) {
    op.context = null
    ;(context as () => void)()
  }
  if (resolve !== null) resolve(error === null ? (value as never) : rejection(error))
}

// Nothing of a failed read is shown: what the memory holds is another's. An aborted call's buffer is not touched any more.
function settleBounced(op: Operation): void {
  const { caller } = op
  const bounce = op.bounce!
  let error = op.field === 0 && op.cause === null ? null : op.takeError()
  if (error === null && op.opc === READ && caller !== null) {
    const { buffer } = bounce
    const bytes = op.nlb * op.geometry.blocksize
    if (buffer.length === bytes && caller.byteLength === bytes) caller.set(buffer)
    else error = copyPart(op, buffer, caller)
  }
  op.bounce = null
  op.caller = null
  bounce.home.give(bounce)
  end(op, caller, error)
}

// What the memory holds beyond the blocks is another's, also where the caller's buffer has grown meanwhile.
function copyPart({ opc, nlb, geometry }: Operation, buffer: Buffer, caller: Uint8Array): Error | null {
  if (caller.byteLength > 0) buffer.copy(caller, 0, 0, nlb * geometry.blocksize)
  return errorIfTaken(opc, nlb, geometry, caller)
}

// A transfer to another thread empties a buffer, also while a command of it is in flight. Its `length` V8's optimized code may
// have as it was (Node 20 and 22, after resizable buffers).
export function errorIfTaken(
  opc: number,
  nlb: number,
  { blocksize }: Geometry,
  { byteLength }: Uint8Array,
): Error | null {
  if (byteLength >= nlb * blocksize) return null
  const call = opcodeName(opc)
  return new FreedBufferError(
    `${call}: the buffer was taken away with the command in flight, as by a transfer: it has ${byteLength} bytes`,
  )
}

function settleLent(op: Operation): void {
  const { lent, opc, nlb, geometry } = op
  const buf = op.buf!
  const error = op.field === 0 && op.cause === null ? null : op.takeError()
  lent!.giveBack()
  // The same buffer is other memory the next time.
  op.lent = op.buf = op.allocation = null
  end(op, buf, error ?? errorIfTaken(opc, nlb, geometry, buf))
}

// Of the two functions of a promise one is kept: the way to an error may be longer.
function rejection(error: Error): never {
  return rejectPaced(error) as never
}
