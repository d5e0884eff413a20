// VFIO and iommufd by number: ioctl requests, flags and indexes of <linux/vfio.h> and <linux/iommufd.h>.

// _IO(';', 100 + n): the size of the structure is in the structure, not in the request.
const VFIO_BASE = 0x3b64

/** Requests on the container (/dev/vfio/vfio), on a group, and on a device. */
export const VFIO = {
  GET_API_VERSION: VFIO_BASE + 0,
  CHECK_EXTENSION: VFIO_BASE + 1,
  SET_IOMMU: VFIO_BASE + 2,
  GROUP_GET_STATUS: VFIO_BASE + 3,
  GROUP_SET_CONTAINER: VFIO_BASE + 4,
  GROUP_GET_DEVICE_FD: VFIO_BASE + 6,
  DEVICE_GET_INFO: VFIO_BASE + 7,
  DEVICE_GET_REGION_INFO: VFIO_BASE + 8,
  DEVICE_GET_IRQ_INFO: VFIO_BASE + 9,
  DEVICE_SET_IRQS: VFIO_BASE + 10,
  DEVICE_RESET: VFIO_BASE + 11,
  IOMMU_GET_INFO: VFIO_BASE + 12,
  IOMMU_MAP_DMA: VFIO_BASE + 13,
  IOMMU_UNMAP_DMA: VFIO_BASE + 14,
  DEVICE_BIND_IOMMUFD: VFIO_BASE + 18,
  DEVICE_ATTACH_IOMMUFD_PT: VFIO_BASE + 19,
} as const

/** Requests on /dev/iommu. */
export const IOMMUFD = {
  IOAS_ALLOC: 0x3b81,
  IOAS_IOVA_RANGES: 0x3b84,
  IOAS_MAP: 0x3b85,
  IOAS_UNMAP: 0x3b86,
} as const

/** What VFIO_GET_API_VERSION must answer. */
export const API_VERSION = 0

/** IOMMU types, for CHECK_EXTENSION and SET_IOMMU. */
export const IOMMU_TYPE = { TYPE1V2: 3, NOIOMMU: 8 } as const

export const GROUP_FLAGS = { VIABLE: 1, CONTAINER_SET: 2 } as const
export const IOMMU_INFO_FLAGS = { PGSIZES: 1, CAPS: 2 } as const
export const IOAS_MAP_FLAGS = { FIXED_IOVA: 1, WRITEABLE: 2, READABLE: 4 } as const

/** Capabilities of IOMMU info. */
export const IOMMU_CAP = { IOVA_RANGE: 1, DMA_AVAIL: 3 } as const
