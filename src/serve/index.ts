// The software controller for other processes: loaded when it is called.

import type { ServeOptions, Server } from './serve.ts'

export type { ServeOptions, Server } from './serve.ts'

/**
 * Offers a software controller to other processes, one client at a time, until it is closed; keeps the process alive.
 *
 * @param address `vfio-user:/run/nvme/cntrl`; a folder stands for the socket `cntrl` in it
 * @throws AddressError, ImageError, InUseError (the socket or the image), SetupError
 */
export async function serve(address: string, options: ServeOptions = {}): Promise<Server> {
  const module = await import('./serve.ts')
  return module.serve(address, options)
}
