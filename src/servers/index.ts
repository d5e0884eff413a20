// Servers of devices for other programs: loaded when they are called.

import type { Namespace } from '../namespace/namespace.ts'
import type { NbdServer, ServeNbdOptions } from './nbd/server.ts'
import type { ServeOptions, Server } from './vfio-user/serve.ts'

export type { NbdServer, NbdServerStats, ServeNbdOptions } from './nbd/server.ts'
export type { NbdTlsOptions } from './nbd/tls.ts'
export type { ServeOptions, Server, ServerStats } from './vfio-user/serve.ts'

/**
 * Offers a software controller, or open namespaces of any devices as namespaces of a controller, to other processes at a
 * vfio-user socket, one client at a time, until it is closed or a namespace is; keeps the process alive.
 *
 * @param address `vfio-user:/run/nvme/cntrl`; a folder stands for the socket `cntrl` in it
 * @throws AddressError, ImageError, InUseError (the socket, the image, or a namespace that the system uses, which is not
 * `readOnly`), SetupError, UnsupportedError (metadata in a buffer of its own), OutOfMemoryError, AbortError
 */
export async function serve(address: string, options: ServeOptions = {}): Promise<Server> {
  const module = await import('./vfio-user/serve.ts')
  return module.serve(address, options)
}

/**
 * Offers namespaces to NBD clients (QEMU, nbdcopy, the kernel's nbd), until it is closed; keeps the process alive. They are
 * the caller's, and stay open. A server listens on the loopback, or at a Unix socket that only its user may open, unless
 * `allowRemote` is given.
 *
 * @param exports a namespace, whose export has the empty name, or several by their names
 * @throws InUseError (the socket, the port, or a device that the system uses, unless `readOnly`), SetupError,
 * AddressError (of the socket), ArgumentTypeError, OutOfRangeError, AbortError, ClosedError
 */
export async function serveNbd(
  exports: Namespace | Readonly<Record<string, Namespace>>,
  options: ServeNbdOptions = {},
): Promise<NbdServer> {
  const module = await import('./nbd/server.ts')
  return module.serveNbd(exports, options)
}
