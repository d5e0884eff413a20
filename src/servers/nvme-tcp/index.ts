// Namespaces for hosts in the network, by NVMe/TCP: loaded when it is called.

import type { Namespace } from '../../namespace/namespace.ts'
import type { NvmeTcpServer, NvmeTcpServerOptions } from './serve.ts'

export type { NvmeTcpListener, NvmeTcpServer, NvmeTcpServerOptions, NvmeTcpServerStats } from './serve.ts'
export type { AnaState } from './subsystem.ts'

/**
 * Serves open namespaces to any number of hosts, as namespaces 1, 2, … of one NVM subsystem, until it is closed or one of
 * them is; keeps the process alive. Each host has a controller of its own, and reservations hold between them.
 *
 * @param namespaces those of any devices; or the address of a software controller (`sim:disk.img`), which is served as a
 * whole, with all that it has, to one host at a time
 * @throws ArgumentValueError, ArgumentTypeError, InUseError (a namespace that the system uses, which is not `readOnly`),
 * SetupError (a key that can't be read), SystemCallError (an address that can't be listened at), UnsupportedError,
 * OutOfMemoryError, AbortError
 */
export async function serveNvmeTcp(
  namespaces: string | readonly Namespace[],
  options: NvmeTcpServerOptions = {},
): Promise<NvmeTcpServer> {
  const module = await import('./serve.ts')
  return module.serveNvmeTcp(namespaces, options)
}
