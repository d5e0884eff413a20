// What the functions of one IOMMU group share in this process: a file of VFIO, and an address space for DMA.
// Kept by group with a count of users, since the kernel lets a group be opened only once.

import type { SharedMemory } from '../memory/mapping.ts'
import type { PciFacts } from '../pci/sysfs.ts'

/** An open group, by whichever of VFIO's interfaces. */
export interface IommuGroup {
  readonly kind: 'type1' | 'iommufd' | 'noiommu'
  /** Opens one of its functions: a file descriptor of the device. */
  openDevice(facts: PciFacts): Promise<number>
  /** Largest memory that `map` takes at once, in bytes. */
  readonly maxArenaBytes: number
  /** True where `map` needs memory on one reserved huge page. */
  readonly needsHugePage: boolean
  /** Lets the group's devices reach the memory. Returns its IOVA. Throws OutOfMemoryError and others. */
  map(memory: SharedMemory, name: string): number
  unmap(iova: number, bytes: number): void
  /** Closes its files. The functions must be closed by then, and unmapped everywhere. */
  close(): void
}

const groups = new Map<string, { group: IommuGroup; users: number }>()

/** The open group of this key, or a new one made by `open`. */
export function acquireGroup(key: string, open: () => IommuGroup): IommuGroup {
  const known = groups.get(key)
  if (known !== undefined) {
    known.users++
    return known.group
  }
  const group = open()
  groups.set(key, { group, users: 1 })
  return group
}

/** Undoes one `acquireGroup`; the last one closes the group. */
export function releaseGroup(key: string): void {
  const known = groups.get(key)
  if (known === undefined) return
  if (--known.users > 0) return
  groups.delete(key)
  known.group.close()
}

const functions = new Map<string, Promise<void> | null>()

/**
 * Marks a function as open in this process, after one that is being closed has been. The kernel would hand out
 * a second file of the same device, and two drivers would share one controller. Returns false where it is open.
 */
export async function claimFunction(name: string): Promise<boolean> {
  for (let closing = functions.get(name); closing !== undefined; closing = functions.get(name)) {
    if (closing === null) return false
    await closing
  }
  functions.set(name, null)
  return true
}

/** The function can be opened again once `closed` is done, whatever came of it. */
export async function releaseFunction(
  name: string,
  closed: Promise<void> = Promise.resolve(),
): Promise<void> {
  const done = closed.then(
    () => {},
    () => {},
  )
  functions.set(name, done)
  await done
  functions.delete(name)
}
