// Opens a namespace or a controller by its address.
// A controller is opened once in a process; every other namespace of it shares its queues, as in UNVMe.

import { AbortError, AddressError, ArgumentTypeError, ArgumentValueError } from '../lib/errors.ts'
import { logger } from '../lib/log/index.ts'
import { type Controller, MAX_TRANSFER_BYTES } from '../lib/nvme/host/controller.ts'
import { RECOVERY_POLICIES } from '../lib/nvme/host/recovery.ts'
import { MAX_NSID } from '../lib/nvme/spec/opcodes.ts'
import type { FaultRule } from '../lib/sim/faults/syntax.ts'
import { onAbort, throwIfAborted } from '../lib/sys/abort.ts'
import type { OptionNames } from '../lib/sys/options.ts'
import { show } from '../lib/sys/show.ts'
import {
  createDevice,
  createPathsDevice,
  type Device,
  OPENING_NAMES,
  type OpeningOptions,
} from './controller/device.ts'
import { ControllerHandle } from './namespace/controller-handle.ts'
import { Namespace } from './namespace/namespace.ts'
import { checkInteger, checkOptions, checkSignal } from './queue/validate.ts'
import { resolveAddress } from './transports/registry.ts'
import type { Target } from './transports/target.ts'

const log = logger('open')

export interface OpenOptions extends OpeningOptions {
  /**
   * Drives a device by physical addresses where there is no IOMMU: nothing then keeps it from overwriting any memory.
   * Without effect where there is an IOMMU. Default: false.
   */
  noIommu?: boolean | undefined
  /** Whether to use iommufd and the device's own file: where the kernel has them ('auto'), or not. */
  iommufd?: 'auto' | 'always' | 'never' | undefined
  /** Namespace id, where the address does not say; default: the first active one. */
  nsid?: number | undefined
  /** For `sim:` addresses: what shall go wrong, see [the software controller](sim.md#faults). */
  faults?: readonly FaultRule[] | undefined
  /**
   * Queues will be shared with worker threads: a `sim:` controller then runs on a thread of its own, as with
   * `thread=1` in its address. Other devices need nothing for it. Default: false.
   */
  threads?: boolean | undefined
  /**
   * For devices of the kernel's driver (`/dev/nvme0n1`): write a namespace that the system uses, too. Without it the first
   * write to one that is mounted, swap, part of another device, or held by a process fails with InUseError, and one that is
   * free is held from then on. It is for the namespace that is opened, or, where the address is a controller's, for all of
   * it. Default: false.
   */
  force?: boolean | undefined
  /**
   * For `nvme+tcp:` addresses: milliseconds between two attempts to connect again, after one at once. Default: 2000. A
   * connection that was lost is made again as long as `recovery` is `reset`.
   */
  reconnectDelay?: number | undefined
  /**
   * For `nvme+tcp:` addresses: milliseconds after which a controller that can't be reached is given up, and everything
   * that waits rejects with DeviceRemovedError; -1 never. Default: 600 000.
   */
  ctrlLossTimeout?: number | undefined
  /**
   * For `nvme+tcp:` addresses: milliseconds without a connection after which I/O rejects with DeviceRemovedError, while
   * it is still being made again; -1, the default, lets it wait until `ctrlLossTimeout`. With several paths: without one
   * that gives access to the namespace.
   */
  fastIoFail?: number | undefined
  /**
   * For `nvme+tcp:` addresses: a file with this host's key for DH-HMAC-CHAP, before that of the address. Default: the
   * environment's UNVME_DHCHAP_SECRET.
   */
  dhchapSecretFile?: string | undefined
  /**
   * For `nvme+tcp:` addresses: a file with the controller's key, which then has to prove itself, too. Default: the
   * environment's UNVME_DHCHAP_CTRL_SECRET.
   */
  dhchapCtrlSecretFile?: string | undefined
  /**
   * For `nvme+tcp:` addresses: a file with a TLS key, which turns TLS on, as `tls=1` does. Default: with `tls=1` the
   * environment's UNVME_TLS_KEY.
   */
  tlsKeyFile?: string | undefined
  /**
   * For `nvme+tcp:` addresses: more addresses of the same namespace, each in full, as paths to it: see
   * [several paths](tcp.md#several-paths). Rejects with PathMismatchError where one leads to another subsystem or namespace.
   */
  paths?: readonly string[] | undefined
}

const OPEN_NAMES: OptionNames<OpenOptions> = {
  ...OPENING_NAMES,
  nsid: true,
  noIommu: true,
  iommufd: true,
  faults: true,
  threads: true,
  force: true,
  reconnectDelay: true,
  ctrlLossTimeout: true,
  fastIoFail: true,
  dhchapSecretFile: true,
  dhchapCtrlSecretFile: true,
  tlsKeyFile: true,
  paths: true,
}

// Timers take no longer.
const MAX_TIMER_MS = 2 ** 31 - 1

const devices = new Map<string, Promise<Device>>()

/**
 * Opens a namespace. Namespaces of one controller share it: its queues, limits and interrupts are as the first open
 * asked for them, and later ones get what there is (`ns.qcount`, `ns.qsize`).
 *
 * @param address `0a:00.0`, `0000:0a:00.0/2` (a namespace id after the slash), `sim:`, `sim:disk.img?lba=4096`,
 * `vfio-user:/run/nvme/cntrl?nsid=2`, `/dev/nvme0n1`, `nvme+tcp://host:4420/nqn.2024-01.example:disk?nsid=1`
 * @throws AddressError, ImageError, SetupError, InUseError, OutOfRangeError, UnsupportedError, ProtocolError,
 * ControllerFatalError, DeviceRemovedError, AbortError; nothing stays open then
 */
export async function open(address: string, options: OpenOptions = {}): Promise<Namespace> {
  checkArguments('open', address, options)
  const target = await resolveAddress(address, options)
  const nsid = namespaceOf('open', target, address, options)
  const device = await share(target, options)
  try {
    const geometry = await device.findGeometry(nsid, options.signal)
    await device.provideQueues({ qcount: target.queues, ...options }, geometry)
    throwIfAborted(options.signal)
    return new Namespace(device, geometry, address)
  } finally {
    await device.release()
  }
}

/**
 * Opens a controller alone, for admin commands: also one without an active namespace. Where namespaces of it are
 * open in this process, it is the same controller; it is shut down when the last of them is closed.
 *
 * @param address as of `open`; a namespace id in it is kept as `nsid`, and need not exist
 * @throws as `open`
 */
export async function openController(address: string, options: OpenOptions = {}): Promise<ControllerHandle> {
  checkArguments('openController', address, options)
  const target = await resolveAddress(address, options)
  const nsid = namespaceOf('openController', target, address, options)
  const device = await share(target, options)
  try {
    const { signal, ...others } = options
    throwIfAborted(signal)
    return new ControllerHandle(device, address, nsid, others)
  } finally {
    await device.release()
  }
}

function namespaceOf(
  call: string,
  { nsid }: Target,
  address: string,
  options: OpenOptions,
): number | undefined {
  if (nsid !== undefined && options.nsid !== undefined && options.nsid !== nsid) {
    throw new AddressError(
      `${call}: ${address} names namespace ${nsid}, the options namespace ${options.nsid}`,
    )
  }
  return nsid ?? options.nsid
}

/** The device of a target, with one user counted for this call. */
async function share(target: Target, options: OpenOptions): Promise<Device> {
  const { signal } = options
  throwIfAborted(signal)
  const key = target.key()
  if (key === null) return connect(target, options)
  const opening = devices.get(key)
  if (opening === undefined) return connectFirst(target, options)
  const device = await openedByAnother(opening, signal)
  if (device?.removed) {
    // Whoever still has it keeps it: at its address there is nothing, or another device.
    forget(key, opening)
    return share(target, options)
  }
  if (device !== null && device.closed === null) {
    target.check?.((device.controller as Controller).transport)
    return device.retain()
  }
  await device?.closed
  return share(target, options)
}

function connectFirst(target: Target, options: OpenOptions): Promise<Device> {
  const opening = connect(target, options)
  // At once: who opens the same meanwhile waits for it. An image that was missing has been made by now.
  const key = target.key()!
  devices.set(key, opening)
  const end = () => forget(key, opening)
  opening.then((device) => device.onClosed(end), end)
  return opening
}

// Another may have come in its place.
function forget(key: string, opening: Promise<Device>): void {
  if (devices.get(key) === opening) devices.delete(key)
}

/** What another call opens, or null where that was aborted, which is its own affair; `signal` ends the waiting. */
async function openedByAnother(
  opening: Promise<Device>,
  signal: AbortSignal | undefined,
): Promise<Device | null> {
  let forget = () => {}
  const aborted = new Promise<null>((resolve) => {
    forget = onAbort(signal, () => resolve(null))
  })
  try {
    return await Promise.race([opening, aborted])
  } catch (error) {
    if (error instanceof AbortError) return null
    throw error
  } finally {
    forget()
  }
}

async function connect(target: Target, options: OpenOptions): Promise<Device> {
  if (target.several !== undefined) return createPathsDevice(target.several(), options)
  const transport = await target.connect()
  log('%s: %s', transport.address, transport.kind)
  return createDevice(transport, options)
}

function checkArguments(call: string, address: string, options: OpenOptions): void {
  if (typeof address !== 'string') {
    throw new ArgumentTypeError(`${call}: address must be a string, received ${typeof address}`)
  }
  checkOptions(call, options, OPEN_NAMES)
  checkSignal(call, options.signal)
  const { qcount = 0, qsize = 0, timeout = 1, nsid = 1, maxTransferBytes = 4096 } = options
  checkInteger(`${call}: qcount`, qcount, 0, 65535)
  checkInteger(`${call}: qsize`, qsize, 0, 65536)
  checkInteger(`${call}: timeout`, timeout, 1, 2 ** 31)
  checkInteger(`${call}: nsid`, nsid, 1, MAX_NSID)
  checkInteger(`${call}: maxTransferBytes`, maxTransferBytes, 4096, MAX_TRANSFER_BYTES)
  const { recovery = 'reset', retries = 0, reconnect = 0 } = options
  // A word that is none of them would be taken for the one that does least, and say nothing.
  if (!RECOVERY_POLICIES.includes(recovery)) {
    const words = RECOVERY_POLICIES.map((word) => `'${word}'`).join(', ')
    throw new ArgumentValueError(`${call}: recovery must be one of ${words}, received ${show(recovery)}`)
  }
  checkInteger(`${call}: retries`, retries, 0, 65535)
  checkInteger(`${call}: reconnect`, reconnect, 0, 2 ** 31)
  const { reconnectDelay = 0, ctrlLossTimeout = 0, fastIoFail = 0 } = options
  checkInteger(`${call}: reconnectDelay`, reconnectDelay, 0, MAX_TIMER_MS)
  checkInteger(`${call}: ctrlLossTimeout`, ctrlLossTimeout, -1, MAX_TIMER_MS)
  checkInteger(`${call}: fastIoFail`, fastIoFail, -1, MAX_TIMER_MS)
  for (const name of ['dhchapSecretFile', 'dhchapCtrlSecretFile', 'tlsKeyFile'] as const) {
    const file = options[name]
    if (file === undefined || typeof file === 'string') continue
    throw new ArgumentTypeError(`${call}: ${name} must be a string, received ${typeof file}`)
  }
  const { paths = [] } = options
  if (!Array.isArray(paths) || paths.some((path) => typeof path !== 'string')) {
    throw new ArgumentTypeError(`${call}: paths must be an array of strings, received ${show(paths)}`)
  }
  if (paths.length > 0 && !address.startsWith('nvme+tcp:')) {
    throw new ArgumentValueError(
      `${call}: paths: ${address} has one path: nvme+tcp: addresses may have several`,
    )
  }
  if (recovery !== 'reset' && (paths.length > 0 || /^nvme\+tcp:[^?]*,/.test(address))) {
    throw new ArgumentValueError(`${call}: recovery ${show(recovery)}: several paths need 'reset'`)
  }
}
