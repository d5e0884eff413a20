// The yardstick: rings, a controller and a 4 KiB copy in one loop, with nothing of a driver around them.
// No errors, no splitting, no second namespace: what is left is what no driver can avoid.

import { PAGE_BYTES } from '../lib/sys/units.ts'

const ENTRIES = 64

/**
 * A medium of `bytes` and its rings.
 * @param entries a power of two above the depth
 */
export function createPrototype(bytes: number, entries = ENTRIES) {
  // Medium and memory in one buffer: copyWithin is the quickest copy that there is.
  const memory = new Uint8Array(bytes + entries * PAGE_BYTES).fill(0x5a)
  const data = bytes
  const sq = new Uint32Array(entries * 16)
  const cq = new Uint32Array(entries * 4)
  const doorbells = new Uint32Array(8)
  const blocks = bytes / PAGE_BYTES
  let sqHead = 0
  let cqTail = 0
  let devicePhase = 1
  let sqTail = 0
  let cqHead = 0
  let phase = 1
  const seed = new Uint32Array([1])

  // The controller: executes what the doorbell announced.
  const step = () => {
    const tail = doorbells[2]!
    while (sqHead !== tail) {
      const at = sqHead << 4
      const slba = sq[at + 10]! + sq[at + 11]! * 4294967296
      const from = slba * PAGE_BYTES
      memory.copyWithin(sq[at + 6]!, from, from + PAGE_BYTES)
      const done = cqTail << 2
      cq[done] = 0
      cq[done + 2] = sqHead
      cq[done + 3] = (sq[at]! >>> 16) | (devicePhase << 16)
      sqHead = (sqHead + 1) & (entries - 1)
      cqTail = (cqTail + 1) & (entries - 1)
      if (cqTail === 0) devicePhase ^= 1
    }
  }

  const post = (cid: number) => {
    seed[0] = Math.imul(seed[0]!, 1664525) + 1013904223
    const at = sqTail << 4
    sq[at] = 2 | (cid << 16)
    sq[at + 1] = 1
    sq[at + 6] = data + cid * PAGE_BYTES
    sq[at + 7] = 0
    sq[at + 8] = 0
    sq[at + 9] = 0
    sq[at + 10] = seed[0]! % blocks
    sq[at + 11] = 0
    sq[at + 12] = 7
    sqTail = (sqTail + 1) & (entries - 1)
  }

  const resolvers: ((cid: number) => void)[] = []
  let posting = 0
  const executor = (resolve: (cid: number) => void) => {
    resolvers[posting] = resolve
  }
  const read = (cid: number): Promise<number> => {
    posting = cid
    post(cid)
    return new Promise(executor)
  }

  return {
    /** The same where each read is a promise that is awaited by one of `depth` loops: what no promise call can avoid. */
    async runPromises(commands: number, depth: number): Promise<number> {
      let working = depth
      let sum = 0
      const loop = async (cid: number) => {
        for (let n = 0; n < commands / depth; n++) sum += memory[data + (await read(cid)) * PAGE_BYTES]!
        working--
      }
      for (let cid = 0; cid < depth; cid++) void loop(cid)
      while (working > 0) {
        doorbells[2] = sqTail
        step()
        for (;;) {
          const dw3 = cq[(cqHead << 2) + 3]!
          if (((dw3 >>> 16) & 1) !== phase) break
          cqHead = (cqHead + 1) & (entries - 1)
          if (cqHead === 0) phase ^= 1
          const cid = dw3 & 0xffff
          resolvers[cid]!(cid)
        }
        doorbells[3] = cqHead
        await null
      }
      return sum
    },
    /** Runs `commands` random 4 KiB reads at `depth`; returns a checksum, so that nothing is left out. */
    run(commands: number, depth: number): number {
      let sent = 0
      let got = 0
      let sum = 0
      while (sent < depth && sent < commands) post(sent++)
      while (got < commands) {
        doorbells[2] = sqTail
        step()
        for (;;) {
          const dw3 = cq[(cqHead << 2) + 3]!
          if (((dw3 >>> 16) & 1) !== phase) break
          cqHead = (cqHead + 1) & (entries - 1)
          if (cqHead === 0) phase ^= 1
          got++
          const cid = dw3 & 0xffff
          sum += memory[data + cid * PAGE_BYTES]!
          if (sent < commands) {
            post(cid)
            sent++
          }
        }
        doorbells[3] = cqHead
      }
      return sum
    },
  }
}
