// vfio: PCI functions through Linux's VFIO, by libc alone.
// The newest interface that the kernel has (device files with iommufd), the oldest that works otherwise.

export { VfioFunction } from './function.ts'
export { openVfio, type VfioOptions } from './open.ts'
