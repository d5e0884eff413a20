// Streams and iterators over ranges of LBAs.
// Trade-off: each is a thin face on one of two windows, which keep the queue full and the memory bounded.

export {
  BLOCKS_NAMES,
  type Block,
  type BlockIterator,
  type BlocksOptions,
  blocks,
  type PlacedBlock,
  type WriteBlocksOptions,
  type WriteSource,
  writeBlocks,
} from './blocks.ts'
export { ReadStream, type ReadStreamOptions, WriteStream, type WriteStreamOptions } from './node-streams.ts'
export type { RangeOptions } from './range.ts'
export { withBytesWritten } from './session.ts'
export {
  type TransferFromOptions,
  type TransferSink,
  type TransferSource,
  type TransferToOptions,
  transferFrom,
  transferTo,
} from './transfer.ts'
export { type ReadableWebStreamOptions, readableWebStream } from './web-stream.ts'
export type { WriteOptions } from './window.ts'
