// Opens the PCI function behind a socket.
// A dozen requests, one after the other, each waited for on the event loop: some hundred microseconds in
// all from a server that is awake, and no harm done by one that is not.

import { AbortError, AddressError, InUseError, SetupError, SystemCallError } from '../errors.ts'
import { onAbort, throwIfAborted } from '../sys/abort.ts'
import { lookAt } from './address.ts'
import { Channel } from './channel.ts'
import { VfioUserFunction } from './function.ts'
import { connectTo } from './socket.ts'

export interface VfioUserOptions {
  /** Milliseconds that the server may take to turn to this client, and then to answer any request; default 5000. */
  timeout?: number
  /**
   * Milliseconds that a call which can't but block waits for its answer: `mapDma`, and `readRegister` where registers
   * are messages. Default, and most: `timeout`.
   */
  patience?: number
  /** A server that goes may come back: see `reconnect` of PciFunction, which the function has then. Default: false. */
  returns?: boolean
  /** Ends the opening with AbortError. */
  signal?: AbortSignal | undefined
}

const TIMEOUT_MS = 5000
const RETRY_MS = 10

/**
 * Opens the function that a server offers at a socket: memory and bus master on, INTx and MSI-X off.
 *
 * Throws AddressError (no such socket, no one listens), SetupError (no rights), InUseError (the server serves
 * another client), ProtocolError (no vfio-user server, another version, no answer in time) and UnsupportedError.
 */
export async function openVfioUser(path: string, options: VfioUserOptions = {}): Promise<VfioUserFunction> {
  const { timeout = TIMEOUT_MS, signal } = options
  return openConnection(await connectInTime(path, timeout, signal), path, options)
}

/** Opens the function at the other end of a connected socket, which is closed where that fails. */
export async function openConnection(
  fd: number,
  path: string,
  { timeout = TIMEOUT_MS, patience = timeout, returns = false, signal }: VfioUserOptions = {},
): Promise<VfioUserFunction> {
  const name = `vfio-user:${path}`
  const channel = new Channel(fd, name, timeout)
  const again = () => new Channel(connectTo(path), name, timeout)
  const forget = onAbort(signal, () => channel.fail(new AbortError(signal?.reason)))
  try {
    const capabilities = await channel.negotiate()
    const how = { patience: Math.min(patience, timeout), again: returns ? again : null }
    return await VfioUserFunction.open(channel, capabilities, how)
  } catch (error) {
    channel.close()
    throw error
  } finally {
    forget()
  }
}

async function connectInTime(path: string, timeout: number, signal?: AbortSignal): Promise<number> {
  checkSocket(path)
  for (const until = performance.now() + timeout; ; ) {
    throwIfAborted(signal)
    try {
      return connectTo(path)
    } catch (cause) {
      if (!(cause instanceof SystemCallError)) throw cause
      if (cause.code !== 'EAGAIN') throw explain(path, cause)
      if (performance.now() > until) {
        throw new InUseError(`${path} is in use: too many clients wait for its server already`, { cause })
      }
    }
    await new Promise((resolve) => setTimeout(resolve, RETRY_MS))
  }
}

function checkSocket(path: string): void {
  const stat = lookAt(path)
  if (stat === undefined) throw new AddressError(`${path}: there is no such socket; is the server running?`)
  if (!stat.isSocket()) throw new AddressError(`${path} is no socket`)
}

function explain(path: string, cause: SystemCallError): Error {
  if (cause.code === 'ECONNREFUSED')
    return new AddressError(`${path}: no one listens at this socket`, { cause })
  if (cause.code === 'ENOENT') return new AddressError(`${path}: there is no such socket`, { cause })
  if (cause.code === 'EACCES' || cause.code === 'EPERM') {
    return new SetupError(`${path}: no right to connect: write permission on the socket is needed`, { cause })
  }
  return cause
}
