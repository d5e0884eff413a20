// The worker thread of a controller: steps it, and sleeps when there is nothing to do.
// Trade-off: it looks for work for some microseconds before it sleeps, since waking takes longer than that; on
// a single processor it sleeps at once, for spinning would only keep the driver from running.

import os from 'node:os'
import { type MessagePort, parentPort, receiveMessageOnPort } from 'node:worker_threads'
import { attachRange } from '../dma/dma-host.ts'
import { nextEvent } from '../model/background.ts'
import type { Controller } from '../model/controller.ts'
import { applyControl } from '../model/controls.ts'
import { quiesce, stop, unmapDma } from '../model/state.ts'
import { checkDoorbells, step } from '../model/step.ts'
import { createHost, deliverInterrupts } from './host.ts'
import { armedAt, CONTROL, type HostMessage, type WorkerMessage, type WorkerStart } from './thread-control.ts'

const SPIN_MS = os.availableParallelism() > 1 ? 0.02 : 0
// A look at the clock costs as much as some empty steps.
const STEPS_PER_LOOK = 16

function serve({ port, ...start }: WorkerStart): void {
  const send = (message: WorkerMessage) => port.postMessage(message)
  const control = new Int32Array(start.control)
  const { c, window } = createHost(start.config, start.resources, { barMemory: start.bar })
  const inbox = createInbox(c, control, window, port)
  const { drain } = inbox
  // A mapping may be younger than the last look at the messages.
  c.dma.onMiss = inbox.drainMappings
  c.onGone = (notify) => send({ kind: 'gone', notify })
  const work = () => {
    if (control[CONTROL.SENT] !== control[CONTROL.DONE]) drain()
    const done = step(c)
    if (c.raisedCount !== 0) interrupt(c, control, send)
    return done
  }
  send({ kind: 'ready' })
  while (Atomics.load(control, CONTROL.STOP) === 0) {
    if (work() === 0 && !spin(c, work)) sleep(c, control, work)
  }
  stop(c)
  drain()
}

/** Looks for work a little longer. False where none came. */
function spin(c: Controller, work: () => number): boolean {
  const until = c.clock() + SPIN_MS
  do {
    for (let i = 0; i < STEPS_PER_LOOK; i++) if (work() > 0) return true
  } while (c.clock() < until)
  // Too soon due to sleep for it.
  return nextEvent(c) < until + SPIN_MS
}

function sleep(c: Controller, control: Int32Array, work: () => number): void {
  // From here on the host wakes it; what came before is seen by one more look.
  Atomics.store(control, CONTROL.SLEEPING, 1)
  const stopped = Atomics.load(control, CONTROL.STOP) !== 0
  const sent = Atomics.load(control, CONTROL.SENT) !== Atomics.load(control, CONTROL.DONE)
  checkDoorbells(c)
  if (!stopped && !sent && work() === 0) {
    control[CONTROL.SLEEPS]!++
    Atomics.wait(control, CONTROL.SLEEPING, 1, nextEvent(c) - c.clock() - SPIN_MS)
  }
  Atomics.store(control, CONTROL.SLEEPING, 0)
}

/** Messages of the host, which are counted when they were acted upon. */
function createInbox(c: Controller, control: Int32Array, window: Uint8Array, port: MessagePort) {
  const receive = () => (receiveMessageOnPort(port) as { message: HostMessage } | undefined)?.message
  const done = (message: HostMessage) => {
    act(c, window, message)
    Atomics.add(control, CONTROL.DONE, 1)
    Atomics.notify(control, CONTROL.DONE)
  }
  // One that came while a command was executed: the host waits for it, so there is no second.
  let kept: HostMessage | undefined
  return {
    drain() {
      for (;;) {
        const message = kept ?? receive()
        kept = undefined
        if (message === undefined) return
        done(message)
      }
    },
    /** In the middle of a command nothing may change but what is mapped beside. True where anything is. */
    drainMappings(): boolean {
      let any = false
      while (kept === undefined) {
        const message = receive()
        if (message === undefined) break
        if (message.kind === 'map') {
          done(message)
          any = true
        } else kept = message
      }
      return any
    },
  }
}

function act(c: Controller, window: Uint8Array, message: HostMessage): void {
  switch (message.kind) {
    case 'map':
      attachRange(c.dma, window, message.range)
      break
    case 'unmap':
      unmapDma(c, message.iova)
      break
    case 'quiesce':
      quiesce(c)
      break
    default:
      applyControl(c, message)
  }
}

function interrupt(c: Controller, control: Int32Array, send: (message: WorkerMessage) => void): void {
  // Completions are in memory before it is asked which vectors are armed.
  Atomics.add(control, CONTROL.FENCE, 1)
  deliverInterrupts(c, (vector) => {
    const at = armedAt(vector)
    if (Atomics.load(control, at) === 1 && Atomics.exchange(control, at + 1, 1) === 0) {
      send({ kind: 'interrupt', vector })
    }
  })
}

// One controller after the other: a thread that has loaded koffi leaves mappings behind when it ends.
parentPort!.on('message', (start: WorkerStart) => {
  try {
    serve(start)
  } finally {
    const control = new Int32Array(start.control)
    Atomics.store(control, CONTROL.DEAD, 1)
    Atomics.notify(control, CONTROL.DONE)
    start.port.postMessage({ kind: 'ended' } satisfies WorkerMessage)
    start.port.close()
  }
})
