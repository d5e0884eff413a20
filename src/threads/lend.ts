// Making a loan: what is checked, and what goes with the queues.
// Trade-off: the borrower gets everything as plain data in one ticket, so that attaching needs no conversation.

import { MessageChannel, threadId } from 'node:worker_threads'
import { OutOfRangeError, QueueOwnerError, UnsupportedError } from '../../lib/errors.ts'
import type { DmaArena } from '../../lib/memory/mapping.ts'
import { PAGE_BYTES } from '../../lib/memory/pool.ts'
import type { DmaSource } from '../../lib/memory/source.ts'
import type { Controller } from '../../lib/nvme/host/controller.ts'
import type { Transport } from '../../lib/nvme/host/transport.ts'
import type { QueuePair } from '../../lib/nvme/pcie/queue-pair.ts'
import type { FunctionShare } from '../../lib/pci/share.ts'
import type { OptionNames } from '../../lib/sys/options.ts'
import { show } from '../../lib/sys/show.ts'
import type { Device } from '../controller/device.ts'
import type { Geometry } from '../queue/geometry.ts'
import type { IoQueue } from '../queue/io-queue.ts'
import { QueueLoan } from './loan.ts'
import { type QueueTicket, WORD_COUNT } from './protocol.ts'

const DEFAULT_MEMORY = 8 * 2 ** 20

export interface LendOptions {
  /**
   * Bytes of DMA memory that come with the queues, default 8 MiB, at least 0. When it is used up the borrower's
   * `alloc` asks this thread for more, and waits until its event loop runs.
   */
  memory?: number | undefined
  /** Buffers of this thread's `alloc` that the borrower has, too, as `ns.buffers`: the same memory. */
  buffers?: readonly Buffer[] | undefined
}

/** Names of LendOptions. */
export const LEND_NAMES: OptionNames<LendOptions> = { memory: true, buffers: true }

/** See `Namespace.lend`. */
export function lend(
  device: Device,
  geometry: Geometry,
  address: string,
  queues: readonly IoQueue[],
  options: LendOptions,
): QueueLoan {
  const { memory = DEFAULT_MEMORY, buffers = [] } = options
  // Only the thread that opened a device shares its queues.
  const { pool, transport } = device.controller as Controller
  checkQueues(queues, address)
  if ((device.controller as Controller).resetting) {
    throw new QueueOwnerError(`lend: ${address} is being reset`)
  }
  if (!Number.isSafeInteger(memory) || memory < 0) {
    throw new OutOfRangeError(`lend: memory must be a number of bytes from 0 on, received ${show(memory)}`)
  }
  const fn = shareOf(transport, address)
  const shared = buffers.map((buffer) => pool.share(buffer))
  const arenas = mapArenas(transport.memory, memory)
  const { cap, version, identity, maxTransferBytes, timeout } = device.controller
  const { namespaces, qsize, maxqcount, retries } = device
  const pairs = queues.map(({ pair }) => (pair as QueuePair).share())
  const { port1: port, port2 } = new MessageChannel()
  const ticket: QueueTicket = {
    kind: 'unvme.queues',
    owner: threadId,
    port: port2,
    words: new Int32Array(new SharedArrayBuffer(4 * WORD_COUNT)),
    device: {
      ...{ address, fn, cap, version, identity, maxTransferBytes, timeout },
      ...{ geometry, namespaces, qsize, maxqcount, retries, pairs },
      arenas: [...arenas],
      buffers: shared,
    },
  }
  for (const buffer of buffers) pool.tagOf(buffer).allocation.users++
  return new QueueLoan({ device, queues, ticket, port, arenas, buffers })
}

function checkQueues(queues: readonly IoQueue[], address: string): void {
  if (queues.length === 0 || new Set(queues).size < queues.length) {
    throw new OutOfRangeError('lend: the id of one queue, or of several different ones, is needed')
  }
  for (const { qid, pair, busy, occupancy } of queues) {
    // The other thread could not tell their late answers from those of its own commands.
    if (pair.lost > 0) {
      throw new QueueOwnerError(
        `lend: ${pair.lost} commands of queue ${qid} of ${address} had no answer; reset() first`,
      )
    }
    const streaming = occupancy.wanted > 0
    if (!busy && !streaming) continue
    const why = streaming ? 'a stream is at work on it' : `${pair.inFlight} commands are in flight`
    throw new QueueOwnerError(`lend: queue ${qid} of ${address} is in use in this thread: ${why}`)
  }
}

function shareOf(transport: Transport, address: string): FunctionShare {
  const share = transport.share?.()
  if (share !== undefined) return share as FunctionShare
  const how = transport.emulated
    ? 'its controller lives in this one; open it with { threads: true }, or with thread=1 in its address'
    : `there is no way to do this by ${transport.kind}`
  throw new UnsupportedError(`lend: ${address} can't be used from another thread: ${how}`)
}

function mapArenas(source: DmaSource, memory: number): DmaArena[] {
  const arenas: DmaArena[] = []
  try {
    for (let left = memory; left > 0; left -= source.maxArenaBytes) {
      const bytes = Math.min(left, source.maxArenaBytes)
      arenas.push(source.mapDma(Math.ceil(bytes / PAGE_BYTES) * PAGE_BYTES))
    }
    return arenas
  } catch (error) {
    for (const arena of arenas) source.unmapDma(arena)
    throw error
  }
}
