// Streams and iterators over ranges of LBAs.
// Trade-off: each is a thin face on one of two windows, which keep the queue full and the memory bounded.

export { BLOCKS_NAMES, type Block, type BlockIterator, type BlocksOptions, blocks } from './blocks.ts'
export { withBytesWritten } from './ending.ts'
export type { RangeOptions } from './range.ts'
export { ReadStream, type ReadStreamOptions } from './read-stream.ts'
export {
  type TransferFromOptions,
  type TransferSink,
  type TransferSource,
  type TransferToOptions,
  transferFrom,
  transferTo,
} from './transfer.ts'
export { type ReadableWebStreamOptions, readableWebStream } from './web-stream.ts'
export {
  type PlacedBlock,
  type WriteBlocksOptions,
  type WriteSource,
  writeBlocks,
} from './write-blocks.ts'
export { WriteStream, type WriteStreamOptions } from './write-stream.ts'
export type { WriteOptions } from './write-window.ts'
