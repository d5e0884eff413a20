// The target: what serves a controller to hosts in the network.

export type { CommandDone, DataBlock, ServedController } from './controller.ts'
export { serveTcp, type TargetOptions, type TargetSubsystem, type TcpTargetServer } from './server.ts'
