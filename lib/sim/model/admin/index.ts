// Admin commands (NVMe 1.4 base, section 5), each in the file of its subject.
// Trade-off: one switch, so that what is supported can be seen at a glance; the effects log says the same.

import { ADMIN } from '../../../nvme/spec/opcodes.ts'
import { STATUS } from '../../../nvme/spec/status.ts'
import { NO_COMPLETION } from '../completion.ts'
import type { Controller } from '../controller.ts'
import { EVENT_REQUESTS } from '../events.ts'
import { FUSE_AND_PSDT } from '../io-commands.ts'
import { configureDoorbellBuffer } from '../shadow.ts'
import { getFeatures, setFeatures } from './features.ts'
import { commitFirmware, downloadFirmware } from './firmware.ts'
import { identify } from './identify.ts'
import { getLogPage } from './logs.ts'
import { attachNamespaces, format, manageNamespaces, sanitize, selfTest } from './namespaces.ts'
import { abort, createCq, createSq, deleteCq, deleteSq } from './queues.ts'

/** Executes the command at `sqe[e]`. Returns its status, or NO_COMPLETION where it is answered later. */
export function executeAdmin(c: Controller, sqe: Uint32Array, e: number): number {
  const dw0 = sqe[e]!
  if ((dw0 & FUSE_AND_PSDT) !== 0) return STATUS.INVALID_FIELD
  if (c.background.sanitizing !== null && PROHIBITED.has(dw0 & 0xff)) return STATUS.SANITIZE_IN_PROGRESS
  switch (dw0 & 0xff) {
    case ADMIN.DELETE_IO_SQ:
      return deleteSq(c, sqe, e)
    case ADMIN.CREATE_IO_SQ:
      return createSq(c, sqe, e)
    case ADMIN.GET_LOG_PAGE:
      return getLogPage(c, sqe, e)
    case ADMIN.DELETE_IO_CQ:
      return deleteCq(c, sqe, e)
    case ADMIN.CREATE_IO_CQ:
      return createCq(c, sqe, e)
    case ADMIN.IDENTIFY:
      return identify(c, sqe, e)
    case ADMIN.ABORT:
      return abort(c, sqe, e)
    case ADMIN.SET_FEATURES:
      return setFeatures(c, sqe, e)
    case ADMIN.GET_FEATURES:
      return getFeatures(c, sqe, e)
    case ADMIN.ASYNC_EVENT_REQUEST:
      return awaitEvent(c, dw0 >>> 16)
    case ADMIN.DOORBELL_BUFFER_CONFIG:
      return configureDoorbellBuffer(c, sqe, e)
    case ADMIN.NAMESPACE_MANAGEMENT:
      return manageNamespaces(c, sqe, e)
    case ADMIN.FIRMWARE_COMMIT:
      return commitFirmware(c, sqe, e)
    case ADMIN.FIRMWARE_DOWNLOAD:
      return downloadFirmware(c, sqe, e)
    case ADMIN.DEVICE_SELF_TEST:
      return selfTest(c, sqe, e)
    case ADMIN.NAMESPACE_ATTACHMENT:
      return attachNamespaces(c, sqe, e)
    case ADMIN.FORMAT_NVM:
      return format(c, sqe, e)
    case ADMIN.SANITIZE:
      return sanitize(c, sqe, e)
    default:
      return STATUS.INVALID_OPCODE
  }
}

/** Not while a sanitize operation goes on. */
const PROHIBITED = new Set<number>([
  ADMIN.NAMESPACE_MANAGEMENT,
  ADMIN.FIRMWARE_COMMIT,
  ADMIN.FIRMWARE_DOWNLOAD,
  ADMIN.DEVICE_SELF_TEST,
  ADMIN.NAMESPACE_ATTACHMENT,
  ADMIN.FORMAT_NVM,
])

function awaitEvent({ events }: Controller, cid: number): number {
  if (events.requests.length >= EVENT_REQUESTS) return STATUS.ASYNC_EVENT_REQUEST_LIMIT_EXCEEDED
  events.requests.push(cid)
  return NO_COMPLETION
}
