// The memory that a client has shown to the device: checked, so that no access to it can end the server.
// What is mapped must lie within its file, and the file must be one that can't be shortened later.

import fs from 'node:fs'
import { cannotShrink } from '../../memory/mapping.ts'
import { HUGE_PAGE_BYTES, PAGE_BYTES } from '../../sys/units.ts'
import { DMA_FLAGS } from '../../vfio-abi/device.ts'
import { MAX_MAPPINGS, UNMAP_FLAGS } from '../constants.ts'
import type { DmaMap, DmaUnmap } from '../structs.ts'
import type { ServedDevice } from './device.ts'
import { Refusal } from './refusal.ts'

interface Mapping {
  readonly size: number
  /** Whether the device reaches it. */
  readonly reachable: boolean
}

export class Mappings {
  readonly #device: ServedDevice
  readonly #byIova = new Map<number, Mapping>()

  constructor(device: ServedDevice) {
    this.#device = device
  }

  /** Memory that comes without a file, or can't be written, is taken note of, and not reached by the device. */
  add({ flags, offset, iova, size }: DmaMap, fd: number | undefined): void {
    if (size === 0 || size % PAGE_BYTES !== 0 || iova % PAGE_BYTES !== 0 || offset % PAGE_BYTES !== 0) {
      throw new Refusal('EINVAL', `DMA_MAP of ${size} bytes at ${iova}, offset ${offset}: no whole pages`)
    }
    if (!Number.isSafeInteger(iova + size)) throw new Refusal('EINVAL', `DMA_MAP at ${iova}: beyond the end`)
    if (this.#byIova.size >= MAX_MAPPINGS) {
      throw new Refusal('ENOSPC', `${MAX_MAPPINGS} mappings are possible`)
    }
    for (const [other, { size: length }] of this.#byIova) {
      if (iova < other + length && other < iova + size)
        throw new Refusal('EEXIST', `overlaps that at ${other}`)
    }
    const both = DMA_FLAGS.READ | DMA_FLAGS.WRITE
    const reachable = fd !== undefined && (flags & both) === both
    if (reachable) {
      checkFile(fd, offset, size)
      this.#device.map(iova, size, fd, offset)
    }
    this.#byIova.set(iova, { size, reachable })
  }

  remove({ flags, iova, size }: DmaUnmap): void {
    if ((flags & ~UNMAP_FLAGS.ALL) !== 0) throw new Refusal('ENOTSUP', `DMA_UNMAP with flags ${flags}`)
    if (flags === UNMAP_FLAGS.ALL) {
      if (iova !== 0 || size !== 0)
        throw new Refusal('EINVAL', 'DMA_UNMAP of all has neither address nor size')
      this.clear()
      return
    }
    const mapping = this.#byIova.get(iova)
    if (mapping?.size !== size) throw new Refusal('ENOENT', `nothing of ${size} bytes is mapped at ${iova}`)
    this.#remove(iova, mapping)
  }

  clear(): void {
    for (const [iova, mapping] of [...this.#byIova]) this.#remove(iova, mapping)
  }

  #remove(iova: number, { reachable }: Mapping): void {
    this.#byIova.delete(iova)
    if (reachable) this.#device.unmap(iova)
  }
}

// A mapping beyond the end of its file would end this process at first touch.
function checkFile(fd: number, offset: number, size: number): void {
  if (!cannotShrink(fd)) {
    throw new Refusal('EINVAL', 'DMA_MAP of what is no memfd sealed against shrinking (F_SEAL_SHRINK)')
  }
  const stat = fs.fstatSync(fd)
  if (offset + size > stat.size) {
    throw new Refusal('EINVAL', `DMA_MAP up to ${offset + size} in a file of ${stat.size} bytes`)
  }
  // A file of huge pages is mapped in whole ones: what is asked for must be no less.
  if (stat.blksize >= HUGE_PAGE_BYTES && (offset % stat.blksize !== 0 || size % stat.blksize !== 0)) {
    throw new Refusal('EINVAL', `DMA_MAP of ${size} bytes from ${offset} on in pages of ${stat.blksize}`)
  }
}
