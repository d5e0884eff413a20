// The software controller as a PCI function: what both of its hosts offer beside the common interface.
// Images and address space are opened here once; the hosts differ only in who runs the steps.

import type { PciFunction } from '../pci/function.ts'
import type { SimConfig } from './address.ts'
import { releaseSpace, reserveSpace, type Space } from './dma/space.ts'
import { closeImage, FileMedium, type Image, type Medium, MemoryMedium, openImage } from './media/index.ts'
import type { SavedState } from './media/nonvolatile.ts'
import type { SimControls } from './model/controls.ts'

/** A PCI function that is the software controller. */
export interface SimFunction extends PciFunction {
  readonly config: SimConfig
  readonly controls: SimControls
  /** What tells its image from every other file, as `inodeIdentity`; undefined for a medium in memory. */
  readonly image: string | undefined
  enableInterrupts(count: number, handler: (vector: number) => void): void
  /** Whether the controller runs by itself, for tests that it rests when it can. */
  activity(): SimActivity
}

export interface SimActivity {
  /** True where nothing runs, and nothing is set to run, before a command is due or the host does something. */
  readonly asleep: boolean
  /** How often it has gone to sleep, or set a timer. */
  readonly sleeps: number
}

const DEFAULT_BYTES = 2 ** 30

/** What a controller needs of the system; plain data, so that it can be handed to another thread. */
export interface Resources {
  readonly space: Space
  readonly image: Image | undefined
  /** Bytes of each namespace of a new medium. */
  readonly namespaceBytes: number
  /** What was kept of an earlier run. */
  readonly state: SavedState | undefined
}

/** Opens the image or reserves the memory. Throws ImageError, InUseError or OutOfMemoryError. */
export function openResources({ path, size, spare, populate, lba, nsids }: SimConfig): Resources {
  if (path === undefined) {
    const namespaceBytes = size ?? DEFAULT_BYTES
    const space = reserveSpace(namespaceBytes * nsids.length + spare, populate)
    return { space, image: undefined, namespaceBytes, state: undefined }
  }
  const image = openImage({ path, size, spare, lba, namespaces: nsids.length })
  const { namespaceBytes, state } = image
  return { space: reserveSpace(0), image, namespaceBytes, state }
}

export function openMedium({ space, image }: Resources, window: Uint8Array): Medium {
  return image === undefined ? new MemoryMedium(space, window) : new FileMedium(image)
}

/** Gives back what `openResources` took. No step may run any more. */
export function closeResources({ space, image }: Resources): void {
  if (image !== undefined) closeImage(image)
  releaseSpace(space)
}
