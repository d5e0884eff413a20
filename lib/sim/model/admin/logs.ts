// Get Log Page (NVMe 1.4 base, section 5.14): what really happened, encoded with lib/nvme's tables. Telemetry is JSON, which
// any program reads, in one data area.
// Each page is made whole and then cut to what was asked for, however little that is.

import { decodeGetLogPage, SANITIZE_ACTION } from '../../../nvme/spec/commands.ts'
import {
  encodeChangedNamespaces,
  encodeCommandEffects,
  encodeEffectsLog,
  encodeErrorLog,
  encodeFirmwareSlotLog,
  encodeSanitizeLog,
  encodeSelfTestLog,
  encodeSmartLog,
  encodeTelemetryHeader,
  LOG_PAGE,
  SANITIZE_STATE,
  TELEMETRY_BLOCK_BYTES,
} from '../../../nvme/spec/logs.ts'
import { ADMIN, ALL_NAMESPACES, mayChangeData, NVM } from '../../../nvme/spec/opcodes.ts'
import { STATUS } from '../../../nvme/spec/status.ts'
import { progressOf } from '../background.ts'
import { answerLater, type Backed, ADMIN_COMMANDS as OF_BACKED } from '../backing.ts'
import type { Controller } from '../controller.ts'
import { criticalWarnings, readLog, SPARE_THRESHOLD } from '../events.ts'
import { COUNTER, ERROR_ENTRIES } from '../health.ts'
import { OUI } from '../identity.ts'
import { sendData } from '../prp.ts'

const HOUR = 3_600_000
const MINUTE = 60_000

export function getLogPage(c: Controller, sqe: Uint32Array, e: number): number {
  const nsid = sqe[e + 1]!
  const [cdw10, cdw11, cdw12, cdw13, cdw14] = [10, 11, 12, 13, 14].map((dword) => sqe[e + dword]!)
  const request = { cdw10: cdw10!, cdw11: cdw11!, cdw12: cdw12!, cdw13: cdw13!, cdw14: cdw14! }
  const { lid, bytes, lpo: offset, lsp, rae } = decodeGetLogPage(request)
  if (bytes > c.maxBytes || offset % 4 !== 0) return STATUS.INVALID_FIELD
  const make = PAGES[lid]
  if (make === undefined || (c.backed !== null && OTHERS.has(lid))) return STATUS.INVALID_LOG_PAGE
  if (lid === LOG_PAGE.SMART && nsid !== 0 && nsid !== ALL_NAMESPACES) {
    // Not kept for single namespaces.
    return c.namespaces.has(nsid) ? STATUS.INVALID_FIELD : STATUS.INVALID_NAMESPACE_OR_FORMAT
  }
  const send = (page: Uint8Array, sqe: Uint32Array, e: number): number => {
    if (offset > page.length) return STATUS.INVALID_FIELD
    // What is asked for behind the page's end reads zeroes.
    const part = new Uint8Array(bytes)
    part.set(page.subarray(offset, offset + bytes))
    const status = sendData(c, sqe, e, part)
    if (status === 0 && !rae) markRead(c, lid)
    return status
  }
  const later = c.backed?.backing.readLog(lid) ?? null
  if (later !== null) return answerLater(c, c.backed!, sqe, e, later, (page, own) => send(page, own, 0))
  if (lid === LOG_PAGE.TELEMETRY_HOST && (lsp & CREATE) !== 0) captureTelemetry(c)
  return send(make(c), sqe, e)
}

const PAGES: Readonly<Record<number, (c: Controller) => Uint8Array>> = {
  [LOG_PAGE.ERROR_INFORMATION]: errorLog,
  [LOG_PAGE.SMART]: smartLog,
  [LOG_PAGE.FIRMWARE_SLOT]: ({ firmware: { active, next, revisions } }) =>
    encodeFirmwareSlotLog({ afi: { active, next }, frs: revisions }),
  [LOG_PAGE.CHANGED_NAMESPACES]: ({ events }) =>
    encodeChangedNamespaces({ nsids: [...events.changed].sort((a, b) => a - b) }),
  [LOG_PAGE.COMMAND_EFFECTS]: effectsLog,
  [LOG_PAGE.DEVICE_SELF_TEST]: selfTestLog,
  [LOG_PAGE.TELEMETRY_HOST]: (c) => telemetryLog(c, LOG_PAGE.TELEMETRY_HOST),
  [LOG_PAGE.TELEMETRY_CONTROLLER]: (c) => telemetryLog(c, LOG_PAGE.TELEMETRY_CONTROLLER),
  [LOG_PAGE.SANITIZE_STATUS]: sanitizeLog,
}

/** Not of a controller with a backing, which has no such operations. */
const OTHERS: ReadonlySet<number> = new Set([
  ...[LOG_PAGE.DEVICE_SELF_TEST, LOG_PAGE.SANITIZE_STATUS],
  ...[LOG_PAGE.TELEMETRY_HOST, LOG_PAGE.TELEMETRY_CONTROLLER],
])

/** In the log specific field of host-initiated telemetry: make the data again. */
const CREATE = 1

function markRead({ events }: Controller, lid: number): void {
  readLog(events, lid)
  if (lid === LOG_PAGE.CHANGED_NAMESPACES) events.changed.clear()
}

function errorLog({ health }: Controller): Uint8Array {
  const entries = health.errors.map((error) => ({
    error_count: BigInt(error.count),
    sqid: error.sqid,
    cmdid: error.cid,
    status_field: error.status,
    parm_error_location: 0xffff,
    lba: BigInt(error.lba),
    nsid: error.nsid,
    opcode: error.opcode,
  }))
  return encodeErrorLog(entries, new Uint8Array(ERROR_ENTRIES * 64))
}

function smartLog(c: Controller): Uint8Array {
  const { health } = c
  const counter = (i: number) => health.counters[i]!
  // Thousands of 512-byte units, rounded up.
  const units = (i: number) => BigInt(Math.ceil(counter(i) / 1000))
  const busyNow = health.busySince < 0 ? 0 : c.clock() - health.busySince
  return encodeSmartLog({
    critical_warning: criticalWarnings(c),
    temperature: health.temperature,
    avail_spare: health.availableSpare,
    spare_thresh: SPARE_THRESHOLD,
    percent_used: health.percentageUsed,
    data_units_read: units(COUNTER.UNITS_READ),
    data_units_written: units(COUNTER.UNITS_WRITTEN),
    host_read_commands: BigInt(counter(COUNTER.READS)),
    host_write_commands: BigInt(counter(COUNTER.WRITES)),
    controller_busy_time: BigInt(Math.floor((health.busy + busyNow) / MINUTE)),
    power_cycles: BigInt(health.powerCycles),
    power_on_hours: BigInt(Math.floor((c.clock() - health.poweredAt) / HOUR)),
    unsafe_shutdowns: BigInt(health.unsafeShutdowns),
    media_errors: BigInt(health.mediaErrors),
    num_err_log_entries: BigInt(health.errorCount),
    temperature_sensors: [health.temperature],
  })
}

function selfTestLog(c: Controller): Uint8Array {
  const { test, results } = c.background
  return encodeSelfTestLog({
    current_operation: test?.code ?? 0,
    completion: test === null ? 0 : Math.floor(progressOf(c, test) * 100),
    results: results.map(({ result, code, hours, nsid, segment, lba }) => ({
      result,
      code,
      poh: BigInt(hours),
      ...(nsid !== undefined && { nsid_valid: true, nsid }),
      ...(segment !== undefined && { segment }),
      // Of a failed read: Unrecovered Read Error.
      ...(lba !== undefined && {
        flba_valid: true,
        flba: BigInt(lba),
        sct_valid: true,
        sct: STATUS.UNRECOVERED_READ_ERROR >>> 8,
        sc_valid: true,
        sc: STATUS.UNRECOVERED_READ_ERROR & 0xff,
      }),
    })),
  })
}

function sanitizeLog(c: Controller): Uint8Array {
  const { sanitizing, sanitizeState, sanitizeDword, sanitizeWrites } = c.background
  const seconds = Math.ceil(c.config.operation / 1000)
  const none = c.counters[COUNTER.WRITES] === sanitizeWrites
  return encodeSanitizeLog({
    sprog: sanitizing === null ? 0xffff : Math.floor(progressOf(c, sanitizing) * 65536),
    sstat: {
      status: sanitizeState,
      passes:
        sanitizing === null && (sanitizeDword & 7) === SANITIZE_ACTION.OVERWRITE
          ? passesOf(sanitizeDword)
          : 0,
      global_erased: sanitizing === null && sanitizeState !== SANITIZE_STATE.NEVER && none,
    },
    scdw10: sanitizeDword,
    eto: seconds,
    etbe: seconds,
    etce: seconds,
  })
}

// 0 stands for 16; the log has no room for more than 31.
function passesOf(dword: number): number {
  return (dword >>> 4) & 0xf || 16
}

function effectsLog({ config, backed }: Controller): Uint8Array {
  if (backed !== null) return backedEffects(backed, config.shadow)
  const acs = new Array<number>(256).fill(0)
  const iocs = new Array<number>(256).fill(0)
  const supported = encodeCommandEffects()
  const changes = encodeCommandEffects({ lbcc: true })
  for (const opcode of ADMIN_COMMANDS) acs[opcode] = supported
  if (config.shadow) acs[ADMIN.DOORBELL_BUFFER_CONFIG] = supported
  if (config.lbaStatus) acs[ADMIN.GET_LBA_STATUS] = supported
  acs[ADMIN.SET_FEATURES] = encodeCommandEffects({ ccc: true })
  acs[ADMIN.FIRMWARE_COMMIT] = encodeCommandEffects({ ccc: true })
  // None of these with other commands at the same time.
  acs[ADMIN.FORMAT_NVM] = encodeCommandEffects({ lbcc: true, ncc: true, cse: 1 })
  acs[ADMIN.SANITIZE] = encodeCommandEffects({ lbcc: true, cse: 2 })
  acs[ADMIN.NAMESPACE_MANAGEMENT] = encodeCommandEffects({ nic: true, ccc: true })
  acs[ADMIN.NAMESPACE_ATTACHMENT] = encodeCommandEffects({ nic: true, ccc: true })
  for (const opcode of [NVM.FLUSH, NVM.READ, NVM.COMPARE, NVM.VERIFY]) iocs[opcode] = supported
  for (const opcode of [NVM.WRITE, NVM.WRITE_UNCORRECTABLE, NVM.WRITE_ZEROES, NVM.DATASET_MANAGEMENT]) {
    iocs[opcode] = changes
  }
  return encodeEffectsLog({ acs, iocs })
}

function backedEffects({ backing }: Backed, shadow: boolean): Uint8Array {
  const acs = new Array<number>(256).fill(0)
  const iocs = new Array<number>(256).fill(0)
  for (const opcode of OF_BACKED) acs[opcode] = encodeCommandEffects()
  if (!shadow) acs[ADMIN.DOORBELL_BUFFER_CONFIG] = 0
  acs[ADMIN.SET_FEATURES] = encodeCommandEffects({ ccc: true })
  for (const opcode of backing.opcodes) iocs[opcode] = encodeCommandEffects({ lbcc: mayChangeData(opcode) })
  return encodeEffectsLog({ acs, iocs })
}

const ADMIN_COMMANDS = [
  ADMIN.DELETE_IO_SQ,
  ADMIN.CREATE_IO_SQ,
  ADMIN.GET_LOG_PAGE,
  ADMIN.DELETE_IO_CQ,
  ADMIN.CREATE_IO_CQ,
  ADMIN.IDENTIFY,
  ADMIN.ABORT,
  ADMIN.SET_FEATURES,
  ADMIN.GET_FEATURES,
  ADMIN.ASYNC_EVENT_REQUEST,
  ADMIN.FIRMWARE_DOWNLOAD,
  ADMIN.DEVICE_SELF_TEST,
] as const

export interface Telemetry {
  /** Blocks of data behind the header, as the host had them made last. */
  data: Uint8Array
  generation: number
}

export function createTelemetry(): Telemetry {
  return { data: new Uint8Array(0), generation: 0 }
}

/** Makes the host-initiated data again. */
export function captureTelemetry(c: Controller): void {
  const { health, features, firmware, background } = c
  const { errors, counters, ...rest } = health
  const text = JSON.stringify({
    health: { ...rest, counters: [...counters] },
    errors,
    features: [...features.current],
    firmware: { ...firmware, parts: firmware.parts.length },
    selfTests: background.results,
    sanitize: background.sanitizeState,
    namespaces: [...c.allocated.values()],
  })
  const bytes = Buffer.byteLength(text)
  const data = Buffer.alloc(Math.ceil(bytes / TELEMETRY_BLOCK_BYTES) * TELEMETRY_BLOCK_BYTES)
  data.write(text)
  c.telemetry.data = data
  c.telemetry.generation = (c.telemetry.generation + 1) & 0xff
}

/** The whole log page, of the host's data or of the controller's own, of which there never is any. */
export function telemetryLog({ telemetry }: Controller, lid: number): Uint8Array {
  const own = lid === LOG_PAGE.TELEMETRY_CONTROLLER
  const data = own ? new Uint8Array(0) : telemetry.data
  const last = data.length / TELEMETRY_BLOCK_BYTES
  const page = new Uint8Array(TELEMETRY_BLOCK_BYTES + data.length)
  encodeTelemetryHeader(
    { lid, ieee: OUI, dalb1: last, dalb2: last, dalb3: last, hostdgn: own ? 0 : telemetry.generation },
    page,
  )
  page.set(data, TELEMETRY_BLOCK_BYTES)
  return page
}
