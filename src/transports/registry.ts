// Ways to a controller, by the form of an address. Each is loaded when an address asks for it, and knows none of the
// others: one whose files are not there is missed by its own addresses alone.

import { AddressError, UnsupportedError } from '../../lib/errors.ts'
import type { RecoveryPolicy } from '../../lib/nvme/host/recovery.ts'
import type { Transport } from '../../lib/nvme/host/transport.ts'
import type { FaultRule } from '../../lib/sim/faults/syntax.ts'
import { showText } from '../../lib/sys/show.ts'

/** Options of `open` that a transport takes note of. */
export interface ConnectOptions {
  readonly signal?: AbortSignal | undefined
  readonly timeout?: number | undefined
  readonly shadowDoorbells?: boolean | undefined
  readonly recovery?: RecoveryPolicy | undefined
  readonly reconnect?: number | undefined
  readonly noIommu?: boolean | undefined
  readonly iommufd?: 'auto' | 'always' | 'never' | undefined
  readonly faults?: readonly FaultRule[] | undefined
  readonly threads?: boolean | undefined
}

/** What an address means: how to make its transport, and what tells its controller from others. */
export interface Target {
  /** What tells the controller from others as it is now, whatever its address; null where each open makes a new one. */
  key(): string | null
  readonly nsid: number | undefined
  connect(): Promise<Transport>
  /** Throws InUseError where the address asks for another controller than the one that is open. */
  check?(open: Transport): void
}

/** Throws AddressError for an address of the right form that means nothing. */
export type Resolve = (address: string, options: ConnectOptions) => Target

/** One way to controllers. */
export interface TransportKind {
  /** In messages. */
  readonly name: string
  /** Whether an address has its form. */
  matches(address: string): boolean
  load(): Promise<{ readonly resolve: Resolve }>
}

const KINDS: TransportKind[] = []

/** From now on addresses that match are opened this way: of several, by the latest. */
export function registerTransport(kind: TransportKind): void {
  KINDS.unshift(kind)
}

registerTransport({
  name: 'vfio-user',
  matches: (address) => address.startsWith('vfio-user:'),
  load: () => import('./vfio-user.ts'),
})
registerTransport({
  name: 'vfio',
  matches: (address) => /^[0-9a-f]{1,8}:/i.test(address),
  load: () => import('./vfio.ts'),
})
registerTransport({
  name: 'sim',
  matches: (address) => address.startsWith('sim:'),
  load: () => import('./sim.ts'),
})

/** Finds what an address means. Throws AddressError; UnsupportedError where its transport is not part of the package. */
export async function resolveAddress(address: string, options: ConnectOptions): Promise<Target> {
  const kind = KINDS.find(({ matches }) => matches(address))
  if (kind === undefined) {
    throw new AddressError(
      `unknown address ${showText(address)}: a PCI name as 0a:00.0 or 0000:0a:00.0/1, sim:… or vfio-user:… is needed`,
    )
  }
  const { resolve } = await kind.load().catch((cause: NodeJS.ErrnoException) => {
    if (cause.code !== 'ERR_MODULE_NOT_FOUND') throw cause
    throw new UnsupportedError(`${showText(address)}: this package has no ${kind.name}`, { cause })
  })
  return resolve(address, options)
}
