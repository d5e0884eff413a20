// `/dev/nvme0n1`, `/dev/ng0n1`, `/dev/nvme0`: devices that the kernel's nvme driver has.

import fs from 'node:fs'
import path from 'node:path'
import { AddressError, InUseError, SetupError } from '../../lib/errors.ts'
import type { Transport } from '../../lib/nvme/host/transport.ts'
import { findKernelController, lookUpNode } from '../../lib/nvme/linux/sysfs.ts'
import { type KernelOptions, openKernel } from '../../lib/nvme/linux/transport.ts'
import { isVfioDriver, listNvmeFunctions, readGroupMembers, readPciFacts } from '../../lib/pci/sysfs.ts'
import { deviceNumber } from '../system/block-device.ts'
import { WriteClaims } from '../system/claims.ts'
import { checkPlatform } from './platform.ts'
import type { ConnectOptions, Resolve, Target } from './target.ts'
import { resolve as resolveVfio } from './vfio.ts'

interface KernelAddress {
  readonly file: string
  readonly nsid: number | undefined
  readonly sqpoll: boolean
  readonly io: KernelOptions['io']
}

// Of the controllers that are open: a later open's `force` is for the namespace that it opens.
const claimsOf = new WeakMap<Transport, WriteClaims>()

export const resolve: Resolve = (address, options) => {
  checkPlatform(address)
  const { file, nsid, sqpoll, io } = parse(address)
  const node = fs.statSync(file, { throwIfNoEntry: false })
  if (node === undefined) throw missing(address, file)
  const found = lookUpNode(node, deviceNumber(node))
  if (found === null) return resolveOther(address, file, options)
  if (found.partition !== undefined) {
    throw new AddressError(
      `${address} is a partition: NVMe commands go to whole namespaces, here ${path.dirname(file)}/${found.partition.replace(/p\d+$/, '')}`,
    )
  }
  const own = found.block === undefined ? undefined : namespaceId(found.block)
  if (own !== undefined && nsid !== undefined && nsid !== own) {
    throw new AddressError(`${address}: the file is namespace ${own}`)
  }
  const { force = false, timeout, recovery } = options
  // For the namespace that is opened; for every one where a controller is.
  const forceWrites = (claims: WriteClaims | undefined) => {
    const block = found.block ?? (nsid === undefined ? undefined : blockOf(found.controller, nsid))
    if (block !== undefined || nsid === undefined) claims?.force(block)
  }
  return {
    key: () => `kernel:${found.controller}`,
    nsid: nsid ?? own,
    check(open) {
      const { how = '' } = open
      if (sqpoll && !how.includes('polled'))
        throw new InUseError(`${address} is open already, without sqpoll`)
      if (io !== undefined && !how.startsWith(io)) {
        throw new InUseError(`${address} is open already, by ${how.split(' ')[0]}`)
      }
      if (force) forceWrites(claimsOf.get(open))
    },
    connect: async () => {
      const claims = new WriteClaims()
      if (force) forceWrites(claims)
      const transport = await openKernel(found.controller, `/dev/${found.controller}`, {
        ...{ io, sqpoll, timeout, impatient: recovery === 'none' },
        mayWrite: (block) => claims.check(block),
        extra: { words: claims.words },
        onClose: () => claims.close(),
      })
      claimsOf.set(transport, claims)
      return transport
    },
  }
}

function blockOf(controller: string, nsid: number): string | undefined {
  return findKernelController(controller)?.namespaces.find((one) => one.nsid === nsid)?.block
}

function namespaceId(block: string): number {
  return Number(fs.readFileSync(`/sys/class/block/${block}/nsid`, 'utf8'))
}

const OPTIONS = ['nsid', 'sqpoll', 'io'] as const

function parse(address: string): KernelAddress {
  const question = address.indexOf('?')
  const file = question < 0 ? address : address.slice(0, question)
  if (file.includes('\0')) throw new AddressError(`'${address}': a path can't hold a NUL character`)
  const given = new Map<string, string>()
  for (const part of question < 0
    ? []
    : address
        .slice(question + 1)
        .split('&')
        .filter(Boolean)) {
    const [name = '', value = ''] = part.split('=', 2)
    if (!(OPTIONS as readonly string[]).includes(name)) {
      throw new AddressError(`'${address}': unknown option '${name}'; there are ${OPTIONS.join(', ')}`)
    }
    if (given.has(name)) throw new AddressError(`'${address}': option '${name}' is given twice`)
    given.set(name, value)
  }
  const sqpoll = choose(address, given, 'sqpoll', /^[01]?$/, '0 or 1', (value) => value !== '0') ?? false
  const io = choose(
    address,
    given,
    'io',
    /^(io_uring|ioctl)$/,
    'io_uring or ioctl',
    (value) => value as 'ioctl',
  )
  if (sqpoll && io === 'ioctl') throw new AddressError(`'${address}': sqpoll is of io_uring, not of ioctl`)
  const nsid = choose(address, given, 'nsid', /^[1-9]\d{0,9}$/, 'a namespace id', Number)
  return { file, nsid, sqpoll, io }
}

function choose<T>(
  address: string,
  given: ReadonlyMap<string, string>,
  name: string,
  form: RegExp,
  needed: string,
  read: (value: string) => T,
): T | undefined {
  const value = given.get(name)
  if (value === undefined) return undefined
  if (!form.test(value))
    throw new AddressError(`'${address}': bad value ${name}=${value}; ${needed} is needed`)
  return read(value)
}

// A device of VFIO has files of its own.
function resolveOther(address: string, file: string, options: ConnectOptions): Target {
  const name = pciNameOf(file)
  if (name !== undefined) return resolveVfio(name, options)
  throw new AddressError(
    `${address} is no NVMe device of the kernel: /dev/nvme0n1 or /dev/ng0n1 is a namespace, /dev/nvme0 a controller`,
  )
}

/** The function behind `/dev/vfio/devices/vfio0` or, where it is alone in its group, `/dev/vfio/7`. */
function pciNameOf(file: string): string | undefined {
  const device = /^\/dev\/vfio\/devices\/(vfio\d+)$/.exec(file)?.[1]
  if (device !== undefined)
    return listNvmeFunctions().find((name) => readPciFacts(name).vfioDevice === device)
  const group = /^\/dev\/vfio\/(\d+)$/.exec(file)?.[1]
  if (group === undefined) return undefined
  const names = new Set(listNvmeFunctions())
  const members = readGroupMembers(Number(group)).filter(({ name }) => names.has(name))
  return members.length === 1 ? members[0]!.name : undefined
}

function missing(address: string, file: string): Error {
  const bound = listNvmeFunctions().filter((name) => isVfioDriver(readPciFacts(name).driver))
  if (/^\/dev\/(nvme|ng)\d/.test(file) && bound.length > 0) {
    return new SetupError(
      `${address}: the kernel has no such device; bound to VFIO are ${bound.join(', ')}: open one by that name, or give it ` +
        `back to the kernel (unvme setup reset ${bound[0]})`,
    )
  }
  return new AddressError(`${address}: there is no such device`)
}
