// unvme: NVMe namespaces as streams, async iterators and UNVMe's calls.

export * from '../lib/errors.ts'
export type { AdminCommand, AdminOptions, AdminResult } from '../lib/nvme/host/admin-queue.ts'
export type { LbaStatusOptions } from '../lib/nvme/host/lba-status.ts'
export type { PathChange, PathInfo, PathState } from '../lib/nvme/paths/path.ts'
export {
  LBA_STATUS_ACTION,
  LBA_STATUS_END,
  type LbaStatus,
  type LbaStatusList,
} from '../lib/nvme/spec/lba-status.ts'
export { ADMIN, NVM } from '../lib/nvme/spec/opcodes.ts'
export type { FaultAction, FaultRule, HealthChange, SimControls } from '../lib/sim/index.ts'
export type { DeviceOptions, NamespaceController, OpeningOptions } from './controller/device.ts'
export {
  type BadBlocks,
  type CompareOptions,
  type CompareResult,
  type CopyOptions,
  type CopyReport,
  type CopyResult,
  type CopyTarget,
  compare,
  copy,
  type Difference,
  type DifferingEndpoint,
  type EndpointSpec,
  type WipeOptions,
  type WipeRecord,
  wipe,
} from './copy/index.ts'
export type { ControllerHandle } from './namespace/controller-handle.ts'
export type { Namespace } from './namespace/namespace.ts'
export type { CallOptions, NamespacePromises } from './namespace/promises.ts'
export { type OpenOptions, open, openController } from './open.ts'
export type { IoDescriptor } from './queue/operation.ts'
export type { IoCommand, LbaRange } from './queue/requests.ts'
export type { Stats } from './queue/stats.ts'
export {
  type NbdServer,
  type NbdServerStats,
  type NbdTlsOptions,
  type ServeNbdOptions,
  type ServeOptions,
  type Server,
  type ServerStats,
  serve,
  serveNbd,
} from './servers/index.ts'
export {
  type AnaState,
  type NvmeTcpListener,
  type NvmeTcpServer,
  type NvmeTcpServerOptions,
  type NvmeTcpServerStats,
  serveNvmeTcp,
} from './servers/nvme-tcp/index.ts'
export type {
  Block,
  BlockIterator,
  BlocksOptions,
  PlacedBlock,
  WriteBlocksOptions,
  WriteSource,
} from './streams/blocks.ts'
export type {
  ReadStream,
  ReadStreamOptions,
  WriteStream,
  WriteStreamOptions,
} from './streams/node-streams.ts'
export type {
  TransferFromOptions,
  TransferSink,
  TransferSource,
  TransferToOptions,
} from './streams/transfer.ts'
export type { ReadableWebStreamOptions } from './streams/web-stream.ts'
export {
  attach,
  type QueueShare,
  type QueueTicket,
  type ShareOptions,
  type SpreadOptions,
  spread,
  type TaskContext,
  task,
} from './threads/index.ts'
