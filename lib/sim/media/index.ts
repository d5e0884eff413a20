// media: what the software controller keeps its blocks on.
// Trade-off: two kinds behind one small interface; the rest of the controller does not know which it has.

export { closeImage, FileMedium, type Image, openImage } from './file.ts'
export type { Medium } from './medium.ts'
export { MemoryMedium } from './memory.ts'
