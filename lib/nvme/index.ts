// nvme: the NVMe specification as code, and the driver of one controller behind any PCI function.
// Trade-off: encoding and decoding stand side by side, so that the software controller uses the same tables.

// The driver.
export * from './admin-commands.ts'
export { type AdminCommand, type AdminOptions, AdminQueue, type AdminResult } from './admin-queue.ts'
// The specification.
export * from './async-event.ts'
export { failureOf } from './bring-up.ts'
export { type CommandFields, checkCommand, checkDataBytes } from './check-command.ts'
export * from './commands/index.ts'
export { Controller, type ControllerOptions, createController, MAX_TRANSFER_BYTES } from './controller.ts'
export { adminDataBytes, type CommandDwords, ioDataBytes } from './data-length.ts'
export { eventLoopTurn, isEventLoopDue, pacing, rejectPaced } from './event-loop.ts'
export { type FailedCommand, nvmeError } from './failure.ts'
export * from './features/index.ts'
export * from './identify/index.ts'
export {
  activeNamespaces,
  type IdentifyOptions,
  identify,
  identifyNamespace,
  type SendsAdmin,
  withSignal,
} from './identify-commands.ts'
export type { IoQueuePairs } from './io-queue-pairs.ts'
export * from './logs/index.ts'
export * from './opcodes.ts'
export {
  bytesDescribed,
  high32,
  listPagesNeeded,
  low32,
  PRP_PAGE_BYTES,
  pagesTouched,
  writePrps,
} from './prp.ts'
export {
  CQE_BYTES,
  QueuePair,
  SQE_BYTES,
} from './queue-pair.ts'
export type { QueuePairCounters, QueuePairOptions, QueuePairShare } from './queue-pair-share.ts'
export * from './registers.ts'
export { type Doorbells, passes, ShadowDoorbells } from './shadow-doorbells.ts'
export * from './status.ts'
export {
  decodeTimestamp,
  encodeTimestamp,
  TIMESTAMP_ORIGIN,
  type Timestamp,
} from './timestamp.ts'
