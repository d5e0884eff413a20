// Copying and comparing files and devices.
// Trade-off: `copy` and `compare` do a whole job for any pair; what they are made of is for the command only.

export {
  type CompareOptions,
  type CompareResult,
  compare,
  type Difference,
  type DifferingSide,
} from './compare.ts'
export { type CopyOptions, type CopyResult, copy } from './copy.ts'
export type { Place } from './place.ts'
