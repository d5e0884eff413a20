// A target in this process: software controllers behind a port of the loopback.

import type { ServedController, TargetOptions } from '../../lib/nvme/tcp/target/index.ts'
import { serveTcp, type TcpTargetServer } from '../../lib/nvme/tcp/target/index.ts'
import { type CapsuleSim, hostCapsules, parseSimAddress } from '../../lib/sim/index.ts'

export const NQN = 'nqn.2024-01.org.example:disk'
/** No file of the machine, or the user, is looked at. */
export const HOST = 'hostnqn=nqn.2024-01.org.example:host&hostid=6f9619ff-8b86-d011-b42d-00cf4fc964ff'

export interface TestTarget {
  readonly server: TcpTargetServer
  readonly sim: CapsuleSim
  readonly port: number
  /** Of its subsystem, with more of a query. A call that blocks would never be answered by this process. */
  address(query?: string, port?: number): string
  close(): Promise<void>
}

export type TargetLimits = Omit<TargetOptions, 'subsystems'>

export async function startTarget(device = 'sim:?size=32M', limits: TargetLimits = {}): Promise<TestTarget> {
  const sim = hostCapsules(parseSimAddress(device))
  const controller = sim as ServedController
  const server = await serveTcp({ ...limits, subsystems: [{ nqn: NQN, controller }] })
  return {
    server,
    sim,
    port: server.port,
    address: (query = '', port = server.port) => {
      const link = query.includes('link=') ? '' : '&link=socket'
      return `nvme+tcp://127.0.0.1:${port}/${NQN}?${HOST}${link}${query && `&${query}`}`
    },
    async close() {
      await server.close()
      sim.close()
    },
  }
}
