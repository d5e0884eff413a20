// Ways to a controller, by the form of an address. Each is loaded when an address asks for it, and knows none of the
// others: one whose files are not there is missed by its own addresses alone.

import { AddressError, UnsupportedError } from '../../lib/errors.ts'
import { showText } from '../../lib/sys/show.ts'
import type { ConnectOptions, Resolve, Target } from './target.ts'

/** One way to controllers. */
interface TransportKind {
  /** In messages. */
  readonly name: string
  /** Whether an address has its form. */
  matches(address: string): boolean
  load(): Promise<{ readonly resolve: Resolve }>
}

const KINDS: readonly TransportKind[] = [
  { name: 'sim', matches: (address) => address.startsWith('sim:'), load: () => import('./sim.ts') },
  {
    name: 'vfio',
    matches: (address) => /^[0-9a-f]{1,8}:/i.test(address),
    load: () => import('./vfio.ts'),
  },
  {
    name: 'vfio-user',
    matches: (address) => address.startsWith('vfio-user:'),
    load: () => import('./vfio-user.ts'),
  },
  { name: 'kernel', matches: (address) => address.startsWith('/dev/'), load: () => import('./kernel.ts') },
  { name: 'tcp', matches: (address) => address.startsWith('nvme+tcp:'), load: () => import('./tcp.ts') },
]

/** Finds what an address means. Throws AddressError; UnsupportedError where its transport is not part of the package. */
export async function resolveAddress(address: string, options: ConnectOptions): Promise<Target> {
  const kind = KINDS.find(({ matches }) => matches(address))
  if (kind === undefined) {
    throw new AddressError(
      `unknown address ${showText(address)}: a PCI name as 0a:00.0 or 0000:0a:00.0/1, /dev/nvme0n1, sim:…, vfio-user:… or nvme+tcp://… is needed`,
    )
  }
  const { resolve } = await kind.load().catch((cause: NodeJS.ErrnoException) => {
    if (cause.code !== 'ERR_MODULE_NOT_FOUND') throw cause
    throw new UnsupportedError(`${showText(address)}: this package has no ${kind.name}`, { cause })
  })
  return resolve(address, options)
}
