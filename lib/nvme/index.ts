// nvme: the NVMe specification as code, and the driver of one controller on any transport.
// Encoding and decoding stand side by side, so that the software controller uses the same tables.

export { eventLoopTurn, isEventLoopDue, rejectPaced } from '../sys/event-loop.ts'
// The driver.
export * from './host/admin-commands.ts'
export { type AdminCommand, type AdminOptions, AdminQueue, type AdminResult } from './host/admin-queue.ts'
export { type CommandFields, checkCommand, checkDataBytes } from './host/check-command.ts'
export {
  Controller,
  type ControllerOptions,
  createController,
  MAX_TRANSFER_BYTES,
} from './host/controller.ts'
export { type FailedCommand, nvmeError } from './host/failure.ts'
export {
  activeNamespaces,
  type IdentifyOptions,
  identify,
  identifyNamespace,
  type SendsAdmin,
  withSignal,
} from './host/identify-commands.ts'
export type { IoQueues } from './host/io-queues.ts'
export * from './host/lba-status.ts'
export type { Queue, QueueCounters, QueueOptions } from './host/queue.ts'
export {
  NO_WAKE_UP,
  type ResetKind,
  type SendAdmin,
  type Transport,
  type TransportFacts,
  type WakeUp,
} from './host/transport.ts'
export {
  bytesDescribed,
  listPagesNeeded,
  pagesTouched,
  writePrps,
} from './pcie/prp.ts'
export {
  CQE_BYTES,
  QueuePair,
  SQE_BYTES,
} from './pcie/queue-pair.ts'
export type { QueuePairOptions, QueuePairShare } from './pcie/queue-pair-share.ts'
export { type Doorbells, passes, ShadowDoorbells } from './pcie/shadow-doorbells.ts'
export { openPcieTransport, type PcieOptions, PcieTransport } from './pcie/transport.ts'
// The specification.
export * from './spec/ana.ts'
export * from './spec/async-event.ts'
export { celsius } from './spec/codec.ts'
export * from './spec/commands.ts'
export * from './spec/features.ts'
export * from './spec/flags.ts'
export * from './spec/identify.ts'
export * from './spec/lba-status.ts'
export * from './spec/logs.ts'
export * from './spec/opcodes.ts'
export * from './spec/registers.ts'
export * from './spec/status.ts'
