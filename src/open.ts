// Opens a namespace by its address: the one place where PCI functions and the NVMe driver meet.
// Trade-off: a controller is opened once in a process; every other namespace of it shares its queues, as in UNVMe.

import fs from 'node:fs'
import { resolve as resolvePath } from 'node:path'
import { AddressError, ArgumentTypeError, UnsupportedError } from '../lib/errors.ts'
import { logger } from '../lib/log/index.ts'
import { type PciFunction, parseNamespaceName } from '../lib/pci/index.ts'
import { type FaultRule, openSim, parseSimAddress } from '../lib/sim/index.ts'
import { openVfio, type VfioOptions } from '../lib/vfio/index.ts'
import { createDevice, type Device, type DeviceOptions } from './device.ts'
import { Namespace } from './namespace.ts'
import { checkInteger } from './validate.ts'

const log = logger('open')

export interface OpenOptions extends DeviceOptions, Pick<VfioOptions, 'noIommu' | 'iommufd'> {
  /** Namespace id, where the address does not say; default: the first active one. */
  nsid?: number
  /** For `sim:` addresses: what shall go wrong. */
  faults?: readonly FaultRule[]
}

/** What an address means: how to make its function, and what tells it from others. */
interface Target {
  /** The same for every address of the same controller; null where each open makes a new one. */
  key: string | null
  nsid: number | undefined
  connect(): Promise<PciFunction>
}

const devices = new Map<string, Promise<Device>>()

/**
 * Opens a namespace.
 *
 * @param address `0a:00.0`, `0000:0a:00.0/2` (a namespace id after the slash), `sim:`, `sim:disk.img?lba=4096`
 * @throws AddressError, ImageError, SetupError, InUseError, OutOfRangeError, UnsupportedError,
 * ControllerFatalError, DeviceRemovedError; nothing stays open then
 */
export async function open(address: string, options: OpenOptions = {}): Promise<Namespace> {
  if (typeof address !== 'string') {
    throw new ArgumentTypeError(`open: address must be a string, received ${typeof address}`)
  }
  if (process.platform !== 'linux' || process.arch !== 'x64') {
    throw new UnsupportedError(
      `open: Linux on x86-64 is needed, this is ${process.platform} on ${process.arch}`,
    )
  }
  checkOptions(options)
  const target = resolve(address, options)
  const nsid = target.nsid ?? options.nsid
  if (options.nsid !== undefined && options.nsid !== nsid) {
    throw new AddressError(`open: ${address} names namespace ${nsid}, the options namespace ${options.nsid}`)
  }
  const device = await share(target, nsid, options)
  try {
    return new Namespace(device, await device.findGeometry(nsid), address)
  } finally {
    await device.release()
  }
}

/** The device of a target, with one user counted for this call. */
async function share(target: Target, nsid: number | undefined, options: OpenOptions): Promise<Device> {
  const { key } = target
  if (key === null) return connect(target, nsid, options)
  const known = await devices.get(key)
  if (known) {
    if (known.closed === null) return known.retain()
    await known.closed
    return share(target, nsid, options)
  }
  const opening = connect(target, nsid, options)
  devices.set(key, opening)
  const forget = () => devices.delete(key)
  opening.then((device) => device.onClosed(forget), forget)
  return opening
}

async function connect(target: Target, nsid: number | undefined, options: OpenOptions): Promise<Device> {
  const pci = await target.connect()
  log('%s: %s', pci.address, pci.transport)
  return createDevice(pci, nsid, options)
}

const PCI_NAME = /^[0-9a-f]{1,8}:/i

function resolve(address: string, options: OpenOptions): Target {
  if (address.startsWith('sim:')) {
    const { path, nsid } = parseSimAddress(address)
    return {
      key: path === undefined ? null : `sim:${realPath(path)}`,
      nsid,
      connect: () => openSim(address, options.faults && { faults: options.faults }),
    }
  }
  if (PCI_NAME.test(address)) {
    const { pciName: name, nsid } = parseNamespaceName(address)
    const { noIommu, iommufd } = options
    const vfio = { ...(noIommu !== undefined && { noIommu }), ...(iommufd !== undefined && { iommufd }) }
    return { key: name, nsid: address.includes('/') ? nsid : undefined, connect: () => openVfio(name, vfio) }
  }
  throw new AddressError(
    `unknown address ${JSON.stringify(address)}: a PCI name as 0a:00.0 or 0000:0a:00.0/1, or sim:… is needed`,
  )
}

// One image is one controller, by whatever name it is reached.
function realPath(path: string): string {
  try {
    return fs.realpathSync(path)
  } catch {
    return resolvePath(path)
  }
}

function checkOptions(options: OpenOptions): void {
  if (typeof options !== 'object' || options === null) {
    throw new ArgumentTypeError(`open: options must be an object, received ${typeof options}`)
  }
  const { qcount = 0, qsize = 0, timeout = 1, nsid = 1 } = options
  checkInteger('open: qcount', qcount, 0, 65535)
  checkInteger('open: qsize', qsize, 0, 65536)
  checkInteger('open: timeout', timeout, 1, 2 ** 31)
  checkInteger('open: nsid', nsid, 1, 0xffff_fffe)
}
