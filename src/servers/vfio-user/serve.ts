// Puts a controller behind a vfio-user socket: the one place where model, protocol and time meet. It is the software controller
// with its own medium, or its model in front of open namespaces.
// The server's thread runs the controller between messages, so a command never waits for another thread
// and a message waits for a step of the controller at most. A driver's store to shared memory wakes no thread, so
// doorbells must be looked at: it spins for a millisecond of idleness, after that looks every 1 to 4 ms, and after a
// second every 16 ms: less than a per cent of a processor. Where doorbells come as messages (shadow doorbells) it sleeps.

import fs from 'node:fs'
import {
  AbortError,
  AddressError,
  ArgumentTypeError,
  ArgumentValueError,
  ClosedError,
  DeviceRemovedError,
  UnsupportedError,
} from '../../../lib/errors.ts'
import { logger } from '../../../lib/log/index.ts'
import { createSharedMemory, destroySharedMemory, map, viewOf } from '../../../lib/memory/mapping.ts'
import {
  type Backing,
  type HostedSim,
  hostedDoorbellBytes,
  hostSim,
  parseSimAddress,
  type SimConfig,
  type SimControls,
} from '../../../lib/sim/index.ts'
import { throwIfAborted } from '../../../lib/sys/abort.ts'
import { MAP, munmap, PROT } from '../../../lib/sys/libc.ts'
import type { OptionNames } from '../../../lib/sys/options.ts'
import { PAGE_BYTES } from '../../../lib/sys/units.ts'
import {
  parseVfioUserAddress,
  type ServedDevice,
  serveDevice,
  type VfioUserServer,
} from '../../../lib/vfio-user/index.ts'
import type { Namespace } from '../../namespace/namespace.ts'
import { checkBoolean, checkInteger, checkOptions, checkSignal } from '../../queue/validate.ts'
import { createEnd } from '../end.ts'
import { nqnOf, openDevices, type ServedDevices } from '../nvme-tcp/devices.ts'
import { DeviceBacking } from './backing.ts'

const log = logger('serve')
/** BAR 0 has registers below this offset, doorbells from there on. */
const REGISTERS = 0x1000
const QUEUES = 16
const ENTRIES = 256
const MEMORY_BYTES = 8 * 2 ** 20

export interface ServeOptions {
  /**
   * What is served: a software controller as a whole, by its address (`sim:disk.img?size=1G`), or an open namespace of any
   * device, or several, as namespaces 1, 2, …. Namespaces are the caller's, and stay open. Default: `sim:`.
   */
  device?: string | Namespace | readonly Namespace[] | undefined
  /**
   * How the client rings doorbells: 'mapped' in shared memory, which this server then has to look at, or 'shadow' in
   * its own memory (Doorbell Buffer Config), with a message where the server sleeps. Default: 'mapped'.
   */
  doorbells?: 'mapped' | 'shadow' | undefined
  /** Of namespaces: clients can't write. Default: false. */
  readOnly?: boolean | undefined
  /** Of namespaces: most I/O queues of a client, from 1 to 128. Default: 16. */
  queues?: number | undefined
  /** Of namespaces: entries of the largest queue, from 2 to 4096: one more than commands in flight. Default: 256. */
  queueSize?: number | undefined
  /**
   * Of namespaces: bytes of DMA memory of each device for the data of commands, from 1 MiB: commands that find none wait in
   * their queue. Default: 8 MiB.
   */
  memory?: number | undefined
  /** Closes the server. */
  signal?: AbortSignal | undefined
}

const SERVE_NAMES: OptionNames<ServeOptions> = {
  ...{
    device: true,
    doorbells: true,
    readOnly: true,
    queues: true,
    queueSize: true,
    memory: true,
    signal: true,
  },
}

/** What a server has done. */
export interface ServerStats {
  /** Whether there is a client now, and how many there were. */
  readonly connected: boolean
  readonly clients: number
  /** Commands of clients that have ended well, and their data. */
  readonly reads: number
  readonly writes: number
  readonly bytesRead: number
  readonly bytesWritten: number
  /** Commands that ended with an error. */
  readonly failures: number
  /** I/O commands that are being done now, and the bytes of DMA memory that they have. */
  readonly inFlight: number
  readonly memoryInUse: number
}

/** A running server. */
export interface Server extends AsyncDisposable {
  /** As clients open it. */
  readonly address: string
  /** Of the socket. */
  readonly path: string
  /** What can be done to a software controller while it runs; null where namespaces are served. */
  readonly controls: SimControls | null
  /** What it has done, and is doing. */
  readonly stats: ServerStats
  /**
   * Takes no more commands, finishes and answers what is in flight, flushes, ends the client's session and removes the socket.
   * A software controller is closed with it at once; namespaces stay open.
   */
  close(): Promise<void>
  /** Resolves when it is closed, by whomever; rejects where the last flush failed, or the device has gone. */
  readonly closed: Promise<void>
}

/** See index.ts. */
export async function serve(address: string, given: ServeOptions = {}): Promise<Server> {
  const options = checkOptions('serve', given, SERVE_NAMES)
  const { device = 'sim:', doorbells = 'mapped', signal } = options
  if (doorbells !== 'mapped' && doorbells !== 'shadow') {
    throw new ArgumentValueError(
      `serve: doorbells must be 'mapped' or 'shadow', received ${String(doorbells)}`,
    )
  }
  checkSignal('serve', signal)
  throwIfAborted(signal)
  const { path, nsid } = parseVfioUserAddress(address)
  if (nsid !== undefined) throw new AddressError(`'${address}': a server offers every namespace, not one`)
  const shadow = doorbells === 'shadow'
  if (typeof device === 'string') return serveSim(path, simConfig(device, shadow, options), shadow, signal)
  return serveNamespaces(path, Array.isArray(device) ? device : [device as Namespace], shadow, options)
}

function simConfig(device: string, shadow: boolean, options: ServeOptions): SimConfig {
  for (const name of ['readOnly', 'queues', 'queueSize', 'memory'] as const) {
    if (options[name] === undefined) continue
    throw new UnsupportedError(`serve: ${name} is for open namespaces, not for all of ${device}`)
  }
  const config = parseSimAddress(device)
  if (config.thread) throw new AddressError(`'${device}': thread=1 has no meaning behind a socket`)
  if (config.nsid !== undefined)
    throw new AddressError(`'${device}': a server offers every namespace, not one`)
  return shadow ? { ...config, shadow } : config
}

function serveSim(path: string, config: SimConfig, shadow: boolean, signal?: AbortSignal): Server {
  const socket = offer(path, config, shadow)
  const { sim } = socket
  log('%s at %s', config.address, path)
  const end = async () => socket.close()
  const { close, closed } = createEnd(end, signal, [])
  return face(path, { controls: sim.controls, close, closed }, () => ({
    ...{ ...socket.clients(), ...sim.counts(), memoryInUse: 0 },
  }))
}

async function serveNamespaces(
  path: string,
  namespaces: readonly Namespace[],
  shadow: boolean,
  { readOnly = false, queues = QUEUES, queueSize = ENTRIES, memory = MEMORY_BYTES, signal }: ServeOptions,
): Promise<Server> {
  if (namespaces.length === 0 || namespaces.some((one) => typeof one?.onClose !== 'function')) {
    throw new ArgumentTypeError('serve: device must be an address of sim:, an open namespace, or several')
  }
  checkBoolean('serve: readOnly', readOnly)
  checkInteger('serve: queues', queues, 1, 128)
  checkInteger('serve: queueSize', queueSize, 2, 4096)
  checkInteger('serve: memory', memory, 2 ** 20, 2 ** 31 - PAGE_BYTES)
  const subnqn = nqnOf(namespaces, 'vfio-user\n')
  const devices = await openDevices(namespaces, {
    ...{ call: 'serve', noMetadata: 'the controller has no formats with a buffer of its own for metadata' },
    ...{ subnqn, readOnly, memory, share: 1, shared: false },
  })
  let socket: Offer
  let backing: DeviceBacking
  try {
    throwIfAborted(signal)
    backing = new DeviceBacking(devices, subnqn, readOnly)
    const config: SimConfig = {
      ...{ ...parseSimAddress('sim:'), size: 0, nsids: backing.namespaces.map(({ nsid }) => nsid) },
      ...{ qcount: queues, qsize: queueSize, mdts: Math.log2(backing.maxBytes / PAGE_BYTES), shadow },
    }
    socket = offer(path, config, shadow, backing)
  } catch (error) {
    devices.close()
    throw error
  }
  const { sim } = socket
  backing.onRoom = socket.wake
  devices.onChange((nsid) => {
    sim.controls.namespaceChanged(nsid)
    socket.wake()
  })
  log('%s at %s', namespaces.map(({ device }) => device).join(', '), path)
  let removed: Error | null = null
  const end = async () => {
    sim.finish()
    try {
      await devices.finish()
    } catch (error) {
      throw removed ?? error
    } finally {
      // The client has the answers before its session ends.
      sim.step()
      socket.close()
      backing.close()
      devices.close()
    }
  }
  const { close, closed } = createEnd(end, signal, [
    ...namespaces.map((namespace) => namespace.onClose(() => close())),
    ...[...new Set(namespaces.map(({ controller }) => controller))].map((controller) =>
      controller.onFailure((cause) => {
        if (!(cause instanceof DeviceRemovedError)) return
        removed = cause
        void close().catch(() => {})
      }),
    ),
  ])
  const server = face(path, { controls: null, close, closed }, () => statsOf(socket, devices))
  const gone = namespaces.find((namespace) => namespace.closed)
  if (signal?.aborted || gone !== undefined) {
    // Who has ended it before it could be heard of.
    await close().catch((error: Error) => log('%s', error.message))
    throw signal?.aborted
      ? new AbortError(signal.reason)
      : new ClosedError(`serve: ${gone!.device} is closed`)
  }
  return server
}

function statsOf(socket: Offer, { counters, inFlight, memoryInUse }: ServedDevices): ServerStats {
  const { reads, writes, bytesRead, bytesWritten, failures } = counters
  return { ...socket.clients(), reads, writes, bytesRead, bytesWritten, failures, inFlight, memoryInUse }
}

function face(
  path: string,
  rest: Pick<Server, 'controls' | 'close' | 'closed'>,
  stats: () => ServerStats,
): Server {
  return {
    ...{ address: `vfio-user:${path}`, path, ...rest },
    get stats() {
      return stats()
    },
    [Symbol.asyncDispose]: rest.close,
  }
}

/** A controller at a socket. */
interface Offer {
  readonly sim: HostedSim
  /** Something waits for a step of the controller. */
  wake(): void
  clients(): Pick<ServerStats, 'connected' | 'clients'>
  close(): void
}

function offer(path: string, config: SimConfig, shadow: boolean, backing?: DeviceBacking): Offer {
  const memory = openDoorbells(config, !shadow)
  let sim: HostedSim | undefined
  let server: VfioUserServer | undefined
  let loop: Loop | undefined
  let connected = false
  let clients = 0
  const wake = () => loop?.wake()
  const close = () => {
    server?.close()
    sim?.close()
    loop?.stop()
    memory.close()
  }
  try {
    const backed = backing && { backing: backing as Backing, wake }
    sim = hostSim(config, memory.buffer, (vector) => server?.interrupt(vector), backed)
    const running = sim
    loop = createLoop({
      step: backing === undefined ? () => running.step() : () => backing.poll() + running.step(),
      dueIn: () => running.dueIn(),
      mustLook: () => memory.shared && running.enabled,
      attend: (always) => running.attend(always),
    })
    const device = createServed(sim, memory, loop)
    server = serveDevice(path, {
      ...device,
      connected() {
        connected = true
        clients++
        return device.connected()
      },
      disconnected() {
        connected = false
        device.disconnected()
      },
    })
  } catch (error) {
    close()
    throw error
  }
  return { sim, wake, close, clients: () => ({ connected, clients }) }
}

/** The controller as lib/vfio-user serves it, driven by its loop. */
function createServed(sim: HostedSim, memory: DoorbellMemory, loop: Loop): ServedDevice {
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
  // Within a turn, and whether somebody called \`wake\` meanwhile.
  let turning = false
  let stirred = false

  const turn = () => {
    immediate = undefined
    turning = true
    stirred = false
    if (!attended) {
      attended = true
      work.attend(true)
    }
    const found = spin(work)
    turning = false
    if (found || stirred) freshen()
    else emptyTurns++
    if (emptyTurns < EMPTY_TURNS || work.dueIn() < 1) immediate ??= setImmediate(turn)
    else rest()
  }
  const rest = () => {
    const mustLook = work.mustLook()
    if (!mustLook) {
      attended = false
      work.attend(false)
      // What came before the driver was asked to ring has rung nothing.
      if (work.step() > 0) {
        immediate ??= setImmediate(turn)
        return
      }
    }
    if (immediate !== undefined) return
    const due = Math.floor(work.dueIn())
    const wait = mustLook ? Math.min(nap, due) : due
    nap = Math.min(2 * nap, performance.now() - workedAt < IDLE_AFTER_MS ? NAP_MS.LAST : NAP_MS.IDLE)
    if (wait < Number.POSITIVE_INFINITY) timer = setTimeout(look, wait)
  }
  // After a nap one look is enough to know; spinning begins again where it found something.
  const look = () => {
    timer = undefined
    if (work.step() > 0) wake()
    else if (immediate === undefined) rest()
  }
  const freshen = () => {
    emptyTurns = 0
    nap = NAP_MS.FIRST
    workedAt = performance.now()
  }
  const wake = () => {
    if (turning) {
      stirred = true
      return
    }
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
