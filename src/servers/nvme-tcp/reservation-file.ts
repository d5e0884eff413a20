// Where reservations are kept that hosts want to outlive the server (Persist Through Power Loss): one file for several
// namespaces, each by its identifier.
// Trade-off: written whole and synchronously, as JSON, before a command that changes it is answered.

import fs from 'node:fs'
import { SetupError } from '../../../lib/errors.ts'
import { parseSimAddress } from '../../../lib/sim/index.ts'
import { readRegularFile, realPath, replaceFile } from '../../../lib/sys/file.ts'

const VERSION = 1
const SUFFIX = '.reservations.json'
/** Most registrants of a namespace. */
export const MOST_REGISTRANTS = 256

/** What is kept of a namespace. */
export interface SavedReservations {
  /** A value of RESERVATION. */
  readonly type: number
  /** Of the registrants; null where there is no reservation, or it is everybody's. */
  readonly holder: string | null
  /** Host identifiers, and keys, as hexadecimal digits. */
  readonly registrants: readonly (readonly [hostid: string, key: string])[]
}

/** The part of a file that is one namespace's. */
export interface ReservationStore {
  readonly saved: SavedReservations | undefined
  /** null forgets it. Throws what the file system says; what was saved before is kept then. */
  save(state: SavedReservations | null): void
}

export class ReservationFile {
  readonly #file: string
  readonly #mode: number
  // Those of namespaces that this server has: other servers may keep theirs in the same file.
  readonly #own = new Map<string, SavedReservations | null>()
  readonly #found: Readonly<Record<string, SavedReservations>>

  /** Throws SetupError where there is a file that is something else. */
  constructor(file: string, mode = 0o600) {
    this.#file = file
    this.#mode = mode
    this.#found = load(file)
  }

  /** @param uuid of a namespace, as hosts know it */
  of(uuid: string): ReservationStore {
    return {
      saved: this.#found[uuid],
      save: (state) => {
        const all = new Map(Object.entries(load(this.#file)))
        for (const [id, one] of [...this.#own, [uuid, state] as const]) {
          if (one === null) all.delete(id)
          else all.set(id, one)
        }
        const namespaces = Object.fromEntries(all)
        replaceFile(this.#file, `${JSON.stringify({ version: VERSION, namespaces }, null, 2)}\n`, this.#mode)
        this.#own.set(uuid, state)
      },
    }
  }
}

/** The file beside a controller's disk image, with its mode; undefined where it has none. */
export function fileBeside(address: string): { readonly path: string; readonly mode: number } | undefined {
  const { path } = address.startsWith('sim:') ? parseSimAddress(address) : {}
  if (path === undefined) return undefined
  const image = realPath(path)
  const stats = fs.statSync(image, { throwIfNoEntry: false })
  return stats && { path: `${image}${SUFFIX}`, mode: stats.mode & 0o666 }
}

function load(file: string): Record<string, SavedReservations> {
  const advice = 'delete it, and no host has a reservation'
  let content: unknown
  try {
    content = JSON.parse(readRegularFile(file))
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return {}
    throw new SetupError(`${file}: ${(cause as Error).message}; ${advice}`, { cause })
  }
  const { version, namespaces } = (content ?? {}) as Record<string, unknown>
  const known = typeof namespaces === 'object' && namespaces !== null && !Array.isArray(namespaces)
  if (version !== VERSION || !known || !Object.values(namespaces).every(isSaved)) {
    throw new SetupError(`${file} has no reservations of this program's; ${advice}`)
  }
  return namespaces as Record<string, SavedReservations>
}

const HOSTID = /^[0-9a-f]{32}$/
const KEY = /^[0-9a-f]{16}$/

function isSaved(one: unknown): boolean {
  const { type, holder, registrants } = (one ?? {}) as Record<string, unknown>
  if (!Number.isInteger(type) || (type as number) < 0 || (type as number) > 6) return false
  if (!Array.isArray(registrants) || registrants.length > MOST_REGISTRANTS) return false
  const sound = registrants.every((pair) => Array.isArray(pair) && HOSTID.test(pair[0]) && KEY.test(pair[1]))
  if (!sound || new Set(registrants.map(([hostid]) => hostid)).size < registrants.length) return false
  // A reservation is somebody's.
  const registered = registrants.some(([hostid]) => hostid === holder)
  if (type === 0) return holder === null
  return (type as number) >= 5 ? holder === null && registrants.length > 0 : registered
}
