// pci: a PCI function as the other modules see it, and the memory that it shares with this process.

export { keepFreedMemory } from '../memory/heap.ts'
export { type IovaRange, IovaSpace } from '../memory/iova.ts'
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
} from '../memory/mapping.ts'
export { PageRuns } from '../memory/page-runs.ts'
export { DmaPool, type DmaPoolOptions, type SharedBuffer } from '../memory/pool.ts'
export { type DmaAllocation, type DmaBuffer, type DmaTag, kDma } from '../memory/tag.ts'
export { type ViewSpace, viewsInHeap } from '../memory/views.ts'
export { systemCallError } from '../sys/libc.ts'
export { enableVectors, Signal, type Vectors } from '../sys/signal.ts'
export { PAGE_BYTES } from '../sys/units.ts'
export type { Area, Region } from '../vfio-abi/region.ts'
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
export {
  type FunctionShare,
  type PciFunction,
  type RemoteRegisters,
  readRegister,
  type SharedWords,
  writeRegister,
} from './function.ts'
export { attachFunction } from './share.ts'
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
