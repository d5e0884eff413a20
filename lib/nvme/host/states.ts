// Enabling, disabling and shutting a controller down (NVMe 1.4 base, section 7.6; 2.0 base, section 3.5): what is the
// same on every transport that has registers or properties.

import { ControllerFatalError } from '../../errors.ts'
import { throwIfAborted } from '../../sys/abort.ts'
import { PAGE_BYTES } from '../../sys/units.ts'
import { type Capabilities, CSS, CSTS, encodeConfiguration, SHN } from '../spec/registers.ts'

/** A controller that reports a timeout of 0 still gets a moment: milliseconds. */
export const LEAST_READY_MS = 500
const SHUTDOWN_MS = 5000
// A controller may say up to 71 minutes. (CAP.TO says 127.5 s at most.)
const MOST_SHUTDOWN_MS = 60_000
// It is asked again at once for so long, and then now and then.
const EAGER_MS = 2
const CC_SHN_MASK = 0xc000

/** Milliseconds that a controller may take to become ready, or disabled. */
export function readyTime({ to }: Pick<Capabilities, 'to'>): number {
  return Math.max(to, LEAST_READY_MS)
}

/**
 * Milliseconds that a shutdown may take.
 * @param rtd3e RTD3 Entry Latency of Identify Controller, in microseconds
 */
export function shutdownTime(rtd3e: number): number {
  return Math.min(Math.max(SHUTDOWN_MS, rtd3e / 1000), MOST_SHUTDOWN_MS)
}

/** CC that enables it. Where several command sets are offered by profiles, CSS 6 selects all of them. */
export function enablingConfiguration(cap: Pick<Capabilities, 'css'>): number {
  const css = (cap.css & CSS.NVM) !== 0 ? 0 : 6
  return encodeConfiguration({ en: true, css, mps: PAGE_BYTES, ams: 0, shn: SHN.NONE, iosqes: 6, iocqes: 4 })
}

/** CC that announces a normal shutdown. */
export function shutdownConfiguration(cc: number): number {
  return ((cc & ~CC_SHN_MASK) | (SHN.NORMAL << 14)) >>> 0
}

export function fatalError(address: string, csts: number): ControllerFatalError {
  return new ControllerFatalError(`${address} reports a fatal status (CSTS ${csts.toString(16)}h)`)
}

/** A controller as it is waited for. */
interface StatusSource {
  readonly address: string
  /** Reads CSTS. */
  readonly read: () => Promise<number>
  /** Milliseconds between two looks, once it has taken a while. */
  readonly interval: number
}

export interface StatusWaitOptions {
  /** A fatal status ends it. Default: true. */
  readonly endOnFatal?: boolean
  readonly signal?: AbortSignal | undefined
}

/**
 * Waits until the masked CSTS has a value. Rejects with ControllerFatalError, AbortError, and as `read` does.
 * @param what for errors: `become ready`
 * @param limit milliseconds
 */
export async function waitForStatus(
  { address, read, interval }: StatusSource,
  what: string,
  mask: number,
  value: number,
  limit: number,
  { endOnFatal = true, signal }: StatusWaitOptions = {},
): Promise<void> {
  const started = performance.now()
  for (;;) {
    const csts = await read()
    if ((csts & mask) === value) return
    if (endOnFatal && (csts & CSTS.CFS) !== 0) throw fatalError(address, csts)
    throwIfAborted(signal)
    const waited = performance.now() - started
    if (waited > limit) {
      throw new ControllerFatalError(
        `${address} did not ${what} within ${limit} ms (CSTS ${csts.toString(16)}h)`,
      )
    }
    await new Promise((resolve) => {
      if (waited < EAGER_MS) setImmediate(resolve)
      else setTimeout(resolve, interval)
    })
  }
}
