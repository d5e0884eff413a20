// A server of one device or more with several listeners, each behind a proxy that counts, holds and answers commands: what tests of
// several paths need to see of each, and to do to it.

import { ADMIN } from '../../lib/nvme/spec/opcodes.ts'
import { STATUS } from '../../lib/nvme/spec/status.ts'
import { PDU } from '../../lib/nvme/tcp/pdu.ts'
import { type AnaState, type Namespace, type NvmeTcpServer, open, serveNvmeTcp } from '../../src/index.ts'
import { SERVED_NQN } from './nvme-tcp-server.ts'
import { type ProxiedConnection, startProxy, type TcpProxy } from './tcp-proxy.ts'
import { HOST } from './tcp-target.ts'

/** The options of every address of these servers. */
export const PATH_QUERY = HOST

export interface TestPath {
  /** HOST:PORT of the proxy. */
  readonly endpoint: string
  readonly proxy: TcpProxy
  /** I/O commands that have come. */
  readonly seen: { opcode: number; nsid: number; slba: number; nlb: number }[]
  /** Those that the server was not given, while `hold`. */
  readonly held: { readonly pdu: Buffer; readonly connection: ProxiedConnection }[]
  hold: boolean
  /** A status that every I/O command gets in place of the server's; 0 none. */
  status: number
  /** Namespaces that the controller does not have, as Identify says. */
  readonly gone: Set<number>
  /** Connect has come for a queue. */
  onConnect: (qid: number) => void
  /** Gives the server what was held, where the connection is still there. */
  release(): void
  /** Ends every connection; the port refuses them then. */
  stop(): Promise<void>
  /** Listens again at the same port, for the same server or another one. */
  start(targetPort?: number): Promise<void>
}

const FABRICS = 0x7f
const CONNECT = 1

/** A proxy before a target. */
export async function watchPath(targetPort: number): Promise<TestPath> {
  const queues = new WeakMap<ProxiedConnection, number>()
  const look = (pdu: Buffer, connection: ProxiedConnection): readonly Buffer[] => {
    if (pdu[0] !== PDU.CAPSULE_CMD) return [pdu]
    const sqe = pdu.subarray(8, 72)
    if (sqe[0] === FABRICS) {
      if (sqe[4] === CONNECT) {
        queues.set(connection, sqe.readUInt16LE(42))
        path.onConnect(sqe.readUInt16LE(42))
      }
      return path.proxy.pulled ? [] : [pdu]
    }
    if ((queues.get(connection) ?? 0) === 0) {
      if (sqe[0] !== ADMIN.IDENTIFY || !path.gone.has(sqe.readUInt32LE(4))) return [pdu]
      connection.toHost.write(encodeAnswer(sqe.readUInt16LE(2), STATUS.INVALID_NAMESPACE_OR_FORMAT))
      return []
    }
    path.seen.push({
      ...{ opcode: sqe[0]!, nsid: sqe.readUInt32LE(4) },
      ...{ slba: sqe.readUInt32LE(40), nlb: sqe.readUInt16LE(48) + 1 },
    })
    if (path.status !== 0) {
      connection.toHost.write(encodeAnswer(sqe.readUInt16LE(2), path.status))
      return []
    }
    if (!path.hold) return [pdu]
    path.held.push({ pdu, connection })
    return []
  }
  const listen = async (to: number, port = 0) => {
    const proxy = await startProxy(to, port)
    proxy.toTarget = look
    return proxy
  }
  let proxy = await listen(targetPort)
  const { port } = proxy
  const path: TestPath = {
    endpoint: `127.0.0.1:${port}`,
    get proxy() {
      return proxy
    },
    ...{ seen: [], held: [], hold: false, status: 0, gone: new Set<number>(), onConnect() {} },
    release() {
      for (const { pdu, connection } of path.held.splice(0)) {
        if (!connection.toTarget.destroyed) connection.toTarget.write(pdu)
      }
    },
    stop: () => proxy.close(),
    async start(to = targetPort) {
      proxy = await listen(to, port)
    },
  }
  return path
}

/** A CapsuleResp without digests. */
function encodeAnswer(cid: number, status: number): Buffer {
  const pdu = Buffer.alloc(24)
  pdu[0] = PDU.CAPSULE_RESP
  pdu[2] = pdu[4] = pdu.length
  pdu.writeUInt16LE(cid, 20)
  pdu.writeUInt16LE(status << 1, 22)
  return pdu
}

/** The address of all of them, with more of a query. */
export function addressBy(paths: readonly TestPath[], query = '', nqn = SERVED_NQN): string {
  const hosts = paths.map(({ endpoint }) => endpoint).join(',')
  return `nvme+tcp://${hosts}/${nqn}?${PATH_QUERY}${query && `&${query}`}`
}

export interface PathServerOptions {
  /** Of each listener; it says how many there are. */
  readonly states?: readonly AnaState[]
  readonly device?: string
  /** Those that are served after it, as namespaces 2 and up. */
  readonly more?: readonly string[]
  readonly nqn?: string
}

export interface PathServer {
  readonly server: NvmeTcpServer
  readonly device: Namespace
  /** All that are served. */
  readonly devices: readonly Namespace[]
  readonly paths: readonly TestPath[]
  end(): Promise<void>
}

/** In this process. */
export async function startPaths(options: PathServerOptions = {}): Promise<PathServer> {
  const { states = ['optimized', 'optimized'], device: address = 'sim:?size=8M', nqn = SERVED_NQN } = options
  const devices: Namespace[] = []
  for (const one of [address, ...(options.more ?? [])]) devices.push(await open(one))
  const listen = states.map(() => '127.0.0.1:0')
  const server = await serveNvmeTcp(devices, { nqn, listen, ana: states })
  const paths = await Promise.all(server.listeners.map(({ port }) => watchPath(port)))
  return {
    ...{ server, device: devices[0]!, devices, paths },
    async end() {
      for (const path of paths) await path.stop()
      await server.close()
      for (const device of devices) await device.close()
    },
  }
}
