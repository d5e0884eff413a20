// `nvme+tcp://host:4420/NQN?nsid=1`: controllers in the network.

import { isDeepStrictEqual } from 'node:util'
import { AddressError, InUseError, PathMismatchError } from '../../lib/errors.ts'
import { checkPaths, parseTcpPaths, type TcpAddress } from '../../lib/nvme/tcp/address.ts'
import { isPassing } from '../../lib/nvme/tcp/connect.ts'
import { findHostIdentity } from '../../lib/nvme/tcp/host-identity.ts'
import { loadSecurity } from '../../lib/nvme/tcp/security/load.ts'
import {
  createSharedMemory,
  openTcpTransport,
  type TcpOptions,
  type TcpTransport,
} from '../../lib/nvme/tcp/transport.ts'
import type { ConnectOptions, Resolve, Target } from './target.ts'

export const resolve: Resolve = (text, options) => {
  const { paths = [] } = options
  const all = [text, ...paths].flatMap(parseTcpPaths)
  checkPaths([text, ...paths].join("', '"), all)
  if (all.length > 1) return resolvePaths(text, all, options)
  const [address] = all as [TcpAddress]
  const { nsid, queues } = address
  return {
    key: () => keyOf(address),
    nsid,
    queues,
    check: (open) => checkSame(address, (open as TcpTransport).target.address),
    connect: () => connect(address, options, options.signal),
  }
}

function keyOf({ host, port, subnqn }: TcpAddress): string {
  return `nvme+tcp:${host}:${port}/${subnqn}`
}

function connect(
  address: TcpAddress,
  options: ConnectOptions,
  signal: AbortSignal | undefined,
  more: TcpOptions = {},
): Promise<TcpTransport> {
  const { timeout, reconnectDelay, ctrlLossTimeout, fastIoFail } = options
  const identity = findHostIdentity(address)
  const connectTimeout = timeout === undefined ? undefined : Math.min(timeout, MOST_CONNECT_MS)
  const security = loadSecurity(address, options)
  const losses = { reconnectDelay, ctrlLossTimeout, fastIoFail, ...more }
  return openTcpTransport({ address, identity, security }, { signal, connectTimeout, ...losses })
}

function resolvePaths(text: string, all: readonly TcpAddress[], options: ConnectOptions): Target {
  const [first] = all as [TcpAddress]
  const other = all.find(({ nsid }) => nsid !== undefined && nsid !== first.nsid)
  if (other !== undefined) {
    throw new PathMismatchError(
      `${other.address}: namespace ${other.nsid} is asked for there, ${first.nsid ?? 'none by its id'} by ${first.address}`,
    )
  }
  const wrong = all.find(({ subnqn }) => subnqn !== first.subnqn)
  if (wrong !== undefined) {
    throw new PathMismatchError(
      `${wrong.address}: its subsystem is ${wrong.subnqn}, that of ${first.address} is ${first.subnqn}`,
    )
  }
  const mixed = all.find(({ link }) => link !== first.link)
  if (mixed !== undefined)
    throw new AddressError(`${mixed.address}: link=${mixed.link}, ${first.link} elsewhere`)
  const { reconnectDelay, ctrlLossTimeout, fastIoFail } = options
  const address = all.map((one) => one.address).join(' ')
  return {
    key: () => all.map(keyOf).join(' '),
    nsid: first.nsid,
    queues: first.queues,
    connect: () => Promise.reject(new AddressError(`${text}: there are several paths`)),
    several: () => {
      const shared = createSharedMemory(address)
      return {
        ...{ address, subnqn: first.subnqn, policy: first.policy, eventDriven: first.link === 'socket' },
        ...{ reconnectDelay, ctrlLossTimeout, fastIoFail, ...shared },
        mayPass: isPassing,
        paths: all.map((path) => ({
          address: path.address,
          // How long I/O may wait is for all paths together to say.
          connect: (signal) => connect(path, options, signal, { shared, fastIoFail: -1 }),
        })),
      }
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
