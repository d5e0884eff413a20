// The target: what serves controllers to hosts in the network.

export type { CommandDone, DataBlock, ServedController } from './controller.ts'
export {
  type ConnectingHost,
  type ListenerAddress,
  type Referral,
  serveTcp,
  type TargetListener,
  type TargetOptions,
  type TargetSubsystem,
  type TargetTls,
  type TcpTargetServer,
} from './server.ts'
