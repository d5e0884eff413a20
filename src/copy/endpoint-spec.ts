// What a word or an object names in `copy` and `compare`: a file, a device, or an open namespace.
// No option says which is which. A word with a colon before any slash is an address, so a mistyped
// one is an error and never a new file; a file of such a name is written ./a:b.
// The driver and the NBD client are loaded where a word names a device or an export: files alone need neither.

import { ArgumentTypeError, OutOfRangeError, UnsupportedError } from '../../lib/errors.ts'
import type { Namespace } from '../namespace/namespace.ts'
import { createDeviceEndpoint } from './device-endpoint.ts'
import type { Endpoint } from './endpoint.ts'
import {
  createStandardEndpoint,
  openSourceFile,
  openStandardOutput,
  openTargetFile,
} from './file-endpoint.ts'

/** A file's path, a device's address, an NBD export's (`nbd://host/export`, `nbd+unix:///?socket=PATH`), `-` for standard input or output, or a namespace that is open. */
export type EndpointSpec = string | Namespace

interface EndpointOptions {
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
  /** It is a device, also where its path is that of a block device. */
  isDevice?: boolean | undefined
  /** Ends the opening of a device. */
  signal?: AbortSignal | undefined
}

/** True for a word that is a device's address and not the path of a file. */
export function isAddress(word: string): boolean {
  return /^[^/]*:/.test(word) || /^\/dev\/ng\d+n\d+(\?|$)/.test(word)
}

/** True for a word that can be the address of a device: an address, or a path below /dev. */
export function mayBeDevice(word: string): boolean {
  return isAddress(word) || word.startsWith('/dev/')
}

// Of an NBD export.
const isNbdAddress = (word: string): boolean => /^nbds?(\+unix)?:/.test(word)

/** Opens what is read. It must be closed; a namespace that was given open stays open. */
export function openSource(spec: EndpointSpec, options: EndpointOptions = {}): Promise<Endpoint> {
  return openEndpoint(spec, options, (path) =>
    path === '-' ? createStandardEndpoint('stdin') : openSourceFile(path),
  )
}

/**
 * Opens what is written. Nothing of it is changed yet.
 * Throws InUseError for a block device that the system uses, unless `force`.
 */
export function openTarget(spec: EndpointSpec, options: EndpointOptions = {}): Promise<Endpoint> {
  const { force, forceWord } = options
  const writing = { force, forceWord }
  return openEndpoint(spec, options, (path) =>
    path === '-' ? openStandardOutput(writing) : openTargetFile(path, writing),
  )
}

async function openEndpoint(
  spec: EndpointSpec,
  { slba, nsid, signal, jobs = 1, force, isDevice = false }: EndpointOptions,
  openFile: (path: string) => Endpoint | Promise<Endpoint>,
): Promise<Endpoint> {
  if (typeof spec !== 'string') {
    const { Namespace } = await import('../namespace/namespace.ts')
    if (spec instanceof Namespace) {
      const { tellsHoles } = await import('../../lib/nvme/host/lba-status.ts')
      const holes = await tellsHoles(spec.controller, spec.id)
      return createDeviceEndpoint(spec, spec.device, slba ?? 0, false, holes)
    }
    throw new ArgumentTypeError(`a path, an address or a namespace is needed, received ${typeof spec}`)
  }
  if (isNbdAddress(spec)) {
    if (slba !== undefined && slba !== 0)
      throw new OutOfRangeError(`slba ${slba} is for a device; ${spec} has bytes`)
    if (jobs > 1) throw new UnsupportedError(`jobs: ${jobs} need a device and a file, not ${spec}`)
    const { connectNbd } = await import('../../lib/nbd/client.ts')
    const { createNbdEndpoint } = await import('./nbd-endpoint.ts')
    return createNbdEndpoint(await connectNbd(spec, signal))
  }
  if (isDevice || isAddress(spec)) {
    const { open } = await import('../open.ts')
    const ns = await open(spec, {
      signal,
      ...(force !== undefined && { force }),
      ...(nsid !== undefined && { nsid }),
      ...(jobs > 1 && { qcount: jobs, threads: true }),
    })
    try {
      const { tellsHoles } = await import('../../lib/nvme/host/lba-status.ts')
      return createDeviceEndpoint(ns, spec, slba ?? 0, true, await tellsHoles(ns.controller, ns.id))
    } catch (error) {
      await ns.close()
      throw error
    }
  }
  if (slba !== undefined) {
    throw new OutOfRangeError(
      `slba ${slba} is for a device; ${spec} is ${spec === '-' ? 'a stream' : 'a file'}`,
    )
  }
  return openFile(spec)
}
