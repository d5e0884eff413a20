// What a controller keeps when it is switched off, beside its blocks: in a file next to its disk image.
// Trade-off: written whole, as JSON, after each command that changes it, and only then: an image that no command
// has changed has no such file, and one whose file is deleted is as new.

import fs from 'node:fs'
import path from 'node:path'
import { ImageError } from '../../errors.ts'
import { SANITIZE_STATE, SELF_TEST } from '../../nvme/spec/logs.ts'
import { STATUS } from '../../nvme/spec/status.ts'
import { readRegularFile, replaceFile } from '../../sys/file.ts'
import type { Firmware } from '../model/admin/firmware.ts'
import type { Background, TestResult } from '../model/background.ts'
import type { Controller } from '../model/controller.ts'
import type { Features } from '../model/features.ts'
import type { Place } from '../model/namespaces.ts'

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

/** Where a controller keeps its state. */
export interface StateFile {
  readonly path: string
  /** As of the image: the users who may read and write that may do so with what is kept beside it, and no others. */
  readonly mode: number
}

const SUFFIX = '.nvme.json'

/**
 * Where the state of an open image is: beside the image, whatever links lead to it. An image with several names (hard
 * links) has one state, beside whichever of the names in its folder it was made.
 */
export function stateFileOf(image: string, fd: number): StateFile {
  const real = fs.realpathSync(image)
  const { dev, ino, nlink, ...stats } = fs.fstatSync(fd, { bigint: true })
  const mode = Number(stats.mode) & 0o666
  const own = `${real}${SUFFIX}`
  if (nlink < 2n || fs.existsSync(own)) return { path: own, mode }
  const folder = path.dirname(real)
  const others = fs.readdirSync(folder).filter((name) => name.endsWith(SUFFIX))
  const same = others.sort().find((name) => {
    const other = path.join(folder, name.slice(0, -SUFFIX.length))
    const found = fs.statSync(other, { bigint: true, throwIfNoEntry: false })
    return found?.dev === dev && found.ino === ino
  })
  return { path: same === undefined ? own : path.join(folder, same), mode }
}

/** The state in a file, of an image of `bytes` bytes; undefined where there is none. Throws ImageError. */
export function loadState({ path: file }: StateFile, image: string, bytes: number): SavedState | undefined {
  const advice = 'delete it, and the image is as new'
  let state: SavedState
  try {
    state = JSON.parse(readRegularFile(file))
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw new ImageError(`${file}: ${(cause as Error).message}; ${advice}`, { cause })
  }
  if (!isKnown(state)) throw new ImageError(`${file} is no state of a controller; ${advice}`)
  if (state.bytes > bytes) {
    throw new ImageError(`${file} is of an image of ${state.bytes} bytes, ${image} has ${bytes}; ${advice}`)
  }
  return state
}

/** Removes the state of an image that is new. */
export function forgetState({ path: file }: StateFile): void {
  fs.rmSync(file, { force: true })
}

function isKnown(state: SavedState): boolean {
  try {
    return isState(state)
  } catch {
    // A part of it is of no kind that it can be.
    return false
  }
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
        nsid > 0 &&
        bytes >= 0 &&
        at >= 0 &&
        at + bytes <= state.bytes,
    ) &&
    Array.isArray(features) &&
    features.every(([key, value]) => typeof key === 'string' && whole(value)) &&
    Array.isArray(firmware?.revisions) &&
    firmware.revisions.every((revision) => typeof revision === 'string') &&
    typeof firmware.revisions[firmware.active - 1] === 'string' &&
    whole(firmware.next) &&
    Array.isArray(results) &&
    results.every(({ result, code }) => whole(result) && whole(code)) &&
    (state.test === null || (whole(state.test.code) && whole(state.test.nsid))) &&
    whole(state.sanitizeState) &&
    whole(state.sanitizeDword)
  )
}

/** Writes what is to be kept, where there is an image. Returns a status. */
export function saveState(c: Controller): number {
  const { stateFile } = c
  if (stateFile === undefined) return 0
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
    replaceFile(stateFile.path, `${JSON.stringify(state, null, 2)}\n`, stateFile.mode)
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

/** Operations that were interrupted: they begin again. */
export function interruptedOperations(state: SavedState): { test: SavedState['test']; sanitize: boolean } {
  return { test: state.test, sanitize: state.sanitizeState === SANITIZE_STATE.IN_PROGRESS }
}
