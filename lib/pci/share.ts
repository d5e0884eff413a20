// A PCI function in a second thread of the process: its doorbells and registers, as plain data and back.
// Only what the hot path and a look at the controller's health need; mappings, interrupts, reset and
// close stay with the thread that opened the function.

import { UnsupportedError } from '../errors.ts'
import { viewOf } from '../memory/mapping.ts'
import type { SharedDma } from '../memory/source.ts'
import type { FunctionShare, PciFunction, SharedWords } from './function.ts'

/** CSTS.RDY and nothing else. */
const READY = 1

/**
 * The function as another thread has it. It must not be used any more once its owner closes it.
 * @param dma asks the owner for memory
 */
export function attachFunction(share: FunctionShare, dma: SharedDma): PciFunction {
  const { address, transport, emulated, maxArenaBytes } = share
  const registers = share.registers && wordsOf(share.registers)
  const refuse = (what: string): never => {
    throw new UnsupportedError(`${what}: only the thread that opened ${address} can do this`)
  }
  return {
    address,
    transport,
    emulated,
    maxArenaBytes,
    doorbells: wordsOf(share.doorbells),
    notify: share.sleeper && wakerOf(share.sleeper),
    step: null,
    // Where registers can't be loaded, the owner's own look is what tells of a failure: this reads as ready.
    readRegister: (offset) => (registers === null ? READY : (registers[offset >>> 2] ?? 0xffff_ffff)),
    writeRegister: () => refuse('a register write'),
    mapDma: (bytes) => dma.mapDma(bytes),
    // The owner does this when it has the queues back.
    unmapDma() {},
    vectors: 0,
    enableInterrupts: () => refuse('interrupts'),
    arm() {},
    disarm() {},
    onRemoved: null,
    reset: async () => refuse('a reset'),
    quiesce() {},
    async close() {},
  }
}

function wordsOf(words: SharedWords): Uint32Array {
  return words instanceof Uint32Array ? words : new Uint32Array(viewOf(words.address, words.bytes))
}

function wakerOf({ words, index }: { words: Int32Array; index: number }): () => void {
  return () => {
    // One locked access both orders it behind the doorbell's store and asks.
    if (Atomics.compareExchange(words, index, 1, 0) === 1) Atomics.notify(words, index)
  }
}
