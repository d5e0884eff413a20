// A namespace as a disk of the npm package file-disk, with which partitioninfo, ext2fs and others of balena's stack work.
// Its base class is given by the caller, so that this package needs none of them.

import { ArgumentTypeError } from '../../lib/errors.ts'
import type { OptionNames } from '../../lib/sys/options.ts'
import { show } from '../../lib/sys/show.ts'
import type { Namespace } from '../namespace/namespace.ts'
import { checkBoolean, checkOptions } from '../queue/validate.ts'
import { bytes } from './bytes.ts'

export interface FileDiskOptions {
  /** Writes and discards do not reach the device. Default: false. */
  readOnly?: boolean | undefined
  /** Keep what is written, or read, in memory: for `getTransformStream`, see file-disk. Default: false. */
  recordWrites?: boolean | undefined
  recordReads?: boolean | undefined
  /** Ranges that were discarded read as zeroes from this disk, whatever the device says. Default: true. */
  discardIsZero?: boolean | undefined
}

const NAMES: OptionNames<FileDiskOptions> = {
  readOnly: true,
  recordWrites: true,
  recordReads: true,
  discardIsZero: true,
}

/** The class `Disk` of file-disk, whatever it adds to this. */
export type FileDiskClass<D> = abstract new (
  readOnly?: boolean,
  recordWrites?: boolean,
  recordReads?: boolean,
  discardIsZero?: boolean,
) => D

interface Discarding {
  readonly readOnly: boolean
  discard(offset: number, length: number): Promise<void>
}

/**
 * A `Disk` of file-disk on an open namespace: any bytes can be read and written, a discard gives blocks back to the
 * device, and a flush reaches its medium. The namespace is the caller's, and stays open.
 *
 * @param Disk the class of that name, from file-disk version 8
 * @throws ArgumentTypeError; as `bytes`
 */
export function fileDisk<D>(Disk: FileDiskClass<D>, ns: Namespace, options: FileDiskOptions = {}): D {
  if (typeof Disk !== 'function') {
    throw new ArgumentTypeError(`fileDisk: Disk must be the class of file-disk, received ${show(Disk)}`)
  }
  const { readOnly, recordWrites, recordReads, discardIsZero } = checkOptions('fileDisk', options, NAMES)
  for (const [name, value] of Object.entries(options)) checkBoolean(`fileDisk: ${name}`, value)
  const access = bytes(ns)

  class NamespaceDisk extends (Disk as unknown as new (...flags: unknown[]) => Discarding) {
    async _getCapacity(): Promise<number> {
      return access.size
    }

    async _read(buffer: Buffer, bufferOffset: number, length: number, fileOffset: number) {
      await access.read(buffer.subarray(bufferOffset, bufferOffset + length), fileOffset)
      return { bytesRead: length, buffer }
    }

    async _write(buffer: Buffer, bufferOffset: number, length: number, fileOffset: number) {
      await access.write(buffer.subarray(bufferOffset, bufferOffset + length), fileOffset)
      return { bytesWritten: length, buffer }
    }

    _flush(): Promise<void> {
      return access.flush()
    }

    override async discard(offset: number, length: number): Promise<void> {
      await super.discard(offset, length)
      if (!this.readOnly) await access.discard(offset, length)
    }
  }
  return new NamespaceDisk(readOnly, recordWrites, recordReads, discardIsZero) as unknown as D
}
