// What a word or an object names in `copy` and `compare`: a file, a device, or an open namespace.
// Trade-off: no option says which is which. A word with a colon before any slash is an address, so a mistyped
// one is an error and never a new file; a file of such a name is written ./a:b.

import { ArgumentTypeError, OutOfRangeError } from '../../lib/errors.ts'
import { Namespace } from '../namespace/namespace.ts'
import { open } from '../open.ts'
import { createDeviceSide } from './device-endpoint.ts'
import type { Side } from './endpoint.ts'
import { createStandardSide, openSourceFile, openStandardOutput, openTargetFile } from './file-endpoint.ts'

/** A file's path, a device's address, `-` for standard input or output, or a namespace that is open. */
export type Place = string | Namespace

export interface PlaceOptions {
  /** First LBA, where it is a device; default 0. */
  slba?: number | undefined
  /** Namespace id, where the address names none. */
  nsid?: number | undefined
  /** Threads that will work on a device, each with a queue of its own; default 1. */
  jobs?: number | undefined
  /** Write a block device that the system uses, or a file that another program has locked, all the same. */
  force?: boolean | undefined
  /** How the user writes `force`, for the error; default `force: true`. */
  forceWord?: string | undefined
  /** Ends the opening of a device. */
  signal?: AbortSignal | undefined
}

/** True for a word that is a device's address and not the path of a file. */
export function isAddress(word: string): boolean {
  return /^[^/]*:/.test(word)
}

/** Opens what is read. It must be closed; a namespace that was given open stays open. */
export function openSource(place: Place, options: PlaceOptions = {}): Promise<Side> {
  return openSide(place, options, (path) =>
    path === '-' ? createStandardSide('stdin') : openSourceFile(path),
  )
}

/**
 * Opens what is written. Nothing of it is changed yet.
 * Throws InUseError for a block device that the system uses, unless `force`.
 */
export function openTarget(place: Place, options: PlaceOptions = {}): Promise<Side> {
  const { force, forceWord } = options
  const writing = { force, forceWord }
  return openSide(place, options, (path) =>
    path === '-' ? openStandardOutput(writing) : openTargetFile(path, writing),
  )
}

async function openSide(
  place: Place,
  { slba, nsid, signal, jobs = 1 }: PlaceOptions,
  openFile: (path: string) => Side | Promise<Side>,
): Promise<Side> {
  if (place instanceof Namespace) return createDeviceSide(place, place.device, slba ?? 0, false)
  if (typeof place !== 'string') {
    throw new ArgumentTypeError(`a path, an address or a namespace is needed, received ${typeof place}`)
  }
  if (isAddress(place)) {
    const ns = await open(place, {
      signal,
      ...(nsid !== undefined && { nsid }),
      ...(jobs > 1 && { qcount: jobs, threads: true }),
    })
    try {
      return createDeviceSide(ns, place, slba ?? 0, true)
    } catch (error) {
      await ns.close()
      throw error
    }
  }
  if (slba !== undefined) {
    throw new OutOfRangeError(
      `slba ${slba} is for a device; ${place} is ${place === '-' ? 'a stream' : 'a file'}`,
    )
  }
  return openFile(place)
}
