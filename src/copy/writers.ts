// What is written at any place of a target: a namespace, or a file or block device of the kernel. And a pipe, which takes
// its bytes in order.
// Zeroes are a call of their own, so that a target that knows how to have them without their bytes does.

import type { FileHandle } from 'node:fs/promises'
import { AbortError, NbdError, NvmeError } from '../../lib/errors.ts'
import { blockExtents } from '../../lib/nvme/host/lba-status.ts'
import { DEALLOCATED_READS, DLFEAT } from '../../lib/nvme/spec/flags.ts'
import { NVM } from '../../lib/nvme/spec/opcodes.ts'
import { STATUS } from '../../lib/nvme/spec/status.ts'
import { FALLOC_FL, fallocateAsync } from '../../lib/sys/libc.ts'
import type { Namespace } from '../namespace/namespace.ts'
import type { Chunks, Writer } from './endpoint.ts'
import { readFully, writeFully } from './file-io.ts'

// Dword 12: of Write Zeroes, deallocate (NVM command set, 3.2.8); of Read, from the medium and not from a cache (3.2.4).
const DEALLOCATE = 2 ** 25
const FORCE_UNIT_ACCESS = 2 ** 30
const MAX_NLB = 65536
const NEXT_WITHOUT: Readonly<Record<ZeroWay, ZeroWay>> = {
  deallocate: 'zeroes',
  zeroes: 'data',
  data: 'data',
}
// Zeroes that are written as data, at a time.
const ZERO_BYTES = 2 ** 20
// Of fewer zeroes a device is not asked which blocks are holes already: it writes them in the time that the answer takes.
const ASK_BYTES = 2 ** 20

/** How blocks are made to read as zeroes: Write Zeroes with and without deallocation, or as data. */
type ZeroWay = 'deallocate' | 'zeroes' | 'data'

let zeroes: Buffer | undefined

/** A megabyte of zeroes, made at its first use. */
export function zeroBuffer(): Buffer {
  zeroes ??= Buffer.alloc(ZERO_BYTES)
  return zeroes
}

/** True where all bytes are zeroes. */
export function isZero(data: Uint8Array): boolean {
  const nothing = zeroBuffer()
  for (let at = 0; at < data.length; at += ZERO_BYTES) {
    const bytes = Math.min(ZERO_BYTES, data.length - at)
    if (nothing.compare(data, at, at + bytes, 0, bytes) !== 0) return false
  }
  return true
}

/**
 * Writes a namespace from LBA `slba` on.
 * @param pad fill the last block with zeroes, rather than keep its rest
 * @param known all of it reads as zeroes
 * @param holes it is asked which blocks are: see `tellsHoles`
 */
export function createDeviceWriter(
  ns: Namespace,
  slba: number,
  pad: boolean,
  known: boolean,
  holes: boolean,
): Writer {
  const { blocksize, promises, pool } = ns
  let way: ZeroWay = 'deallocate'
  let asked: Promise<void> | undefined
  // Where a deallocated block may read as anything, controllers of NVMe 1.3 and before may let these, too.
  const ask = async () => {
    const { dlfeat } = await ns.controller.identifyNamespace(ns.id)
    if ((dlfeat & DLFEAT.READ) !== DEALLOCATED_READS.ZEROES) way = 'zeroes'
  }
  const place = (at: number) => slba + at / blocksize

  /** Writes less than a block, in the block that holds byte `at`. */
  const writePart = async (data: Buffer, at: number) => {
    const from = at % blocksize
    const lba = place(at - from)
    const block = await pool.allocAsync(blocksize)
    try {
      if (pad && from === 0) block.fill(0)
      else await promises.read(block, lba, 1)
      data.copy(block, from)
      await promises.write(block, lba, 1)
    } finally {
      pool.discard(block)
    }
  }

  /** Bytes up to the first whole block. */
  const headOf = (at: number, bytes: number) => Math.min(bytes, (blocksize - (at % blocksize)) % blocksize)

  const write = async (data: Buffer, at: number) => {
    const head = headOf(at, data.length)
    if (head > 0) await writePart(data.subarray(0, head), at)
    const nlb = Math.floor((data.length - head) / blocksize)
    const end = head + nlb * blocksize
    if (nlb > 0) await promises.write(data.subarray(head, end), place(at + head), nlb)
    if (end < data.length) await writePart(data.subarray(end), at + end)
  }

  const zeroBlocks = async (first: number, nlb: number): Promise<boolean> => {
    asked ??= ask()
    await asked
    for (;;) {
      const tried = way
      if (tried === 'data') break
      try {
        await promises.cmd({
          opcode: NVM.WRITE_ZEROES,
          cdw10: first >>> 0,
          cdw11: Math.floor(first / 2 ** 32),
          cdw12: nlb - 1 + (tried === 'deallocate' ? DEALLOCATE : 0),
          retry: true,
        })
        return true
      } catch (error) {
        if (!isNotOffered(error)) throw error
        if (way === tried) way = NEXT_WITHOUT[tried]
      }
    }
    for (let done = 0; done < nlb; ) {
      const count = Math.min(nlb - done, ZERO_BYTES / blocksize)
      await promises.write(zeroBuffer(), first + done, count)
      done += count
    }
    return false
  }

  /** Blocks that may be no zeroes, as the first and how many of each range. No block is written before, or twice. */
  async function* unzeroed(first: number, nlb: number): AsyncGenerator<[first: number, nlb: number]> {
    if (known) return
    if (!holes || nlb * blocksize < ASK_BYTES) {
      yield [first, nlb]
      return
    }
    let at = first
    for await (const extent of blockExtents(ns.controller, ns.id, first, nlb)) {
      if (extent.data) yield [at, extent.nlb]
      at += extent.nlb
    }
  }

  return {
    parallel: ns.maxiopq,
    align: blocksize,
    write,
    async zero(at, bytes) {
      const head = headOf(at, bytes)
      if (head > 0) await writePart(zeroBuffer().subarray(0, head), at)
      const nlb = Math.floor((bytes - head) / blocksize)
      let moved = 0
      for await (const [first, count] of unzeroed(place(at + head), nlb)) {
        for (let done = 0; done < count; ) {
          const part = Math.min(count - done, MAX_NLB)
          if (!(await zeroBlocks(first + done, part))) moved += part * blocksize
          done += part
        }
      }
      const rest = bytes - head - nlb * blocksize
      if (rest > 0) await writePart(zeroBuffer().subarray(0, rest), at + bytes - rest)
      return moved + head + rest
    },
    async read(buffer, at, wanted) {
      const before = at % blocksize
      at -= before
      const bytes = before + wanted
      const nlb = Math.ceil(bytes / blocksize)
      const reads: Promise<unknown>[] = []
      const step = Math.min(ns.maxbpio, MAX_NLB)
      for (let done = 0; done < nlb; done += step) {
        const count = Math.min(step, nlb - done)
        const lba = place(at) + done
        reads.push(
          promises.cmd({
            opcode: NVM.READ,
            buf: buffer.subarray(done * blocksize, (done + count) * blocksize),
            cdw10: lba >>> 0,
            cdw11: Math.floor(lba / 2 ** 32),
            cdw12: count - 1 + FORCE_UNIT_ACCESS,
            retry: true,
          }),
        )
      }
      // All of them end before the memory is somebody else's.
      const failed = (await Promise.allSettled(reads)).find((one) => one.status === 'rejected')
      if (failed !== undefined) throw failed.reason
      if (before > 0) buffer.copyWithin(0, before, bytes)
    },
    pool,
    sync: async () => void (await promises.flush()),
    async end(_bytes, flush) {
      if (flush) await promises.flush()
    },
    close: async () => {},
  }
}

/** The controller does not have the command, or not with this bit. */
function isNotOffered(error: unknown): boolean {
  if (!(error instanceof NvmeError)) return false
  const status = error.sct * 256 + error.sc
  return status === STATUS.INVALID_OPCODE || status === STATUS.INVALID_FIELD
}

/**
 * Writes a file or a block device.
 * @param known what has not been written reads as zeroes: a file that is new
 */
export function createFileWriter(
  handle: FileHandle,
  readBack: () => Promise<FileHandle>,
  { known, align, isFile }: { known: boolean; align: number; isFile: boolean },
): Writer {
  let punches = true
  let reader: Promise<FileHandle> | undefined
  return {
    parallel: 4,
    align,
    write: (data, at) => writeFully(handle, data, at),
    async zero(at, bytes) {
      if (known) return 0
      if (punches) {
        punches =
          (await fallocateAsync(handle.fd, FALLOC_FL.PUNCH_HOLE | FALLOC_FL.KEEP_SIZE, at, bytes)) === 0
        if (punches) return 0
      }
      for (let done = 0; done < bytes; ) {
        const part = zeroBuffer().subarray(0, bytes - done)
        await writeFully(handle, part, at + done)
        done += part.length
      }
      return bytes
    },
    async read(buffer, at, bytes) {
      reader ??= readBack()
      const read = await readFully(await reader, buffer.subarray(0, bytes), at)
      // Behind the end of a file that ends with a hole there is nothing yet.
      buffer.fill(0, read, bytes)
    },
    pool: null,
    async sync(bytes) {
      // Up to there all is written or a hole, and its last byte one that no one writes any more. Setting its size would cut
      // what is written behind that meanwhile.
      if (isFile && bytes > 0 && (await handle.stat()).size < bytes) {
        await writeFully(handle, zeroBuffer().subarray(0, 1), bytes - 1)
      }
      await handle.datasync()
    },
    async end(bytes, flush) {
      // A file is made as long as what was written to it: its end may be a hole.
      if (isFile && (await handle.stat()).size < bytes) await handle.truncate(bytes)
      if (flush) await handle.datasync()
    },
    close: async () => (await reader)?.close(),
  }
}

/**
 * Writes what only takes bytes in order.
 * @param take what consumes all of them, as `write` of an endpoint
 */
export function createStreamWriter(take: (chunks: Chunks) => Promise<number>): Writer {
  let offered: Uint8Array | null | undefined
  let broken: Error | undefined
  let taken = () => {}
  let wake = () => {}
  async function* chunks(): Chunks {
    for (;;) {
      while (offered === undefined) {
        await new Promise<void>((resolve) => {
          wake = resolve
        })
      }
      if (broken !== undefined) throw broken
      if (offered === null) return
      yield offered
      offered = undefined
      taken()
    }
  }
  let consumed: Promise<number> | undefined
  const write = async (data: Buffer) => {
    consumed ??= take(chunks())
    offered = data
    const next = new Promise<void>((resolve) => {
      taken = resolve
    })
    wake()
    await Promise.race([next, consumed])
  }
  const end = async () => {
    consumed ??= take(chunks())
    offered = null
    wake()
    await consumed
  }
  return {
    parallel: 1,
    align: 1,
    inOrder: true,
    write,
    async zero(_at, bytes) {
      for (let done = 0; done < bytes; ) {
        const part = zeroBuffer().subarray(0, bytes - done)
        await write(part)
        done += part.length
      }
      return bytes
    },
    pool: null,
    end,
    close: async () => {
      if (consumed === undefined || offered === null) return
      broken = new AbortError('the copy ended before its end')
      await end().catch(() => {})
    },
  }
}

/** True for an error of the data's place alone: of other places there may be no error. */
export function isMediaError(error: unknown): boolean {
  if (error instanceof AbortError) return false
  if (error instanceof NvmeError) return error.sct === MEDIA_ERROR || GENERIC.has(error.sct * 256 + error.sc)
  if (error instanceof NbdError) return error.errno === EIO
  return MEDIA_ERRORS.has((error as NodeJS.ErrnoException | undefined)?.code ?? '')
}

const EIO = 5
// Status code type 2h: Media and Data Integrity Errors.
const MEDIA_ERROR = 2
const GENERIC: ReadonlySet<number> = new Set([STATUS.DATA_TRANSFER_ERROR, STATUS.INTERNAL_ERROR])
/** What the kernel says of blocks that it can't read or write. */
const MEDIA_ERRORS: ReadonlySet<string> = new Set(['EIO', 'ENODATA', 'EILSEQ', 'EREMOTEIO', 'EBADMSG'])
