// unvme/adapters: namespaces in the shapes that other code takes. Nothing of it is loaded by the driver itself.

export { bytes, type NamespaceBytes } from './bytes.ts'
export { type FileDiskClass, type FileDiskOptions, fileDisk } from './file-disk.ts'
export {
  type FilePlace,
  type FileReadOptions,
  type FileReadStreamOptions,
  type FileStreamOptions,
  type FileWriteStreamOptions,
  fileHandle,
  type NamespaceFile,
  type NamespaceStats,
} from './file-handle.ts'
export { type SqliteModule, type SqliteVfs, type SqliteVfsOptions, sqliteVfs } from './sqlite.ts'
