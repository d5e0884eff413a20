// Admin commands by name: Get Log Page, Get and Set Features, Format NVM, Sanitize, self-test, firmware, namespaces.

import { NvmeError } from '../../errors.ts'
import { checkOptionNames, type OptionNames } from '../../sys/options.ts'
import {
  COMMIT_ACTION,
  encodeFirmwareCommit,
  encodeFirmwareDownload,
  encodeFormat,
  encodeGetLogPage,
  encodeNamespaceSelect,
  encodeSanitize,
  encodeSelfTest,
  type LogPageRequest,
  NAMESPACE_ATTACHMENT,
  NAMESPACE_MANAGEMENT,
} from '../spec/commands.ts'
import { encodeGetFeatures, encodeSetFeatures, FEATURE_SELECT, featureInfo } from '../spec/features.ts'
import { encodeControllerList, encodeIdentifyNamespace } from '../spec/identify.ts'
import { ADMIN, ALL_NAMESPACES } from '../spec/opcodes.ts'
import { STATUS } from '../spec/status.ts'
import type { SendsAdmin } from './identify-commands.ts'

/** A Controller, for instance. */
export interface AdminSender extends SendsAdmin {
  /** Most bytes of one command's data. */
  readonly maxTransferBytes: number
}

// Format, sanitize and the like may work for as long as the medium is large.
const LONG_MS = 4 * 3_600_000

export interface GetLogPageOptions extends Omit<LogPageRequest, 'lid' | 'bytes'> {
  /** Default: all namespaces, which is the controller. */
  nsid?: number | undefined
}

const LOG_PAGE_NAMES: OptionNames<GetLogPageOptions> = {
  nsid: true,
  lpo: true,
  lsp: true,
  lsi: true,
  rae: true,
  uuid: true,
  csi: true,
  ot: true,
}

/**
 * Get Log Page (section 5.14): `bytes` bytes, rounded up to dwords for the command; a long page in several commands.
 * Rejects with NvmeError, Invalid Log Page or Invalid Field, where the controller has no such page.
 */
export async function getLogPage(
  sender: AdminSender,
  lid: number,
  bytes: number,
  options: GetLogPageOptions = {},
): Promise<Buffer> {
  checkOptionNames('getLogPage', options, LOG_PAGE_NAMES)
  const { nsid = ALL_NAMESPACES, lpo = 0, rae = false, ...rest } = options
  const data = Buffer.alloc(Math.ceil(bytes / 4) * 4)
  const most = Math.floor(sender.maxTransferBytes / 4096) * 4096
  for (let at = 0; at < data.length; at += most) {
    const part = data.subarray(at, at + most)
    // Only the last command may let the event of the page come again.
    const last = at + part.length === data.length
    const request = { ...rest, lid, bytes: part.length, lpo: lpo + at, rae: rae || !last }
    await sender.admin({ opcode: ADMIN.GET_LOG_PAGE, nsid, data: part, ...encodeGetLogPage(request) })
  }
  return data.subarray(0, bytes)
}

export interface GetFeatureOptions {
  nsid?: number | undefined
  /** One of FEATURE_SELECT, default CURRENT. */
  select?: number | undefined
  /** What dword 11 asks for: which temperature sensor, which vector. */
  cdw11?: number | undefined
  /**
   * Bytes of data that are wanted; default: what the feature is known to have, and none with FEATURE_SELECT.SUPPORTED.
   * A controller sends all that the feature has, whatever is wanted.
   */
  bytes?: number | undefined
  uuid?: number | undefined
}

const GET_FEATURE_NAMES: OptionNames<GetFeatureOptions> = {
  nsid: true,
  select: true,
  cdw11: true,
  bytes: true,
  uuid: true,
}

export interface FeatureReply {
  /** Dword 0 of the completion: see decodeFeature. */
  value: number
  /** Empty where the feature has no data. */
  data: Buffer
}

/** Get Features (section 5.13). Rejects with NvmeError where the controller has no such feature. */
export async function getFeature(
  sender: AdminSender,
  fid: number,
  options: GetFeatureOptions = {},
): Promise<FeatureReply> {
  checkOptionNames('getFeature', options, GET_FEATURE_NAMES)
  const { nsid = 0, select: sel = FEATURE_SELECT.CURRENT, cdw11 = 0, uuid = 0 } = options
  const known = sel === FEATURE_SELECT.SUPPORTED ? 0 : featureInfo(fid).getBytes
  const { bytes = known } = options
  const data = Buffer.alloc(Math.max(bytes, known))
  const cdw10 = encodeGetFeatures({ fid, sel })
  const command = { opcode: ADMIN.GET_FEATURES, nsid, data, cdw10, cdw11, cdw14: uuid }
  return { value: (await sender.admin(command)).result, data: data.subarray(0, bytes) }
}

export interface SetFeatureOptions {
  nsid?: number | undefined
  /** Keep the value over resets and power cycles. */
  save?: boolean | undefined
  /** Dwords of features that have more than one. */
  cdw12?: number | undefined
  cdw13?: number | undefined
  data?: Uint8Array | undefined
  uuid?: number | undefined
}

const SET_FEATURE_NAMES: OptionNames<SetFeatureOptions> = {
  nsid: true,
  save: true,
  cdw12: true,
  cdw13: true,
  data: true,
  uuid: true,
}

/** Set Features (section 5.21): `value` is dword 11. Resolves with dword 0 of the completion. */
export async function setFeature(
  sender: AdminSender,
  fid: number,
  value: number,
  options: SetFeatureOptions = {},
): Promise<number> {
  checkOptionNames('setFeature', options, SET_FEATURE_NAMES)
  const { nsid = 0, save: sv = false, cdw12 = 0, cdw13 = 0, data, uuid = 0 } = options
  const cdw10 = encodeSetFeatures({ fid, sv })
  const dwords = { cdw10, cdw11: value, cdw12, cdw13, cdw14: uuid }
  const { result } = await sender.admin({
    opcode: ADMIN.SET_FEATURES,
    nsid,
    ...(data && { data }),
    ...dwords,
  })
  return result
}

/** Format NVM (section 5.23) of a namespace, or of all: user data is gone. `lbaf` is an index of `lbafs`. */
export async function formatNvm(
  sender: AdminSender,
  nsid: number,
  { lbaf, ...rest }: { lbaf: number } & Omit<Parameters<typeof encodeFormat>[0], 'lbafl' | 'lbafu'>,
  { timeout = LONG_MS }: { timeout?: number | undefined } = {},
): Promise<void> {
  const cdw10 = encodeFormat({ ...rest, lbafl: lbaf & 0xf, lbafu: lbaf >>> 4 })
  await sender.admin({ opcode: ADMIN.FORMAT_NVM, nsid, cdw10, timeout })
}

/** Sanitize (section 5.24): starts it, and resolves before it is done; see the log page Sanitize Status. */
export async function sanitize(
  sender: AdminSender,
  { pattern = 0, ...value }: Parameters<typeof encodeSanitize>[0] & { pattern?: number | undefined },
): Promise<void> {
  await sender.admin({ opcode: ADMIN.SANITIZE, cdw10: encodeSanitize(value), cdw11: pattern })
}

/** Device Self-test (section 5.8): starts one of SELF_TEST, or ends the one that runs. `nsid` 0: no namespace. */
export async function deviceSelfTest(
  sender: AdminSender,
  stc: number,
  nsid: number = ALL_NAMESPACES,
): Promise<void> {
  await sender.admin({ opcode: ADMIN.DEVICE_SELF_TEST, nsid, cdw10: encodeSelfTest({ stc }) })
}

export interface DownloadOptions {
  /** Bytes of each command, a multiple of the controller's granularity (`fwug` × 4 KiB). Default: 4096. */
  part?: number | undefined
  /** Where the image begins in the controller's, a multiple of 4. Default: 0. */
  offset?: number | undefined
  /** Goes on after Overlapping Range, which says that parts were sent before. Default: false. */
  ignoreOverlap?: boolean | undefined
  /** Called after each part with the bytes of the image that have been sent. */
  onProgress?: ((bytes: number) => void) | undefined
}

/**
 * Firmware Image Download (section 5.12) of an image, in parts. The controller forgets it at a reset, that is when
 * it is closed: commit it before.
 */
export async function downloadFirmware(
  sender: AdminSender,
  image: Uint8Array,
  { part = 4096, offset = 0, ignoreOverlap = false, onProgress = () => {} }: DownloadOptions = {},
): Promise<void> {
  // The specification counts in dwords.
  const whole = Buffer.alloc(Math.ceil(image.length / 4) * 4)
  whole.set(image)
  for (let at = 0; at < whole.length; at += part) {
    const data = whole.subarray(at, at + part)
    const dwords = encodeFirmwareDownload({ bytes: data.length, offset: offset + at })
    await sender.admin({ opcode: ADMIN.FIRMWARE_DOWNLOAD, data, ...dwords }).catch((error: unknown) => {
      if (!ignoreOverlap || !isOverlap(error)) throw error
    })
    onProgress(Math.min(image.length, at + part))
  }
}

function isOverlap(error: unknown): boolean {
  return error instanceof NvmeError && ((error.sct << 8) | error.sc) === STATUS.OVERLAPPING_RANGE
}

/** Firmware Commit (section 5.11). Resolves with dword 0: bit 0 and 1 say that updates were mixed up (2.0). */
export async function commitFirmware(
  sender: AdminSender,
  value: { slot: number; action?: number | undefined; bpid?: number | undefined },
): Promise<number> {
  const { slot: fs, action: ca = COMMIT_ACTION.REPLACE, bpid = 0 } = value
  const cdw10 = encodeFirmwareCommit({ fs, ca, bpid })
  return (await sender.admin({ opcode: ADMIN.FIRMWARE_COMMIT, cdw10, timeout: LONG_MS })).result
}

/** Namespace Management, create (section 5.20): resolves with the new namespace's id, which is not yet attached. */
export async function createNamespace(
  sender: AdminSender,
  value: Pick<
    Parameters<typeof encodeIdentifyNamespace>[0],
    'nsze' | 'ncap' | 'flbas' | 'dps' | 'nmic' | 'anagrpid' | 'nvmsetid' | 'endgid'
  >,
  { csi = 0, timeout = LONG_MS }: { csi?: number | undefined; timeout?: number | undefined } = {},
): Promise<number> {
  const data = Buffer.from(encodeIdentifyNamespace(value))
  const cdw10 = encodeNamespaceSelect({ sel: NAMESPACE_MANAGEMENT.CREATE })
  const command = { opcode: ADMIN.NAMESPACE_MANAGEMENT, data, cdw10, cdw11: (csi << 24) >>> 0, timeout }
  return (await sender.admin(command)).result
}

/** Namespace Management, delete: of one namespace, or of all (ALL_NAMESPACES). */
export async function deleteNamespace(
  sender: AdminSender,
  nsid: number,
  { timeout = LONG_MS }: { timeout?: number | undefined } = {},
): Promise<void> {
  const cdw10 = encodeNamespaceSelect({ sel: NAMESPACE_MANAGEMENT.DELETE })
  await sender.admin({ opcode: ADMIN.NAMESPACE_MANAGEMENT, nsid, cdw10, timeout })
}

/** Namespace Attachment (section 5.19) of a namespace to controllers, by their ids, or from them. */
export async function attachNamespace(
  sender: AdminSender,
  nsid: number,
  cntlids: readonly number[],
  { detach = false }: { detach?: boolean | undefined } = {},
): Promise<void> {
  const { ATTACH, DETACH } = NAMESPACE_ATTACHMENT
  const data = Buffer.from(encodeControllerList(cntlids))
  const cdw10 = encodeNamespaceSelect({ sel: detach ? DETACH : ATTACH })
  await sender.admin({ opcode: ADMIN.NAMESPACE_ATTACHMENT, nsid, data, cdw10 })
}
