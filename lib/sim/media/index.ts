// media: what the software controller keeps its blocks on.

export { closeImage, FileMedium, type Image, openImage } from './file.ts'
export type { Medium } from './medium.ts'
export { MemoryMedium } from './memory.ts'
