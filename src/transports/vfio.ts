// PCI names: devices that are bound to VFIO.

import { openPcieTransport } from '../../lib/nvme/pcie/transport.ts'
import { parseNamespaceName } from '../../lib/pci/bdf.ts'
import { openVfio } from '../../lib/vfio/open.ts'
import { checkPlatform } from './platform.ts'
import type { Resolve } from './target.ts'

export const resolve: Resolve = (address, { noIommu, iommufd, shadowDoorbells, sgl }) => {
  checkPlatform(address)
  const { pciName: name, nsid } = parseNamespaceName(address)
  const vfio = { ...(noIommu !== undefined && { noIommu }), ...(iommufd !== undefined && { iommufd }) }
  return {
    key: () => name,
    nsid: address.includes('/') ? nsid : undefined,
    connect: async () => openPcieTransport(await openVfio(name, vfio), { shadowDoorbells, sgl }),
  }
}
