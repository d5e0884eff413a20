// Values of the options of a copy that are words: for their check, and for the help of the command, which loads nothing else.

/** What is done with zeroes. */
export const SPARSE = ['auto', 'always', 'never'] as const
/** What is done where blocks fail. */
export const ON_ERROR = ['stop', 'skip', 'fill'] as const
/** What becomes of blocks that a block map leaves out. */
export const HOLES = ['zero', 'keep'] as const
/** How a target is compressed. */
export const COMPRESSIONS = ['zstd', 'gzip'] as const
export type Compression = (typeof COMPRESSIONS)[number]
/** How a namespace is wiped. */
export const WIPE_METHODS = [
  'auto',
  'format-crypto',
  'format-erase',
  'sanitize-crypto',
  'sanitize-block',
  'sanitize-overwrite',
  'zeroes',
] as const
export type WipeMethod = (typeof WIPE_METHODS)[number]
