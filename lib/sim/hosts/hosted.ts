// The software controller for a host outside of this module, such as a server that speaks to other processes.
// It does nothing by itself; the host brings the memory, calls `step`, and delivers the interrupts.

import { OutOfRangeError } from '../../errors.ts'
import { ALL_ONES, REGISTER } from '../../nvme/spec/registers.ts'
import type { SimConfig } from '../address.ts'
import { ForeignDma } from '../dma/foreign-dma.ts'
import { closeResources } from '../function.ts'
import { nextEvent } from '../model/background.ts'
import { type Backing, completeBacked } from '../model/backing.ts'
import { doorbellBytes, REQUEST, readBar, requestReset, writeBar } from '../model/bar.ts'
import { vectorsOf } from '../model/controller.ts'
import { applyControl, createControls, type SimControls } from '../model/controls.ts'
import { COUNTER } from '../model/health.ts'
import { askForRings } from '../model/shadow.ts'
import { followRegisters, stop, unmapDma } from '../model/state.ts'
import { step } from '../model/step.ts'
import { deliverInterrupts, openHost } from './host.ts'

/** Commands, and bytes of their data. */
export interface HostedCounts {
  readonly reads: number
  readonly writes: number
  readonly bytesRead: number
  readonly bytesWritten: number
  readonly failures: number
  readonly inFlight: number
}

export interface HostedSim {
  readonly config: SimConfig
  readonly controls: SimControls
  readonly vectors: number
  /** Size of BAR 0: registers and doorbells, in whole pages. */
  readonly barBytes: number
  readRegister(offset: number): number
  writeRegister(offset: number, value: number): void
  /** Lets the controller reach memory of a file: see ForeignDma. */
  map(iova: number, bytes: number, fd: number, offset: number): void
  unmap(iova: number): void
  unmapAll(): void
  /** Without it the controller reaches no memory: commands wait. */
  setBusMaster(on: boolean): void
  /** Does what there is to do; see lib/sim/model/step.ts. Interrupts are delivered within. */
  step(): number
  /** Milliseconds until something is due by itself: a delayed command, the end of an operation; Infinity where nothing is. */
  dueIn(): number
  /** True while the controller is enabled: there are queues whose doorbells are to be looked at. */
  readonly enabled: boolean
  /**
   * Whether doorbells are looked at all the time: then drivers need not ring where they have shadow doorbells.
   * After `attend(false)` look once more (`step`), and sleep only where that found nothing.
   */
  attend(always: boolean): void
  /** What it has done, and has in flight. */
  counts(): HostedCounts
  /** Takes no more commands of I/O queues: for the end of a controller with a backing. */
  finish(): void
  /** Function-level reset. */
  reset(): void
  close(): void
}

/** Bytes of the doorbells of a controller. */
export function hostedDoorbellBytes(config: SimConfig): number {
  return doorbellBytes(config)
}

/**
 * Makes a controller.
 * Throws ImageError, InUseError or OutOfMemoryError, as `openSim` does.
 *
 * @param doorbells `hostedDoorbellBytes` bytes of memory that the driver shares, or only this process sees
 * @param interrupt called for a vector with new completions
 * @param backed what has the namespaces in place of a medium; `wake` is called when something of it waits for a step
 */
export function hostSim(
  config: SimConfig,
  doorbells: ArrayBufferLike,
  interrupt: (vector: number) => void,
  backed?: { readonly backing: Backing; readonly wake: () => void },
): HostedSim {
  const bytes = doorbellBytes(config)
  if (doorbells.byteLength !== bytes) {
    throw new OutOfRangeError(`doorbells of ${doorbells.byteLength} bytes: ${bytes} are needed`)
  }
  const { resources, c, window } = openHost(config, { doorbells, backing: backed?.backing })
  if (c.backed !== null) c.backed.wake = backed!.wake
  const dma = new ForeignDma(resources.space, window, c.dma, (iova) => unmapDma(c, iova))
  const fence = new Int32Array(1)
  let busMaster = false
  let closed = false

  const work = (): number => {
    if (closed) return 0
    if (!busMaster) {
      if (c.bar.requests[REQUEST.WRITES] !== c.seenWrites) followRegisters(c)
      return 0
    }
    let done = c.backed !== null && c.backed.ended.length > 0 ? completeBacked(c, c.backed) : 0
    done += step(c)
    if (c.raisedCount !== 0) deliverInterrupts(c, interrupt)
    return done
  }
  return {
    config,
    controls: createControls((message) => closed || applyControl(c, message), c.faults.nextId),
    vectors: vectorsOf(config),
    barBytes: REGISTER.DOORBELLS + bytes,
    readRegister: (offset) => (closed ? ALL_ONES : readBar(c.bar, offset)),
    writeRegister(offset, value) {
      if (closed) return
      writeBar(c.bar, offset, value)
      work()
    },
    map: (iova, length, fd, offset) => dma.map(iova, length, fd, offset),
    unmap: (iova) => dma.unmap(iova),
    unmapAll: () => dma.unmapAll(),
    setBusMaster(on) {
      busMaster = on
    },
    step: work,
    dueIn: () => nextEvent(c) - c.clock(),
    get enabled() {
      return c.ready
    },
    attend(always) {
      c.quiet = always
      if (c.shadow !== null) askForRings(c, c.shadow)
      // The driver stores its doorbell and then reads the event: here it is the other way round.
      Atomics.exchange(fence, 0, 0)
    },
    counts: () => ({
      reads: c.counters[COUNTER.READS]!,
      writes: c.counters[COUNTER.WRITES]!,
      bytesRead: c.counters[COUNTER.UNITS_READ]! * 512,
      bytesWritten: c.counters[COUNTER.UNITS_WRITTEN]! * 512,
      failures: c.health.errorCount,
      inFlight: c.pending.count,
    }),
    finish() {
      if (c.backed !== null) c.backed.stopped = true
    },
    reset() {
      if (closed) return
      requestReset(c.bar)
      followRegisters(c)
    },
    close() {
      if (closed) return
      closed = true
      stop(c)
      dma.unmapAll()
      closeResources(resources)
    },
  }
}
