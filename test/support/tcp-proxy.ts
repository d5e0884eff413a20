// A proxy between a host and a target that sees, changes, holds and adds PDUs in either direction.

import net from 'node:net'

/** What becomes of a PDU: what is forwarded instead. */
export type Change = (pdu: Buffer, connection: ProxiedConnection) => readonly Buffer[]

export interface ProxiedConnection {
  /** In the order in which they were made: the admin queue's first. */
  readonly index: number
  readonly toHost: net.Socket
  readonly toTarget: net.Socket
}

export interface TcpProxy {
  readonly port: number
  readonly connections: ProxiedConnection[]
  /** As it is by default: nothing is changed. */
  toHost: Change
  toTarget: Change
  /** Neither host nor target hears of the other's end: a cable that was pulled. */
  pulled: boolean
  /** A host has come. */
  onConnection: () => void
  /** Ends every connection, of host and target. */
  endAll(): void
  close(): Promise<void>
}

/** @param port 0 for a free one */
export async function startProxy(targetPort: number, port = 0): Promise<TcpProxy> {
  const server = net.createServer({ noDelay: true }, (toHost) => {
    const toTarget = net.connect({ port: targetPort, host: '127.0.0.1', noDelay: true })
    const connection = { index: proxy.connections.length, toHost, toTarget }
    proxy.connections.push(connection)
    proxy.onConnection()
    const isPulled = () => proxy.pulled
    forward(toHost, toTarget, (pdu) => proxy.toTarget(pdu, connection), isPulled)
    forward(toTarget, toHost, (pdu) => proxy.toHost(pdu, connection), isPulled)
  })
  await new Promise<void>((resolve) => server.listen({ port, host: '127.0.0.1' }, resolve))
  const proxy: TcpProxy = {
    port: (server.address() as net.AddressInfo).port,
    connections: [],
    toHost: (pdu) => [pdu],
    toTarget: (pdu) => [pdu],
    pulled: false,
    onConnection() {},
    endAll() {
      for (const { toHost, toTarget } of proxy.connections) {
        toHost.destroy()
        toTarget.destroy()
      }
    },
    async close() {
      const closed = new Promise((resolve) => server.close(resolve))
      proxy.endAll()
      await closed
    },
  }
  return proxy
}

function forward(
  from: net.Socket,
  to: net.Socket,
  change: (pdu: Buffer) => readonly Buffer[],
  pulled: () => boolean,
): void {
  let rest: Buffer = Buffer.alloc(0)
  from.on('data', (chunk) => {
    rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk])
    while (rest.length >= 8) {
      const plen = Math.max(8, rest.readUInt32LE(4))
      if (rest.length < plen) break
      const pdu = Buffer.from(rest.subarray(0, plen))
      rest = rest.subarray(plen)
      if (pulled()) continue
      for (const part of change(pdu)) if (!to.destroyed) to.write(part)
    }
  })
  const end = (how: () => void) => () => {
    if (!pulled()) how()
  }
  from.on(
    'end',
    end(() => to.end()),
  )
  from.on(
    'error',
    end(() => to.destroy()),
  )
  from.on(
    'close',
    end(() => to.destroy()),
  )
}
