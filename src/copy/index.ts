// Copying and comparing files and devices: loaded when it is called.

import type { ControllerHandle } from '../namespace/controller-handle.ts'
import type { CompareOptions } from './compare.ts'
import type { CopyOptions } from './copy.ts'
import type { CompareResult, CopyResult } from './endpoint.ts'
import type { EndpointSpec } from './endpoint-spec.ts'
import type { WipeOptions, WipeRecord } from './wipe.ts'

export type { CompareOptions } from './compare.ts'
export type { CopyOptions } from './copy.ts'
export type {
  BadBlocks,
  CompareResult,
  CopyReport,
  CopyResult,
  CopyTarget,
  Difference,
  DifferingEndpoint,
} from './endpoint.ts'
export type { EndpointSpec } from './endpoint-spec.ts'
export type { WipeOptions, WipeRecord } from './wipe.ts'

/**
 * Copies a file or a range of a device to another, or to several at once, and returns when the data is on the medium. Holes and
 * zeroes are made in the target instead of being sent, and a compressed source is decompressed: see CopyOptions. `fs` reads
 * and writes DMA memory itself, and within a controller the memory that is read into is written from; between two controllers,
 * and from a pipe, data is copied once.
 *
 * @param from path, address, `-` or an open namespace
 * @param to likewise, or several of them: the source is read once, each is written at its own pace, and one that fails leaves
 * with its `error` in `targets` of the result. A file is made, or emptied first
 * @throws OutOfRangeError before anything is written, where it does not fit or both ranges are one; InUseError before that,
 * too, for a block device that the system uses and a file that another program has locked; UnsupportedError for a source
 * that is an image format of its own; NvmeError and the system's errors where reading or writing fails (of several targets:
 * all of them); VerifyError where the source is not what its checksum or its block map says; EndOfSourceError; AbortError.
 * Those of the device and of the signal have `bytesWritten`: the bytes that were copied, from the start and without a gap
 */
export async function copy(
  from: EndpointSpec,
  to: EndpointSpec | readonly EndpointSpec[],
  options: CopyOptions = {},
): Promise<CopyResult> {
  const module = await import('./copy.ts')
  return module.copy(from, to, options)
}

/**
 * Compares two files or ranges of devices. A file, a pipe or another stream against a device is compared in its own
 * length; two files must be of one length.
 *
 * @param a path, address, `-` or an open namespace; `slba` is its first LBA
 * @param b likewise; `dstSlba` is its first LBA
 * @throws OutOfRangeError where more bytes are asked for than one of them has; NvmeError, AbortError and the
 * system's errors
 */
export async function compare(
  a: EndpointSpec,
  b: EndpointSpec,
  options: CompareOptions = {},
): Promise<CompareResult> {
  const module = await import('./compare.ts')
  return module.compare(a, b, options)
}

/**
 * Wipes a namespace: by Format NVM with a secure erase, by a sanitize operation, or by zeroes that are written and read back.
 * Some blocks are marked before and looked at afterwards. It asks no question, and nothing undoes it.
 *
 * @returns what was done and found, `result: 'failed'` included
 * @throws UnsupportedError for a method that the controller does not have; NvmeError where it refuses; AbortError
 */
export async function wipe(
  handle: ControllerHandle,
  nsid: number,
  options: WipeOptions = {},
): Promise<WipeRecord> {
  const module = await import('./wipe.ts')
  return module.wipe(handle, nsid, options)
}
