// Random operations on a range of LBAs, and the model of the medium that they are checked against.
// What overlaps a write in flight waits for it, since NVMe orders nothing by itself; everything else
// is in flight together, as far as the queue goes.

import fc from 'fast-check'
import type { IoDescriptor, Namespace } from '../../src/index.ts'
import { done, now } from './calls.ts'
import { pattern } from './pattern.ts'

interface RandomOperation {
  kind: 'read' | 'write' | 'zeroes' | 'promise-read' | 'promise-write' | 'settle'
  slba: number
  nlb: number
  /** Where in the DMA buffer, in units of 512 bytes. */
  offset: number
  seed: number
}

/** Sequences of operations on the first `blocks` LBAs. */
export function operations(limits: { blocks: number; longest: number; most?: number }) {
  const { blocks, longest, most = 60 } = limits
  const operation = fc
    .record({
      kind: fc.constantFrom<RandomOperation['kind']>(
        'read',
        'read',
        'write',
        'write',
        'zeroes',
        'promise-read',
        'promise-write',
        'settle',
      ),
      slba: fc.nat(blocks - 1),
      nlb: fc.oneof(fc.constant(1), fc.integer({ min: 1, max: 9 }), fc.integer({ min: 1, max: longest })),
      offset: fc.nat(MOST_OFFSET),
      seed: fc.nat(2 ** 31),
    })
    .map((op) => ({ ...op, nlb: Math.min(op.nlb, blocks - op.slba) }))
  return fc.array(operation, { minLength: 1, maxLength: most, size: 'max' })
}

const MOST_OFFSET = 9

interface InFlight {
  op: RandomOperation
  iod: IoDescriptor
  buf: Buffer
  memory: Buffer
  /** What a read must find. */
  expected: Buffer | undefined
}

/** Runs the operations on a namespace: false where anything read differs from the model. */
export async function checkAgainstModel(
  ns: Namespace,
  ops: readonly RandomOperation[],
  blocks: number,
): Promise<boolean> {
  const { blocksize } = ns
  const model = Buffer.alloc(blocks * blocksize)
  const hasZeroes = (ns.controller.identity.oncs & 8) !== 0
  await ns.promises.write(model, 0)
  const inFlight: InFlight[] = []
  // Used again and again: what an earlier operation left in them must not show.
  const memories: Buffer[] = []
  let same = true
  const settle = async (count: number) => {
    while (inFlight.length > count) {
      // Any order will do: an odd one is the better test.
      const { iod, buf, memory, expected } = inFlight.splice((inFlight.length * 7) % inFlight.length, 1)[0]!
      await done(ns, iod)
      if (expected && !buf.equals(expected)) same = false
      memories.push(memory)
    }
  }
  for (const op of ops) {
    const { kind, slba, nlb } = op
    const range = model.subarray(slba * blocksize, (slba + nlb) * blocksize)
    const overlaps = inFlight.some(
      ({ op: other }) => other.slba < slba + nlb && slba < other.slba + other.nlb,
    )
    if (overlaps || kind === 'settle' || inFlight.length === ns.maxiopq) await settle(0)
    if (kind === 'read' || kind === 'write') {
      const memory = memories.pop() ?? ns.alloc(MOST_OFFSET * 512 + model.length)
      const buf = memory.subarray(op.offset * 512, op.offset * 512 + range.length)
      if (kind === 'write') pattern(range.length, op.seed).copy(buf)
      const start = () => (kind === 'write' ? ns.awrite(0, buf, slba, nlb) : ns.aread(0, buf, slba, nlb))
      const iod = await startWhenRoom(start, () => settle(0))
      if (kind === 'write') buf.copy(range)
      inFlight.push({ op, iod, buf, memory, expected: kind === 'read' ? Buffer.from(range) : undefined })
    } else if (kind === 'zeroes' && hasZeroes) {
      await settle(0)
      await now(ns).writeZeroes(0, slba, nlb)
      range.fill(0)
    } else if (kind === 'promise-write') {
      await settle(0)
      const data = pattern(range.length + op.offset, op.seed).subarray(op.offset)
      await ns.promises.write(data, slba)
      data.copy(range)
    } else if (kind === 'promise-read') {
      await settle(0)
      const data = Buffer.alloc(range.length)
      await ns.promises.read(data, slba)
      if (!data.equals(range)) same = false
    }
  }
  await settle(0)
  const all = Buffer.alloc(model.length)
  await ns.promises.read(all, 0)
  for (const memory of memories) ns.free(memory)
  return same && all.equals(model)
}

// A long transfer takes a whole queue: a raw call then finds no space.
async function startWhenRoom(start: () => IoDescriptor, settle: () => Promise<void>): Promise<IoDescriptor> {
  try {
    return start()
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ERR_UNVME_QUEUE_FULL') throw error
    await settle()
    return start()
  }
}
