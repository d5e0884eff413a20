// Ends the beginning of a server at one of its steps.

import net from 'node:net'
import type { Namespace } from '../../src/index.ts'

/**
 * Calls `end` when a server of `ns` reads Identify Namespace, or when it has begun to listen at `host`, which no other server
 * of the process listens at.
 * @returns the servers that were asked to listen there
 */
export function endAt(
  ns: Namespace,
  host: string,
  when: 'identify' | 'listen',
  end: () => void,
): net.Server[] {
  const { controller } = ns
  const servers: net.Server[] = []
  const identify = controller.identifyNamespace.bind(controller)
  controller.identifyNamespace = (nsid) => {
    const reading = identify(nsid)
    if (when === 'identify') end()
    return reading
  }
  const { listen } = net.Server.prototype
  net.Server.prototype.listen = function (this: net.Server, ...given: unknown[]) {
    const result = Reflect.apply(listen, this, given)
    if ((given[0] as net.ListenOptions).host !== host) return result
    servers.push(this)
    if (when === 'listen') end()
    return result
  }
  return servers
}
