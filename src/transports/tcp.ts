// `nvme+tcp://host:4420/NQN?nsid=1`: controllers in the network.

import { isDeepStrictEqual } from 'node:util'
import { InUseError } from '../../lib/errors.ts'
import { parseTcpAddress, type TcpAddress } from '../../lib/nvme/tcp/address.ts'
import { findHostIdentity } from '../../lib/nvme/tcp/host-identity.ts'
import { loadSecurity } from '../../lib/nvme/tcp/security/load.ts'
import { openTcpTransport, type TcpTransport } from '../../lib/nvme/tcp/transport.ts'
import type { Resolve } from './target.ts'

export const resolve: Resolve = (text, options) => {
  const { signal, timeout, reconnectDelay, ctrlLossTimeout, fastIoFail } = options
  const address = parseTcpAddress(text)
  const { host, port, subnqn, nsid, queues } = address
  return {
    key: () => `nvme+tcp:${host}:${port}/${subnqn}`,
    nsid,
    queues,
    check: (open) => checkSame(address, (open as TcpTransport).target.address),
    connect: async () => {
      const identity = findHostIdentity(address)
      const connectTimeout = timeout === undefined ? undefined : Math.min(timeout, MOST_CONNECT_MS)
      const security = loadSecurity(address, options)
      const losses = { reconnectDelay, ctrlLossTimeout, fastIoFail }
      return openTcpTransport({ address, identity, security }, { signal, connectTimeout, ...losses })
    },
  }
}

const MOST_CONNECT_MS = 10_000

// An address without options is that of the controller as it is, whatever it was opened with.
function checkSame(asked: TcpAddress, open: TcpAddress): void {
  if (!asked.address.includes('?')) return
  const differing = SHAPE.filter((name) => !isDeepStrictEqual(asked[name], open[name]))
  if (differing.length === 0) return
  throw new InUseError(
    `${asked.address} is open already as ${open.address}, which differs in ${differing.join(', ')}`,
  )
}

const SHAPE = [
  ...(['hdgst', 'ddgst', 'kato', 'hostnqn', 'hostid', 'link'] as const),
  ...(['dhchap', 'dhchapctrl', 'dhhash', 'dhgroup', 'tls', 'tlskey', 'tlsid'] as const),
] satisfies readonly (keyof TcpAddress)[]
