// What a controller keeps when it is switched off, beside its blocks: in a file next to its disk image.
// Trade-off: written whole, as JSON, after each command that changes it, and only then: an image that no command
// has changed has no such file, and one whose file is deleted is as new.

import fs from 'node:fs'
import { ImageError } from '../errors.ts'
import { SANITIZE_STATE, SELF_TEST } from '../nvme/logs/index.ts'
import { STATUS } from '../nvme/status.ts'
import type { Background, TestResult } from './background.ts'
import type { Controller } from './controller.ts'
import type { Features } from './features.ts'
import type { Firmware } from './firmware.ts'
import type { Place } from './namespaces.ts'

const VERSION = 1

/** Plain data, so that it can be handed to another thread. */
export interface SavedState {
  readonly version: typeof VERSION
  /** Bytes of the medium: the image must still have as many. */
  readonly bytes: number
  readonly namespaces: readonly (Place & { readonly attached: boolean })[]
  /** Saved features by their keys. */
  readonly features: readonly (readonly [key: string, value: number])[]
  readonly firmware: Pick<Firmware, 'active' | 'next'> & { readonly revisions: readonly string[] }
  readonly results: readonly TestResult[]
  /** Operations that go on after power on. */
  readonly test: { readonly code: number; readonly nsid: number } | null
  readonly sanitizeState: number
  readonly sanitizeDword: number
}

const stateFile = (image: string) => `${image}.nvme.json`

/** The state beside an image of `bytes` bytes; undefined where there is none. Throws ImageError. */
export function loadState(image: string, bytes: number): SavedState | undefined {
  const file = stateFile(image)
  const advice = 'delete it, and the image is as new'
  let state: SavedState
  try {
    state = JSON.parse(fs.readFileSync(file, 'utf8'))
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw new ImageError(`${file}: ${(cause as Error).message}; ${advice}`, { cause })
  }
  if (!isState(state)) throw new ImageError(`${file} is no state of a controller; ${advice}`)
  if (state.bytes > bytes) {
    throw new ImageError(`${file} is of an image of ${state.bytes} bytes, ${image} has ${bytes}; ${advice}`)
  }
  return state
}

/** Removes the state beside an image that is new. */
export function forgetState(image: string): void {
  fs.rmSync(stateFile(image), { force: true })
}

// Its own writer is trusted but for what a reader of another version, or an editor, makes of it.
function isState(state: SavedState): boolean {
  const { version, namespaces, features, firmware, results } = state ?? {}
  const whole = (n: unknown) => Number.isSafeInteger(n)
  return (
    version === VERSION &&
    whole(state.bytes) &&
    Array.isArray(namespaces) &&
    namespaces.every(
      ({ nsid, at, bytes, blockBytes, bad = [] }) =>
        [nsid, at, bytes].every(whole) &&
        Array.isArray(bad) &&
        bad.every(({ start, end }) => whole(start) && whole(end)) &&
        (blockBytes === 512 || blockBytes === 4096) &&
        at >= 0 &&
        at + bytes <= state.bytes,
    ) &&
    Array.isArray(features) &&
    Array.isArray(firmware?.revisions) &&
    typeof firmware.revisions[firmware.active - 1] === 'string' &&
    Array.isArray(results)
  )
}

/** Writes what is to be kept, where there is an image. Returns a status. */
export function saveState(c: Controller): number {
  const { path } = c.config
  if (path === undefined) return 0
  const { revisions, active, next } = c.firmware
  const { results, test, sanitizeState, sanitizeDword } = c.background
  const state: SavedState = {
    version: VERSION,
    bytes: c.medium.bytes,
    namespaces: [...c.allocated.values()].map(({ nsid, at, bytes, blockBytes, bad }) => ({
      ...{ nsid, at, bytes, blockBytes },
      ...(bad !== null && { bad }),
      attached: c.namespaces.has(nsid),
    })),
    features: [...c.features.saved],
    firmware: { revisions, active, next },
    results,
    test: test?.code === SELF_TEST.EXTENDED ? { code: test.code, nsid: test.nsid } : null,
    sanitizeState,
    sanitizeDword,
  }
  try {
    const file = stateFile(path)
    fs.writeFileSync(`${file}.new`, `${JSON.stringify(state, null, 2)}\n`)
    fs.renameSync(`${file}.new`, file)
    return 0
  } catch {
    return STATUS.INTERNAL_ERROR
  }
}

/** What was saved, as the parts of a controller that is switched on. */
export function restoreState(
  state: SavedState,
  { features, firmware, background }: { features: Features; firmware: Firmware; background: Background },
): void {
  for (const [key, value] of state.features) features.saved.set(key, value)
  firmware.revisions.splice(0, firmware.revisions.length, ...state.firmware.revisions)
  firmware.active = state.firmware.next || state.firmware.active
  background.results = [...state.results]
  background.sanitizeState = state.sanitizeState
  background.sanitizeDword = state.sanitizeDword
}

/** Operations that were interrupted: they begin anew. */
export function interruptedOperations(state: SavedState): { test: SavedState['test']; sanitize: boolean } {
  return { test: state.test, sanitize: state.sanitizeState === SANITIZE_STATE.IN_PROGRESS }
}
