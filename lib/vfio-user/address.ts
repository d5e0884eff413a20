// Addresses of vfio-user devices: `vfio-user:/run/nvme/cntrl`, `vfio-user:/run/nvme?nsid=2`.
// A folder stands for the socket `cntrl` in it, as SPDK's transport address does.

import fs from 'node:fs'
import path from 'node:path'
import { AddressError, SetupError } from '../errors.ts'

export interface VfioUserAddress {
  /** Of the socket. */
  path: string
  nsid: number | undefined
}

const PREFIX = 'vfio-user:'
const MAX_NSID = 0xffff_fffe

export function isVfioUserAddress(address: string): boolean {
  return address.startsWith(PREFIX)
}

/** Throws AddressError. */
export function parseVfioUserAddress(address: string): VfioUserAddress {
  const question = address.indexOf('?')
  const name = address.slice(PREFIX.length, question < 0 ? undefined : question)
  if (!isVfioUserAddress(address) || name === '') {
    throw new AddressError(`'${address}': the path of a socket is needed, as vfio-user:/run/nvme/cntrl`)
  }
  if (name.includes('\0')) throw new AddressError(`'${address}': a path can't hold a NUL character`)
  const nsid = question < 0 ? undefined : parseQuery(address, address.slice(question + 1))
  return { path: socketPath(name), nsid }
}

/** The socket that a path stands for: `cntrl` in it where it is a folder. */
export function socketPath(name: string): string {
  return lookAt(name)?.isDirectory() ? path.join(name, 'cntrl') : name
}

/** What is at a path; undefined where nothing is. Throws SetupError (no right to look) and AddressError. */
export function lookAt(name: string): fs.Stats | undefined {
  try {
    return fs.statSync(name)
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined
    if (code === 'EACCES') throw new SetupError(`${name}: no right to look into its folder`, { cause })
    throw new AddressError(`${name} is no path of a socket: ${code}`, { cause })
  }
}

function parseQuery(address: string, query: string): number | undefined {
  let nsid: number | undefined
  for (const part of query.split('&').filter(Boolean)) {
    const [name, value = ''] = part.split('=', 2)
    if (name !== 'nsid')
      throw new AddressError(`'${address}': unknown option '${name}'; the only one is 'nsid'`)
    if (nsid !== undefined) throw new AddressError(`'${address}': option 'nsid' is given twice`)
    nsid = /^\d{1,10}$/.test(value) ? Number(value) : 0
    if (nsid < 1 || nsid > MAX_NSID) {
      throw new AddressError(
        `'${address}': bad value nsid=${value}; a namespace id from 1 to ${MAX_NSID} is needed`,
      )
    }
  }
  return nsid
}
