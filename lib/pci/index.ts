// pci: a PCI function as the other modules see it, and the memory that it shares with this process.
// Trade-off: the interface is the smallest that hardware, a socket and a model in this process all can meet.

export { type Bar, type BarAccess, mapBar } from './bar.ts'
export {
  canonicalPciName,
  formatNamespaceName,
  formatPciName,
  type NamespaceName,
  type PciName,
  parseNamespaceName,
  parsePciName,
} from './bdf.ts'
export { DmaPool, type DmaPoolOptions, PAGE_BYTES, type SharedBuffer } from './dma.ts'
export { type DmaAllocation, type DmaBuffer, type DmaTag, kDma } from './dma-tag.ts'
export { type PciFunction, type RemoteRegisters, readRegister, writeRegister } from './function.ts'
export { keepFreedMemory } from './heap.ts'
export { type IovaRange, IovaSpace } from './iova.ts'
export { systemCallError } from './libc.ts'
export {
  createSharedMemory,
  type DmaArena,
  destroySharedMemory,
  MAX_VIEW_BYTES,
  type MemoryView,
  map,
  mapAnonymous,
  mapView,
  replaceMapping,
  retireView,
  type SharedMemory,
  viewOf,
} from './memory.ts'
export { PageRuns } from './page-runs.ts'
export type { Area, Region } from './region.ts'
export { attachFunction, type FunctionShare, type SharedDma, type SharedWords } from './share.ts'
export { enableVectors, Signal, type Vectors } from './signal.ts'
export {
  CLASS_NVME,
  type GroupMember,
  isVfioDriver,
  listNvmeFunctions,
  membersInTheWay,
  type PciCommand,
  type PciFacts,
  type PciResource,
  readGroupMembers,
  readPciCommand,
  readPciFacts,
  readPciMemory,
  type SysfsOptions,
} from './sysfs.ts'
export {
  type AddressRange,
  releaseAddresses,
  reserveAddresses,
  type ViewSpace,
  viewsWithin,
} from './views.ts'
