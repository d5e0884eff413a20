// What the worker threads of the tests do: one of TASKS, named in workerData.
// It imports what it needs and not the package's face, which loads every transport: that is half of a
// worker's start, and counts in the virtual machine.

import { pipeline } from 'node:stream/promises'
import { parentPort, workerData } from 'node:worker_threads'
import { ADMIN } from '../../lib/nvme/spec/opcodes.ts'
import type { Namespace, NvmeError, QueueTicket } from '../../src/index.ts'
import { attach } from '../../src/threads/attach.ts'
import { now } from '../support/calls.ts'
import { pattern } from '../support/pattern.ts'

export interface Task {
  readonly ticket: QueueTicket
  readonly task: keyof typeof TASKS
  readonly slba?: number
  readonly nlb?: number
}

type Run = (ns: Namespace, task: Required<Task>) => Promise<unknown> | unknown

const forever = () => new Promise(() => setInterval(() => {}, 1000))
const say = (word: string) => parentPort!.postMessage({ word })

const TASKS = {
  /** Every way of writing and reading, a part of the range each. */
  api: async (ns: Namespace, { slba, nlb }: Required<Task>) => {
    const part = Math.floor(nlb / 4)
    const bytes = part * ns.blocksize
    const data = pattern(bytes, slba + 1)
    const buf = ns.alloc(bytes)
    data.copy(buf)
    await now(ns).write(0, buf, slba, part)
    await ns.promises.write(data, slba + part)
    await pipeline([data], ns.createWriteStream({ slba: slba + 2 * part, nlb: part }))
    await ns.writeBlocks([data], { slba: slba + 3 * part, nlb: part })
    const sums: boolean[] = []
    buf.fill(0)
    await now(ns).read(0, buf, slba, part)
    sums.push(buf.equals(data))
    const read = await ns.promises.read(Buffer.alloc(bytes), slba + part)
    sums.push(read.equals(data))
    const chunks: Buffer[] = []
    for await (const chunk of ns.createReadStream({ slba: slba + 2 * part, nlb: part })) chunks.push(chunk)
    sums.push(Buffer.concat(chunks).equals(data))
    let equal = true
    for await (const block of ns.blocks({ slba: slba + 3 * part, nlb: part, chunk: 3 })) {
      const at = (block.slba - slba - 3 * part) * ns.blocksize
      equal &&= data.subarray(at, at + block.data.length).equals(block.data)
    }
    sums.push(equal)
    ns.free(buf)
    return sums
  },

  /** Writes by `bytes`, which flushes when the owner recalls the queues, and looks what becomes of it. */
  flushed: async (ns: Namespace) => {
    const { bytes } = await import('../../src/adapters/bytes.ts')
    await bytes(ns).write(Buffer.alloc(100, 1), 50)
    say('written')
    while (!ns.closed) await new Promise(setImmediate)
    const code = await ns.close().then(
      () => 'closed',
      (thrown: NvmeError) => thrown.code,
    )
    for (let i = 0; i < 20; i++) await new Promise(setImmediate)
    return code
  },

  facts: async (ns: Namespace) => {
    const data = Buffer.alloc(4096)
    await ns.admin({ opcode: ADMIN.IDENTIFY, cdw10: 1, data })
    const error = await ns.admin({ opcode: 0x78 }).catch((thrown: NvmeError) => thrown)
    const signal = AbortSignal.abort()
    const aborted = await ns
      .admin({ opcode: ADMIN.IDENTIFY, data }, { signal })
      .catch((thrown) => thrown.code)
    const ending = new AbortController()
    const ended = ns.admin(
      { opcode: ADMIN.IDENTIFY, cdw10: 1, data: Buffer.alloc(4096) },
      { signal: ending.signal },
    )
    ending.abort()
    const { sct, sc, statusName } = error as NvmeError
    const name = (thrown: Error) => thrown.constructor.name
    return {
      qcount: ns.qcount,
      mn: ns.mn,
      blockcount: ns.blockcount,
      transport: ns.controller.transport.kind,
      sn: data.toString('latin1', 4, 24).trim(),
      error: [name(error as Error), sct, sc, statusName],
      aborted: [aborted, await ended.catch((thrown) => thrown.code)],
      namespaces: await ns.controller.activeNamespaces(),
      reset: await ns.reset().catch(name),
      queue: await ns.promises.read(Buffer.alloc(ns.blocksize), 0, 1, { qid: 1 }).catch(name),
    }
  },

  /** More memory than came with the queue. */
  memory: async (ns: Namespace, { slba }: Required<Task>) => {
    const same: boolean[] = []
    for (const [i, size] of [1 << 20, 9 << 20, 100 * 1024, 20 << 20].entries()) {
      const buf = ns.alloc(size)
      const nlb = Math.min(ns.maxbpio, Math.floor(65536 / ns.blocksize))
      const part = buf.subarray(size - nlb * ns.blocksize)
      pattern(part.length, i + 1).copy(part)
      await now(ns).write(0, part, slba, nlb)
      part.fill(0)
      await now(ns).read(0, part, slba, nlb)
      same.push(part.equals(pattern(part.length, i + 1)))
      ns.free(buf)
    }
    return same
  },

  /** A read into the owner's buffer, which is answered in it. */
  buffers: (ns: Namespace, { slba }: Required<Task>) => {
    const [shared] = ns.buffers
    const half = shared!.length / 2
    ns.read(0, shared!.subarray(0, half), slba, half / ns.blocksize)
    shared!.copy(shared!, half, 0, half)
    return ns.buffers.length
  },

  /** What is behind a buffer, in an ArrayBuffer that is longer, is no DMA memory. */
  beyond: (ns: Namespace) => {
    const buf = ns.alloc(4096)
    const behind = Buffer.from(buf.buffer, 4096)
    behind.fill(1)
    const across = Buffer.from(buf.buffer, 2048, 4096)
    return [behind, across].map((part) => {
      try {
        ns.read(0, part, 0, 1)
        return null
      } catch (error) {
        return (error as NvmeError).code
      }
    })
  },

  /** Makes and frees memory for as long as it lives. */
  churn: (ns: Namespace) => {
    say('churning')
    for (;;) {
      const buf = ns.alloc(4096)
      ns.read(0, buf, 0, 1)
      ns.free(buf)
    }
  },

  /** Ends with a queue full of reads, without a word to the owner. */
  exit: (ns: Namespace) => {
    fill(ns)
    process.exit(3)
  },

  throw: (ns: Namespace) => {
    fill(ns)
    throw new Error('on purpose')
  },

  /** Returns with reads in flight: the namespace is closed after it. */
  leave: (ns: Namespace) => fill(ns),

  wait: async () => {
    say('waiting')
    await forever()
  },

  /** Writes and reads back until a call fails: how often, and why it has ended. Says so every time. */
  rounds: async (ns: Namespace, { slba }: Required<Task>) => {
    let rounds = 0
    try {
      for (; ; rounds++) {
        const data = pattern(8 * ns.blocksize, 1000 * slba + rounds)
        await ns.promises.write(data, slba, 8)
        const back = await ns.promises.read(Buffer.alloc(data.length), slba, 8)
        if (!back.equals(data)) return { rounds, code: 'DATA' }
        say('round')
      }
    } catch (error) {
      return { rounds, code: (error as { code: string }).code }
    }
  },

  /** Lets no message in, until its thread is ended. */
  block: () => {
    say('blocked')
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)
  },

  /** Reads as a stream until the namespace is closed under it. */
  stream: async (ns: Namespace) => {
    say('streaming')
    try {
      for (;;) for await (const _ of ns.blocks({ chunk: 8, depth: 8 }));
    } catch (error) {
      return (error as { code: string }).code
    }
  },

  /** Reads without ever letting the event loop run, until a call throws. */
  spin: (ns: Namespace) => {
    say('spinning')
    const buf = ns.alloc(ns.blocksize)
    try {
      for (;;) ns.read(0, buf, 0, 1)
    } catch (error) {
      return (error as { code: string }).code
    }
  },
} satisfies Record<string, Run>

function fill(ns: Namespace): number {
  const depth = Math.min(32, ns.maxiopq)
  const buf = ns.alloc(depth * ns.blocksize)
  for (let i = 0; i < depth; i++) {
    ns.aread(0, buf.subarray(i * ns.blocksize, (i + 1) * ns.blocksize), i, 1)
  }
  return depth
}

const task = workerData as Required<Task>
const ns = await attach(task.ticket)
const result = await (TASKS[task.task] as Run)(ns, task)
// One that failed to close has said so.
await (task.task === 'flushed' ? ns.close().catch(() => {}) : ns.close())
parentPort!.postMessage({ result })
