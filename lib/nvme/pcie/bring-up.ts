// Enabling, disabling and shutting a controller down through its registers (NVMe 1.4 base, section 7.6).
// Registers are polled, at once and then by the event loop's turns, so that a quick controller is
// ready in microseconds and a slow one blocks no one.

import { ControllerFatalError, DeviceRemovedError } from '../../errors.ts'
import { type PciFunction, readRegister, writeRegister } from '../../pci/function.ts'
import { high32, low32 } from '../../sys/int64.ts'
import {
  enablingConfiguration,
  fatalError,
  readyTime,
  type StatusWaitOptions,
  shutdownConfiguration,
  shutdownTime,
  waitForStatus,
} from '../host/states.ts'
import { ALL_ONES, type Capabilities, CSTS, encodeAdminQueues, REGISTER, SHST } from '../spec/registers.ts'
import type { QueuePair } from './queue-pair.ts'

// How long a controller that was not ready may show its fatal status still, when CC.EN has become 0.
const LEAST_FATAL_MS = 100
const SECOND_READ_MS = 1

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
  await waitFor(pci, 'become disabled', CSTS.RDY, 0, readyTime(cap), options)
  // One that failed before it was ready says by that alone that it has seen the write: where it is enabled too soon it
  // sees no reset, or what it says of the last attempt is taken for the end of the next.
  await waitFor(pci, 'clear its fatal status', CSTS.CFS, 0, LEAST_FATAL_MS, options).catch((error) => {
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
  await writeRegister(pci, REGISTER.CC, enablingConfiguration(cap))
  await waitFor(pci, 'become ready', CSTS.RDY, CSTS.RDY, readyTime(cap), { signal })
}

/**
 * Announces a normal shutdown, and waits until it is complete (section 7.6.2).
 * @param rtd3e RTD3 Entry Latency of Identify Controller: how long it may take, in microseconds
 */
export async function shutdownController(pci: PciFunction, rtd3e: number): Promise<void> {
  const cc = await readRegister(pci, REGISTER.CC)
  await writeRegister(pci, REGISTER.CC, shutdownConfiguration(cc))
  await waitFor(pci, 'shut down', CSTS.SHST, SHST.COMPLETE, shutdownTime(rtd3e))
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
    if ((csts & CSTS.CFS) !== 0) return fatalError(pci.address, csts)
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

function waitFor(
  pci: PciFunction,
  what: string,
  mask: number,
  value: number,
  limit: number,
  options?: StatusWaitOptions,
): Promise<void> {
  const read = async () => {
    const csts = await readTwice(pci, REGISTER.CSTS)
    if (csts === ALL_ONES) throw removedError(pci, 'CSTS reads all-ones')
    return csts
  }
  return waitForStatus({ address: pci.address, read, interval: 1 }, what, mask, value, limit, options)
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
