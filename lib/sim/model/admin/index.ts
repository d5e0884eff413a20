// Admin commands (NVMe 1.4 base, section 5), each in the file of its subject.
// One table says what is supported; the effects log says the same.

import { ADMIN } from '../../../nvme/spec/opcodes.ts'
import { STATUS } from '../../../nvme/spec/status.ts'
import { ADMIN_COMMANDS } from '../backing.ts'
import type { Controller } from '../controller.ts'
import { EVENT_REQUESTS } from '../events.ts'
import { NO_COMPLETION } from '../queues.ts'
import { configureDoorbellBuffer } from '../shadow.ts'
import { getFeatures, setFeatures } from './features.ts'
import { commitFirmware, downloadFirmware } from './firmware.ts'
import { identify } from './identify.ts'
import { getLbaStatus } from './lba-status.ts'
import { getLogPage } from './logs.ts'
import { attachNamespaces, format, manageNamespaces, sanitize, selfTest } from './namespaces.ts'
import { abort, createCq, createSq, deleteCq, deleteSq } from './queues.ts'

/** Executes the command at `sqe[e]`. Returns its status, or NO_COMPLETION where it is answered later. */
export function executeAdmin(c: Controller, sqe: Uint32Array, e: number): number {
  const dw0 = sqe[e]!
  if ((dw0 & c.unknownAdminFlags) !== 0) return STATUS.INVALID_FIELD
  if (c.background.sanitizing !== null && PROHIBITED.has(dw0 & 0xff)) return STATUS.SANITIZE_IN_PROGRESS
  if (c.backed !== null && !ADMIN_COMMANDS.has(dw0 & 0xff)) return STATUS.INVALID_OPCODE
  const command = COMMANDS[dw0 & 0xff]
  return command === undefined ? STATUS.INVALID_OPCODE : command(c, sqe, e)
}

const COMMANDS: Readonly<Record<number, (c: Controller, sqe: Uint32Array, e: number) => number>> = {
  [ADMIN.DELETE_IO_SQ]: deleteSq,
  [ADMIN.CREATE_IO_SQ]: createSq,
  [ADMIN.GET_LOG_PAGE]: getLogPage,
  [ADMIN.DELETE_IO_CQ]: deleteCq,
  [ADMIN.CREATE_IO_CQ]: createCq,
  [ADMIN.IDENTIFY]: identify,
  [ADMIN.ABORT]: abort,
  [ADMIN.SET_FEATURES]: setFeatures,
  [ADMIN.GET_FEATURES]: getFeatures,
  [ADMIN.ASYNC_EVENT_REQUEST]: awaitEvent,
  [ADMIN.DOORBELL_BUFFER_CONFIG]: configureDoorbellBuffer,
  [ADMIN.NAMESPACE_MANAGEMENT]: manageNamespaces,
  [ADMIN.FIRMWARE_COMMIT]: commitFirmware,
  [ADMIN.FIRMWARE_DOWNLOAD]: downloadFirmware,
  [ADMIN.DEVICE_SELF_TEST]: selfTest,
  [ADMIN.NAMESPACE_ATTACHMENT]: attachNamespaces,
  [ADMIN.FORMAT_NVM]: format,
  [ADMIN.SANITIZE]: sanitize,
  [ADMIN.GET_LBA_STATUS]: getLbaStatus,
}

/** Not while a sanitize operation goes on. */
const PROHIBITED = new Set<number>([
  ADMIN.NAMESPACE_MANAGEMENT,
  ADMIN.FIRMWARE_COMMIT,
  ADMIN.FIRMWARE_DOWNLOAD,
  ADMIN.DEVICE_SELF_TEST,
  ADMIN.NAMESPACE_ATTACHMENT,
  ADMIN.FORMAT_NVM,
  ADMIN.GET_LBA_STATUS,
])

function awaitEvent({ events }: Controller, sqe: Uint32Array, e: number): number {
  if (events.requests.length >= EVENT_REQUESTS) return STATUS.ASYNC_EVENT_REQUEST_LIMIT_EXCEEDED
  events.requests.push(sqe[e]! >>> 16)
  return NO_COMPLETION
}
