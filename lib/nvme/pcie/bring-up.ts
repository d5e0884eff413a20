// Enabling, disabling and shutting a controller down through its registers (NVMe 1.4 base, section 7.6).
// Registers are polled, at once and then by the event loop's turns, so that a quick controller is
// ready in microseconds and a slow one blocks no one.

import { ControllerFatalError, DeviceRemovedError } from '../../errors.ts'
import { type PciFunction, readRegister, writeRegister } from '../../pci/function.ts'
import { throwIfAborted } from '../../sys/abort.ts'
import { high32, low32 } from '../../sys/int64.ts'
import { PAGE_BYTES } from '../../sys/units.ts'
import {
  ALL_ONES,
  type Capabilities,
  CSS,
  CSTS,
  encodeAdminQueues,
  encodeConfiguration,
  REGISTER,
  SHN,
  SHST,
} from '../spec/registers.ts'
import type { QueuePair } from './queue-pair.ts'

// A controller that reports a timeout of 0 still gets a moment.
const LEAST_READY_MS = 500
// How long a controller that was not ready may show its fatal status still, when CC.EN has become 0.
const LEAST_FATAL_MS = 100
const SHUTDOWN_MS = 5000
// A controller may say up to 71 minutes. (CAP.TO says 127.5 s at most.)
const MOST_SHUTDOWN_MS = 60_000
const SECOND_READ_MS = 1
const EAGER_MS = 2
const CC_SHN_MASK = 0xc000

/** Clears CC.EN, and waits until CSTS.RDY follows. */
export async function disableController(
  pci: PciFunction,
  cap: Capabilities,
  signal?: AbortSignal,
): Promise<void> {
  const cc = await readTwice(pci, REGISTER.CC)
  if (cc === ALL_ONES) throw removedError(pci, 'CC reads all-ones')
  await writeRegister(pci, REGISTER.CC, (cc & ~1) >>> 0)
  // A fatal status is what disabling clears.
  const options = { endOnFatal: false, signal }
  await waitForStatus(pci, 'become disabled', CSTS.RDY, 0, readyTime(cap), options)
  // One that failed before it was ready says by that alone that it has seen the write: where it is enabled too soon it
  // sees no reset, or what it says of the last attempt is taken for the end of the next.
  await waitForStatus(pci, 'clear its fatal status', CSTS.CFS, 0, LEAST_FATAL_MS, options).catch((error) => {
    if (!(error instanceof ControllerFatalError)) throw error
  })
}

/** Tells a disabled controller its admin queue, enables it, and waits until it is ready (section 7.6.1). */
export async function enableController(
  pci: PciFunction,
  cap: Capabilities,
  admin: QueuePair,
  signal?: AbortSignal,
): Promise<void> {
  const { entries } = admin
  await writeRegister(pci, REGISTER.AQA, encodeAdminQueues({ asqs: entries, acqs: entries }))
  await writeAddress(pci, REGISTER.ASQ_LO, admin.sqIova)
  await writeAddress(pci, REGISTER.ACQ_LO, admin.cqIova)
  // Where several command sets are offered by profiles, 6 selects all of them.
  const css = (cap.css & CSS.NVM) !== 0 ? 0 : 6
  const cc = { en: true, css, mps: PAGE_BYTES, ams: 0, shn: SHN.NONE, iosqes: 6, iocqes: 4 }
  await writeRegister(pci, REGISTER.CC, encodeConfiguration(cc))
  await waitForStatus(pci, 'become ready', CSTS.RDY, CSTS.RDY, readyTime(cap), { signal })
}

/**
 * Announces a normal shutdown, and waits until it is complete (section 7.6.2).
 * @param rtd3e RTD3 Entry Latency of Identify Controller: how long it may take, in microseconds
 */
export async function shutdownController(pci: PciFunction, rtd3e: number): Promise<void> {
  const cc = await readRegister(pci, REGISTER.CC)
  await writeRegister(pci, REGISTER.CC, ((cc & ~CC_SHN_MASK) | (SHN.NORMAL << 14)) >>> 0)
  await waitForStatus(pci, 'shut down', CSTS.SHST, SHST.COMPLETE, shutdownTime(rtd3e))
}

/** Looks at an enabled controller now and then. */
export class HealthCheck {
  readonly #pci: PciFunction
  // The latest look found all-ones, as one read now and then does on a bus that is busy or recovers.
  #doubted = false

  constructor(pci: PciFunction) {
    this.#pci = pci
  }

  /**
   * What the system and CSTS say of the controller's end, or null: taken away, all-ones at two looks in a row, a fatal
   * status, or no longer ready, as after a reset by somebody else, and where a bridge answers zeroes for a device
   * that is gone.
   */
  look(): Error | null {
    const pci = this.#pci
    if (pci.checkRemoved?.()) return removedError(pci, 'the system took it away')
    const csts = pci.remote === undefined ? pci.readRegister(REGISTER.CSTS) : pci.remote.peek(REGISTER.CSTS)
    if (csts === undefined) return null
    const doubted = this.#doubted
    this.#doubted = csts === ALL_ONES
    if (csts === ALL_ONES) return doubted ? removedError(pci, 'its registers read all-ones') : null
    if ((csts & CSTS.CFS) !== 0) return fatalError(pci, csts)
    if ((csts & CSTS.RDY) !== 0) return null
    return new ControllerFatalError(`${pci.address} is no longer ready (CSTS ${csts.toString(16)}h)`)
  }
}

/** A register's value; all-ones only where a second read a moment later says so, too. */
async function readTwice(pci: PciFunction, register: number): Promise<number> {
  const value = await readRegister(pci, register)
  if (value !== ALL_ONES) return value
  await new Promise((resolve) => setTimeout(resolve, SECOND_READ_MS))
  return readRegister(pci, register)
}

/** Waits until the masked CSTS has a value, for `limit` ms. */
async function waitForStatus(
  pci: PciFunction,
  what: string,
  mask: number,
  value: number,
  limit: number,
  { endOnFatal = true, signal }: { endOnFatal?: boolean; signal?: AbortSignal | undefined } = {},
): Promise<void> {
  const started = performance.now()
  for (;;) {
    const csts = await readTwice(pci, REGISTER.CSTS)
    if (csts === ALL_ONES) throw removedError(pci, 'CSTS reads all-ones')
    if ((csts & mask) === value) return
    if (endOnFatal && (csts & CSTS.CFS) !== 0) throw fatalError(pci, csts)
    throwIfAborted(signal)
    const waited = performance.now() - started
    if (waited > limit) {
      throw new ControllerFatalError(
        `${pci.address} did not ${what} within ${limit} ms (CSTS ${csts.toString(16)}h)`,
      )
    }
    await (waited < EAGER_MS ? new Promise(setImmediate) : new Promise((resolve) => setTimeout(resolve, 1)))
  }
}

/** Milliseconds that a shutdown may take. */
export function shutdownTime(rtd3e: number): number {
  return Math.min(Math.max(SHUTDOWN_MS, rtd3e / 1000), MOST_SHUTDOWN_MS)
}

function readyTime({ to }: Capabilities): number {
  return Math.max(to, LEAST_READY_MS)
}

async function writeAddress(pci: PciFunction, register: number, iova: number): Promise<void> {
  await writeRegister(pci, register, low32(iova) >>> 0)
  await writeRegister(pci, register + 4, high32(iova) >>> 0)
}

/** The error for a device that is gone: where the function knows what took it away, that. */
export function removedError(pci: PciFunction, how: string): DeviceRemovedError {
  const { removal } = pci
  if (removal instanceof DeviceRemovedError) return removal
  return new DeviceRemovedError(`device removed: ${pci.address} is gone, ${how}`, {
    cause: removal ?? undefined,
  })
}

function fatalError(pci: PciFunction, csts: number): ControllerFatalError {
  return new ControllerFatalError(`${pci.address} reports a fatal status (CSTS ${csts.toString(16)}h)`)
}
