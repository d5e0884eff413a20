// The software controller hosted on a worker thread: truly concurrent with the driver, as a device is.
// Trade-off: a doorbell costs a locked access to see whether the worker sleeps; controls and unmapping wait for
// the worker, which is back from its step within a millisecond.

import { MessageChannel, type MessagePort, Worker } from 'node:worker_threads'
import { DeviceRemovedError, ProtocolError } from '../../errors.ts'
import { MAX_VIEW_BYTES } from '../../memory/mapping.ts'
import { ALL_ONES } from '../../nvme/spec/registers.ts'
import type { SimConfig } from '../address.ts'
import { DmaHost } from '../dma/dma-host.ts'
import { closeResources, openResources, type SimFunction } from '../function.ts'
import {
  type Bar,
  barBytes,
  createBar,
  REQUEST,
  readBar,
  requestReset,
  WORD,
  writeBar,
} from '../model/bar.ts'
import { vectorsOf } from '../model/controller.ts'
import { createControls } from '../model/controls.ts'
import {
  armedAt,
  CONTROL,
  controlBytes,
  type HostMessage,
  type WorkerMessage,
  type WorkerStart,
} from './thread-control.ts'

// Longer than any step; a worker that needs more has died.
const ANSWER_MS = 10_000

/** Opens a controller on a thread of its own. */
export async function openThread(config: SimConfig): Promise<SimFunction> {
  const resources = openResources(config)
  const worker = takeWorker()
  const { port1, port2 } = new MessageChannel()
  try {
    const start: WorkerStart = {
      config,
      resources,
      port: port2,
      bar: new SharedArrayBuffer(barBytes(config)),
      control: new SharedArrayBuffer(controlBytes(vectorsOf(config))),
    }
    const link = await connect(worker, port1, start)
    return host(config, link, start)
  } catch (error) {
    port1.close()
    void worker.terminate()
    closeResources(resources)
    throw error
  }
}

// Threads that have served a controller and wait for the next.
const idle: Worker[] = []
const MOST_IDLE = 2

function takeWorker(): Worker {
  const worker =
    idle.pop() ??
    new Worker(new URL('./thread-worker.js', import.meta.url), {
      name: 'unvme sim',
      // The program's own flags may be of no use to a thread: `--input-type` ends it.
      execArgv: [],
    })
  worker.removeAllListeners()
  return worker
}

function giveWorker(worker: Worker): void {
  worker.removeAllListeners()
  worker.unref()
  if (idle.length === MOST_IDLE) {
    void worker.terminate()
    return
  }
  idle.push(worker)
  // One that ends by itself is not to be taken.
  worker.once('exit', () => {
    if (idle.includes(worker)) idle.splice(idle.indexOf(worker), 1)
  })
}

interface Link {
  readonly worker: Worker
  readonly port: MessagePort
  readonly control: Int32Array
  readonly notify: () => void
  /** Sends a message; with `wait` returns when the worker has acted upon it. */
  send(message: HostMessage, wait: boolean): void
  /** Resolves when the worker serves the controller no more, with whether its thread has ended. */
  readonly ended: Promise<boolean>
}

async function connect(worker: Worker, port: MessagePort, start: WorkerStart): Promise<Link> {
  const control = new Int32Array(start.control)
  const ended = new Promise<boolean>((resolve) => {
    worker.once('exit', () => resolve(true))
    port.on('message', ({ kind }: WorkerMessage) => {
      if (kind === 'ended') resolve(false)
    })
  })
  await new Promise<void>((resolve, reject) => {
    port.once('message', () => resolve())
    worker.once('error', reject)
    worker.once('exit', () => reject(new ProtocolError(`${start.config.address}: the worker thread ended`)))
    worker.postMessage(start, [start.port])
  })
  const notify = () => {
    // One locked access both orders it behind the doorbell's store and asks.
    if (Atomics.compareExchange(control, CONTROL.SLEEPING, 1, 0) === 1) {
      Atomics.notify(control, CONTROL.SLEEPING)
    }
  }
  const send = (message: HostMessage, wait: boolean) => {
    port.postMessage(message)
    const number = Atomics.add(control, CONTROL.SENT, 1) + 1
    notify()
    const until = performance.now() + ANSWER_MS
    while (wait && control[CONTROL.DEAD] === 0) {
      const done = Atomics.load(control, CONTROL.DONE)
      if (done - number >= 0 || performance.now() > until) break
      Atomics.wait(control, CONTROL.DONE, done, 100)
    }
  }
  return { worker, port, control, notify, send, ended }
}

function host(config: SimConfig, link: Link, start: WorkerStart): SimFunction {
  const bar = createBar(start.bar)
  const { send, notify } = link
  const dma = new DmaHost(
    start.resources.space,
    (range) => send({ kind: 'map', range }, false),
    (iova) => send({ kind: 'unmap', iova }, true),
  )
  const interrupts = createInterrupts(link)
  let closing: Promise<void> | undefined
  const close = async () => {
    interrupts.close()
    Atomics.store(link.control, CONTROL.STOP, 1)
    notify()
    link.port.ref()
    const gone = await link.ended
    link.port.close()
    if (!gone) giveWorker(link.worker)
    bar.registers.fill(ALL_ONES)
    dma.close()
    closeResources(start.resources)
  }
  const sim: SimFunction = {
    address: config.address,
    transport: 'sim-thread',
    emulated: true,
    config,
    image: start.resources.image?.identity,
    activity: () => ({
      asleep: Atomics.load(link.control, CONTROL.SLEEPING) === 1,
      sleeps: Atomics.load(link.control, CONTROL.SLEEPS),
    }),
    controls: createControls((message) => send(message, true), config.faults.length + 1),
    readRegister: (offset) => (closing ? ALL_ONES : readBar(bar, offset)),
    writeRegister(offset, value) {
      writeBar(bar, offset, value)
      notify()
    },
    doorbells: bar.doorbells,
    notify,
    step: null,
    mapDma: (bytes) => dma.map(bytes),
    unmapDma: (arena) => dma.unmap(arena),
    maxArenaBytes: MAX_VIEW_BYTES,
    vectors: vectorsOf(config),
    enableInterrupts: (_count, handler) => interrupts.enable(handler),
    arm: interrupts.arm,
    disarm: interrupts.disarm,
    onRemoved: null,
    share: () => ({
      address: config.address,
      transport: 'sim-thread',
      emulated: true,
      maxArenaBytes: MAX_VIEW_BYTES,
      doorbells: bar.doorbells,
      registers: bar.registers,
      sleeper: { words: link.control, index: CONTROL.SLEEPING },
    }),
    reset: () => reset(bar, link),
    quiesce: () => send({ kind: 'quiesce' }, true),
    close: () => (closing ??= close()),
  }
  link.port.on('message', (message: WorkerMessage) => {
    if (message.kind === 'interrupt') interrupts.fire(message.vector)
    else if (message.kind === 'gone' && message.notify) {
      sim.onRemoved?.(new DeviceRemovedError(`${config.address} was unplugged`))
    }
  })
  const lost = (cause?: unknown) => {
    if (closing !== undefined) return
    bar.registers.fill(ALL_ONES)
    sim.onRemoved?.(new DeviceRemovedError(`${config.address}: its thread has ended`, { cause }))
    sim.onRemoved = null
  }
  link.worker.on('error', lost)
  void link.ended.then(() => lost())
  // An idle controller does not keep the process alive; adding listeners had made it do so.
  link.worker.unref()
  link.port.unref()
  return sim
}

async function reset(bar: Bar, { control, notify }: Link): Promise<void> {
  const number = requestReset(bar)
  notify()
  const settled = () =>
    bar.requests[REQUEST.RESETS_DONE] === number ||
    bar.registers[WORD.VS] === ALL_ONES ||
    control[CONTROL.DEAD] === 1
  while (!settled()) {
    await new Promise((resolve) => setTimeout(resolve, 1))
  }
}

interface Interrupts {
  enable(handler: (vector: number) => void): void
  readonly arm: (vector: number) => void
  readonly disarm: (vector: number) => void
  fire(vector: number): void
  close(): void
}

function createInterrupts({ port, control }: Link): Interrupts {
  let handler: (vector: number) => void = () => {}
  let armed = 0
  return {
    enable(given) {
      handler = given
    },
    arm(vector) {
      if (Atomics.exchange(control, armedAt(vector), 1) === 0 && armed++ === 0) port.ref()
    },
    disarm(vector) {
      if (Atomics.exchange(control, armedAt(vector), 0) === 1 && --armed === 0) port.unref()
    },
    fire(vector) {
      // First the flag: what completes from here on interrupts again.
      Atomics.store(control, armedAt(vector) + 1, 0)
      if (Atomics.load(control, armedAt(vector)) === 1) handler(vector)
    },
    close() {
      control.fill(0, CONTROL.VECTORS)
    },
  }
}
