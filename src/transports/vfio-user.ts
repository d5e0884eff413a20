// `vfio-user:/run/nvme/cntrl?nsid=2`: controllers of other processes.

import { openPcieTransport } from '../../lib/nvme/pcie/transport.ts'
import { realPath } from '../../lib/sys/file.ts'
import { parseVfioUserAddress } from '../../lib/vfio-user/address.ts'
import { openVfioUser } from '../../lib/vfio-user/open.ts'
import type { Resolve } from './target.ts'

export const resolve: Resolve = (address, { signal, timeout, shadowDoorbells }) => {
  const { path, nsid } = parseVfioUserAddress(address)
  // A call that can't but block does so for no longer than a command may take.
  const how = { signal, ...(timeout !== undefined && { patience: timeout }) }
  return {
    key: () => `vfio-user:${realPath(path)}`,
    nsid,
    connect: async () => openPcieTransport(await openVfioUser(path, how), { shadowDoorbells }),
  }
}
