// Puts the software controller behind a vfio-user socket: the one place where model, protocol and time meet.
// The server's thread runs the controller between messages, so a command never waits for another thread
// and a message waits for a step of the controller at most. A driver's store to shared memory wakes no thread, so
// doorbells must be looked at: it spins for a millisecond of idleness, after that looks every 1 to 4 ms, and after a
// second every 16 ms: less than a per cent of a processor. Where doorbells come as messages (shadow doorbells) it sleeps.

import fs from 'node:fs'
import { AddressError, ArgumentValueError } from '../../../lib/errors.ts'
import { logger } from '../../../lib/log/index.ts'
import { createSharedMemory, destroySharedMemory, map, viewOf } from '../../../lib/memory/mapping.ts'
import {
  type HostedSim,
  hostedDoorbellBytes,
  hostSim,
  parseSimAddress,
  type SimConfig,
  type SimControls,
} from '../../../lib/sim/index.ts'
import { MAP, munmap, PROT } from '../../../lib/sys/libc.ts'
import type { OptionNames } from '../../../lib/sys/options.ts'
import {
  parseVfioUserAddress,
  type ServedDevice,
  serveDevice,
  type VfioUserServer,
} from '../../../lib/vfio-user/index.ts'
import { checkOptions } from '../../queue/validate.ts'

const log = logger('serve')
/** BAR 0 has registers below this offset, doorbells from there on. */
const REGISTERS = 0x1000

export interface ServeOptions {
  /** The controller: an address as `sim:disk.img?size=1G`. Default: `sim:`. */
  device?: string | undefined
  /**
   * How the client rings doorbells: 'mapped' in shared memory, which this server then has to look at, or 'shadow' in
   * its own memory (Doorbell Buffer Config), with a message where the server sleeps. Default: 'mapped'.
   */
  doorbells?: 'mapped' | 'shadow' | undefined
}

const SERVE_NAMES: OptionNames<ServeOptions> = { device: true, doorbells: true }

/** A running server. */
export interface Server {
  /** As clients open it. */
  readonly address: string
  /** Of the socket. */
  readonly path: string
  /** What can be done to the controller while it runs. */
  readonly controls: SimControls
  /** Ends the client's session, removes the socket and closes the image. */
  close(): void
}

/** See index.ts. */
export function serve(address: string, options: ServeOptions = {}): Server {
  const { device = 'sim:', doorbells = 'mapped' } = checkOptions('serve', options, SERVE_NAMES)
  if (doorbells !== 'mapped' && doorbells !== 'shadow') {
    throw new ArgumentValueError(
      `serve: doorbells must be 'mapped' or 'shadow', received ${String(doorbells)}`,
    )
  }
  const { path, nsid } = parseVfioUserAddress(address)
  if (nsid !== undefined) throw new AddressError(`'${address}': a server offers every namespace, not one`)
  const config = servedConfig(device, doorbells === 'shadow')
  const memory = openDoorbells(config, doorbells === 'mapped')
  let sim: HostedSim | undefined
  let server: VfioUserServer | undefined
  const close = () => {
    server?.close()
    sim?.close()
    memory.close()
  }
  try {
    sim = hostSim(config, memory.buffer, (vector) => server?.interrupt(vector))
    server = serveDevice(path, createServed(sim, memory))
  } catch (error) {
    close()
    throw error
  }
  log('%s at %s, doorbells %s', device, path, doorbells)
  return { address: `vfio-user:${path}`, path, controls: sim.controls, close }
}

/** The controller as lib/vfio-user serves it, driven by a loop of its own. */
function createServed(sim: HostedSim, memory: DoorbellMemory): ServedDevice {
  const loop = createLoop({
    step: () => sim.step(),
    dueIn: () => sim.dueIn(),
    mustLook: () => memory.shared && sim.enabled,
    attend: (always) => sim.attend(always),
  })
  return {
    vectors: sim.vectors,
    barBytes: sim.barBytes,
    readRegister: (offset) => sim.readRegister(offset),
    writeRegister(offset, value) {
      sim.writeRegister(offset, value)
      loop.wake()
    },
    map: (iova, bytes, fd, offset) => sim.map(iova, bytes, fd, offset),
    unmap: (iova) => sim.unmap(iova),
    setBusMaster(on) {
      sim.setBusMaster(on)
      loop.wake()
    },
    reset: () => sim.reset(),
    connected: () => (memory.shared ? memory.renew() : null),
    disconnected() {
      loop.stop()
      sim.reset()
    },
  }
}

function servedConfig(device: string, shadow: boolean): SimConfig {
  const config = parseSimAddress(device)
  if (config.thread) throw new AddressError(`'${device}': thread=1 has no meaning behind a socket`)
  if (config.nsid !== undefined)
    throw new AddressError(`'${device}': a server offers every namespace, not one`)
  return shadow ? { ...config, shadow } : config
}

/** Memory of the doorbells at one address, whoever shares it. */
interface DoorbellMemory {
  readonly buffer: ArrayBufferLike
  /** Null where clients can't map it. */
  readonly shared: boolean
  /** A file for a new client: who had the one before sees this no more. */
  renew(): number
  close(): void
}

function openDoorbells(config: SimConfig, shared: boolean): DoorbellMemory {
  const doorbellBytes = hostedDoorbellBytes(config)
  if (!shared) return { buffer: new ArrayBuffer(doorbellBytes), shared, renew: () => -1, close() {} }
  // The file is BAR 0 as a whole, since a client maps areas of it by their offsets there; its registers stay empty.
  const bytes = REGISTERS + doorbellBytes
  let memory = createSharedMemory(bytes)
  const { address } = memory
  return {
    buffer: viewOf(address + BigInt(REGISTERS), doorbellBytes),
    shared,
    renew() {
      const next = createSharedMemory(bytes)
      munmap(next.address, bytes)
      map(address, bytes, PROT.READ | PROT.WRITE, MAP.SHARED | MAP.FIXED, next.fd, 0)
      fs.closeSync(memory.fd)
      memory = next
      return next.fd
    },
    close: () => destroySharedMemory({ ...memory, address }),
  }
}

/** What the loop drives. */
interface Work {
  /** Does what there is to do now; returns how much that was. */
  step(): number
  /** Milliseconds until something is due by itself; Infinity where nothing is. */
  dueIn(): number
  /** True where doorbells can be written that no message tells of. */
  mustLook(): boolean
  /** Whether doorbells are looked at all the time; after `false` one more step follows before the loop sleeps. */
  attend(always: boolean): void
}

interface Loop {
  /** Something may have to be done: a message came. */
  wake(): void
  /** Nothing is done any more until the next `wake`. */
  stop(): void
}

/** Milliseconds between two turns of the event loop, where messages wait: without work, and with. */
const BUDGET_MS = { EMPTY: 0.05, BUSY: 0.5 } as const
const STEPS_PER_LOOK = 16
/** Turns without work before it naps, or sleeps. */
const EMPTY_TURNS = 20
/** Milliseconds: naps double from the first to the last; the last of all is for clients that do nothing at all. */
const NAP_MS = { FIRST: 1, LAST: 4, IDLE: 16 } as const
const IDLE_AFTER_MS = 1000

function createLoop(work: Work): Loop {
  let immediate: NodeJS.Immediate | undefined
  let timer: NodeJS.Timeout | undefined
  let emptyTurns = 0
  let nap: number = NAP_MS.FIRST
  let workedAt = 0
  let attended = false

  const turn = () => {
    immediate = undefined
    if (!attended) {
      attended = true
      work.attend(true)
    }
    if (spin(work)) freshen()
    else emptyTurns++
    if (emptyTurns < EMPTY_TURNS || work.dueIn() < 1) immediate = setImmediate(turn)
    else rest()
  }
  const rest = () => {
    const mustLook = work.mustLook()
    if (!mustLook) {
      attended = false
      work.attend(false)
      // What came before the driver was asked to ring has rung nothing.
      if (work.step() > 0) {
        immediate = setImmediate(turn)
        return
      }
    }
    const due = Math.floor(work.dueIn())
    const wait = mustLook ? Math.min(nap, due) : due
    nap = Math.min(2 * nap, performance.now() - workedAt < IDLE_AFTER_MS ? NAP_MS.LAST : NAP_MS.IDLE)
    if (wait < Number.POSITIVE_INFINITY) timer = setTimeout(look, wait)
  }
  // After a nap one look is enough to know; spinning begins again where it found something.
  const look = () => {
    timer = undefined
    if (work.step() > 0) wake()
    else rest()
  }
  const freshen = () => {
    emptyTurns = 0
    nap = NAP_MS.FIRST
    workedAt = performance.now()
  }
  const wake = () => {
    freshen()
    clearTimeout(timer)
    timer = undefined
    immediate ??= setImmediate(turn)
  }
  return {
    wake,
    stop() {
      clearImmediate(immediate)
      clearTimeout(timer)
      immediate = timer = undefined
      attended = false
    },
  }
}

/** Steps for one budget, which is the longer as there is something to do. True where anything was done. */
function spin(work: Work): boolean {
  const started = performance.now()
  let until = started + BUDGET_MS.EMPTY
  let any = false
  let now = started
  do {
    let done = 0
    for (let i = 0; i < STEPS_PER_LOOK; i++) done += work.step()
    now = performance.now()
    if (done > 0) {
      any = true
      until = Math.min(now + BUDGET_MS.EMPTY, started + BUDGET_MS.BUSY)
    }
  } while (now < until)
  return any
}
