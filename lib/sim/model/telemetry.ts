// Telemetry (NVMe 1.4 base, sections 5.14.1.7 and 5.14.1.8): what the controller knows of itself, when asked to write it down.
// Trade-off: the data is JSON, which any program reads; one data area holds all of it.

import { encodeTelemetryHeader, LOG_PAGE, TELEMETRY_BLOCK_BYTES } from '../../nvme/spec/logs.ts'
import type { Controller } from './controller.ts'
import { OUI } from './identity.ts'

export interface Telemetry {
  /** Blocks of data behind the header, as the host had them made last. */
  data: Uint8Array
  generation: number
}

export function createTelemetry(): Telemetry {
  return { data: new Uint8Array(0), generation: 0 }
}

/** Makes the host-initiated data anew. */
export function captureTelemetry(c: Controller): void {
  const { health, features, firmware, background } = c
  const { errors, counters, ...rest } = health
  const text = JSON.stringify({
    health: { ...rest, counters: [...counters] },
    errors,
    features: [...features.current],
    firmware: { ...firmware, parts: firmware.parts.length },
    selfTests: background.results,
    sanitize: background.sanitizeState,
    namespaces: [...c.allocated.values()],
  })
  const bytes = Buffer.byteLength(text)
  const data = Buffer.alloc(Math.ceil(bytes / TELEMETRY_BLOCK_BYTES) * TELEMETRY_BLOCK_BYTES)
  data.write(text)
  c.telemetry.data = data
  c.telemetry.generation = (c.telemetry.generation + 1) & 0xff
}

/** The whole log page, of the host's data or of the controller's own, of which there never is any. */
export function telemetryLog({ telemetry }: Controller, lid: number): Uint8Array {
  const own = lid === LOG_PAGE.TELEMETRY_CONTROLLER
  const data = own ? new Uint8Array(0) : telemetry.data
  const last = data.length / TELEMETRY_BLOCK_BYTES
  const page = new Uint8Array(TELEMETRY_BLOCK_BYTES + data.length)
  encodeTelemetryHeader(
    { lid, ieee: OUI, dalb1: last, dalb2: last, dalb3: last, hostdgn: own ? 0 : telemetry.generation },
    page,
  )
  page.set(data, TELEMETRY_BLOCK_BYTES)
  return page
}
