// `vfio-user:/run/nvme/cntrl?nsid=2`: controllers of other processes.

import { openPcieTransport } from '../../lib/nvme/pcie/transport.ts'
import { realPath } from '../../lib/sys/file.ts'
import { parseVfioUserAddress } from '../../lib/vfio-user/address.ts'
import { openVfioUser } from '../../lib/vfio-user/open.ts'
import { checkPlatform } from './platform.ts'
import type { Resolve } from './target.ts'

export const resolve: Resolve = (address, options) => {
  checkPlatform(address)
  const { signal, timeout, shadowDoorbells, sgl, recovery = 'reset', reconnect = 0 } = options
  const { path, nsid } = parseVfioUserAddress(address)
  // A call that can't but block does so for no longer than a command may take.
  const returns = reconnect > 0 && recovery === 'reset'
  const how = { signal, returns, ...(timeout !== undefined && { patience: timeout }) }
  return {
    key: () => `vfio-user:${realPath(path)}`,
    nsid,
    connect: async () => openPcieTransport(await openVfioUser(path, how), { shadowDoorbells, sgl }),
  }
}
