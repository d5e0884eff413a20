// Who this host is to a target: its NQN and its id, as nvme-cli keeps them, or made once and kept for the user.

import { randomUUID } from 'node:crypto'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { SetupError } from '../../errors.ts'
import { isNqn, isUuid } from './address.ts'

export interface HostIdentity {
  readonly hostnqn: string
  /** A UUID. */
  readonly hostid: string
}

const SYSTEM = '/etc/nvme'
const UUID_NQN = 'nqn.2014-08.org.nvmexpress:uuid:'

/**
 * The identity that an address gives, where it gives one; else that of /etc/nvme/hostnqn and hostid; else one of the
 * user's own, which is made the first time and kept in `unvme` of the configuration folder.
 */
export function findHostIdentity(
  given: { readonly hostnqn?: string | undefined; readonly hostid?: string | undefined } = {},
  system = SYSTEM,
): HostIdentity {
  const { hostnqn, hostid } = given
  if (hostnqn !== undefined && hostid !== undefined) return { hostnqn, hostid }
  // One name with two ids is what targets refuse: a name that was given goes with the id that it holds, if it does.
  if (hostnqn !== undefined) return { hostnqn, hostid: uuidIn(hostnqn) ?? identityOf(system).hostid }
  const known = identityOf(system)
  return { hostnqn: known.hostnqn, hostid: hostid ?? known.hostid }
}

function identityOf(system: string): HostIdentity {
  return identityIn(system) ?? ownIdentity()
}

/** Of a folder with both files, or with a name that holds an id. */
function identityIn(folder: string): HostIdentity | null {
  const hostnqn = lineOf(path.join(folder, 'hostnqn'))
  if (hostnqn === null || !isNqn(hostnqn)) return null
  const text = lineOf(path.join(folder, 'hostid'))?.toLowerCase()
  const hostid = text !== undefined && isUuid(text) ? text : uuidIn(hostnqn)
  return hostid === null ? null : { hostnqn, hostid }
}

function uuidIn(nqn: string): string | null {
  const text = nqn.startsWith(UUID_NQN) ? nqn.slice(UUID_NQN.length).toLowerCase() : ''
  return isUuid(text) ? text : null
}

function lineOf(file: string): string | null {
  try {
    return fs.readFileSync(file, 'utf8').trim()
  } catch {
    return null
  }
}

function ownIdentity(): HostIdentity {
  const folder = path.join(process.env.XDG_CONFIG_HOME || path.join(os.homedir(), '.config'), 'unvme')
  const known = identityIn(folder)
  if (known !== null) return known
  const hostid = randomUUID()
  try {
    fs.mkdirSync(folder, { recursive: true })
    // Another process may be doing the same: whoever comes first names both.
    fs.writeFileSync(path.join(folder, 'hostnqn'), `${UUID_NQN}${hostid}\n`, { flag: 'wx' })
    fs.writeFileSync(path.join(folder, 'hostid'), `${hostid}\n`)
  } catch (cause) {
    const theirs = identityIn(folder)
    if (theirs !== null) return theirs
    throw new SetupError(
      `no host NQN: /etc/nvme/hostnqn is missing, and none can be kept in ${folder}; give hostnqn= and hostid=`,
      { cause },
    )
  }
  return { hostnqn: `${UUID_NQN}${hostid}`, hostid }
}

/** The 16 bytes of a UUID. */
export function uuidBytes(uuid: string): Buffer {
  return Buffer.from(uuid.replaceAll('-', ''), 'hex')
}
