// The software controller hosted inline: it runs within the driver's own poll, and needs no second processor.
// Trade-off: it does nothing while no one polls; a driver that sleeps is woken by a timer, at the time when its
// next command is due, or at once where there is something to do.

import { DeviceRemovedError } from '../../errors.ts'
import { MAX_VIEW_BYTES } from '../../memory/mapping.ts'
import { ALL_ONES } from '../../nvme/spec/registers.ts'
import type { SimConfig } from '../address.ts'
import { attachRange, DmaHost } from '../dma/dma-host.ts'
import { closeResources, type SimActivity, type SimFunction } from '../function.ts'
import { nextEvent } from '../model/background.ts'
import { readBar, requestReset, writeBar } from '../model/bar.ts'
import { type Controller, vectorsOf } from '../model/controller.ts'
import { applyControl, type ControlMessage, createControls } from '../model/controls.ts'
import { quiesce, stop, unmapDma } from '../model/state.ts'
import { checkDoorbells, step } from '../model/step.ts'
import { deliverInterrupts, openHost } from './host.ts'

/** Opens a controller in this thread. */
export function openInline(config: SimConfig): SimFunction {
  const { resources, c, window } = openHost(config)
  const dma = new DmaHost(
    resources.space,
    (range) => attachRange(c.dma, window, range),
    (iova) => unmapDma(c, iova),
  )
  const waker = createWaker(c)
  let closed = false
  const control = (message: ControlMessage) => {
    if (closed) return
    applyControl(c, message)
    waker.notify()
  }
  const sim: SimFunction = {
    address: config.address,
    transport: 'sim',
    emulated: true,
    config,
    image: resources.image?.identity,
    controls: createControls(control, c.faults.nextId),
    activity: waker.activity,
    readRegister: (offset) => (closed ? ALL_ONES : readBar(c.bar, offset)),
    writeRegister(offset, value) {
      if (closed) return
      writeBar(c.bar, offset, value)
      waker.step()
    },
    doorbells: c.bar.doorbells,
    notify: waker.notify,
    step: waker.step,
    mapDma: (bytes) => dma.map(bytes),
    unmapDma: (arena) => dma.unmap(arena),
    maxArenaBytes: MAX_VIEW_BYTES,
    vectors: vectorsOf(config),
    enableInterrupts: (_count, handler) => waker.enable(handler),
    arm: waker.arm,
    disarm: waker.disarm,
    onRemoved: null,
    async reset() {
      if (closed) return
      requestReset(c.bar)
      step(c)
    },
    quiesce: () => quiesce(c),
    async close() {
      if (closed) return
      closed = true
      waker.close()
      stop(c)
      dma.close()
      closeResources(resources)
    },
  }
  c.onGone = (notify) => {
    if (!notify) return
    setImmediate(() => sim.onRemoved?.(new DeviceRemovedError(`${config.address} was unplugged`)))
  }
  return sim
}

interface Waker {
  readonly step: () => void
  readonly notify: () => void
  enable(handler: (vector: number) => void): void
  readonly arm: (vector: number) => void
  readonly disarm: (vector: number) => void
  readonly activity: () => SimActivity
  close(): void
}

/** Interrupts, and the steps that a driver which sleeps does not take itself. */
function createWaker(c: Controller): Waker {
  const armed = new Uint8Array(c.raised.length)
  let armedCount = 0
  let handler: (vector: number) => void = () => {}
  let immediate: NodeJS.Immediate | undefined
  let timer: NodeJS.Timeout | undefined
  let sleeps = 0

  const waker: Waker = {
    step() {
      step(c)
      if (c.raisedCount !== 0) deliverInterrupts(c, fireSoon)
    },
    notify() {
      if (armedCount !== 0) wakeSoon()
    },
    enable(given) {
      handler = given
    },
    arm(vector) {
      if (armed[vector] !== 0) return
      armed[vector] = 1
      armedCount++
      wakeSoon()
    },
    disarm(vector) {
      if (armed[vector] !== 1) return
      armed[vector] = 0
      if (--armedCount === 0) waker.close()
    },
    activity: () => ({ asleep: immediate === undefined, sleeps }),
    close() {
      armed.fill(0)
      armedCount = 0
      clearImmediate(immediate)
      clearTimeout(timer)
      immediate = timer = undefined
    },
  }

  function wakeSoon(): void {
    immediate ??= setImmediate(wake)
  }

  function wake(): void {
    immediate = undefined
    let done = step(c)
    if (done === 0 && checkDoorbells(c)) done = step(c)
    if (c.raisedCount !== 0) deliverInterrupts(c, fireSoon)
    if (armedCount === 0) return
    const wait = done > 0 ? 0 : nextEvent(c) - c.clock()
    // Timers count in milliseconds: the rest of the time goes by turns of the event loop.
    if (wait < 1) wakeSoon()
    else if (wait < Number.POSITIVE_INFINITY) {
      sleeps++
      clearTimeout(timer)
      timer = setTimeout(wakeSoon, Math.floor(wait))
    }
  }

  function fireSoon(vector: number): void {
    if (armed[vector] === 1) setImmediate(fire, vector)
  }

  // A handler runs on the event loop, and only while its vector is still armed.
  function fire(vector: number): void {
    if (armed[vector] === 1) handler(vector)
  }

  return waker
}
