// Who this host is to a target: its NQN and its id, as nvme-cli keeps them, or made once and kept for the user.

import { randomUUID } from 'node:crypto'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { SetupError } from '../../errors.ts'
import { logger } from '../../log/index.ts'
import { showText } from '../../sys/show.ts'
import { isNqn, isUuid } from './address.ts'
import { MAX_NQN_BYTES } from './fabrics.ts'

const log = logger('tcp')

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
 *
 * @throws SetupError for a file that holds something else, and where none can be kept
 */
export function findHostIdentity(
  given: { readonly hostnqn?: string | undefined; readonly hostid?: string | undefined } = {},
  system = SYSTEM,
): HostIdentity {
  const { hostnqn, hostid } = given
  if (hostnqn !== undefined && hostid !== undefined) return { hostnqn, hostid }
  const systemId = () => systemLine(path.join(system, 'hostid'), ID)
  const name = given.hostnqn ?? systemLine(path.join(system, 'hostnqn'), NAME)
  if (name === null) {
    const own = ownIdentity()
    return { hostnqn: own.hostnqn, hostid: given.hostid ?? own.hostid }
  }
  // One name with two ids is what targets refuse: a name that was given goes with the id that it holds, if it does.
  const found = given.hostnqn === undefined ? (systemId() ?? uuidIn(name)) : (uuidIn(name) ?? systemId())
  return { hostnqn: name, hostid: given.hostid ?? found ?? ownIdentity().hostid }
}

/** What a file may hold. */
interface Kind {
  readonly what: string
  parse(text: string): string | null
}
const NAME: Kind = { what: 'host NQN', parse: (text) => (isNqn(text) ? text : null) }
const ID: Kind = { what: 'UUID', parse: (text) => (isUuid(text.toLowerCase()) ? text.toLowerCase() : null) }

function uuidIn(nqn: string): string | null {
  return nqn.startsWith(UUID_NQN) ? ID.parse(nqn.slice(UUID_NQN.length)) : null
}

/** Of the machine: where it is not for this user to read, the user has one of its own. */
function systemLine(file: string, kind: Kind): string | null {
  try {
    const line = lineOf(file)
    return line === '' ? null : checked(file, line, kind)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code !== 'EACCES' && code !== 'EPERM') throw error
    log('%s can not be read', file)
    return null
  }
}

/** The text of a file; empty where there is none. */
function lineOf(file: string): string {
  try {
    return fs.readFileSync(file, 'utf8').trim()
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT' || code === 'ENOTDIR') return ''
    throw error
  }
}

function checked(file: string, line: string, { what, parse }: Kind): string {
  const value = parse(line)
  if (value === null) {
    throw new SetupError(`${file} holds no ${what}, but ${showText(line.slice(0, MAX_NQN_BYTES))}`)
  }
  return value
}

function ownIdentity(): HostIdentity {
  const folder = path.join(configFolder(), 'unvme')
  try {
    fs.mkdirSync(folder, { recursive: true })
    const idFile = path.join(folder, 'hostid')
    const nameFile = path.join(folder, 'hostnqn')
    // What another process keeps meanwhile is what counts: names first, since an id can be found by its name.
    const id = lineOf(idFile)
    const fresh = id === '' ? randomUUID() : checked(idFile, id, ID)
    const hostnqn = keep(nameFile, `${UUID_NQN}${fresh}`, NAME)
    return { hostnqn, hostid: keep(idFile, uuidIn(hostnqn) ?? fresh, ID) }
  } catch (cause) {
    if (cause instanceof SetupError) throw cause
    throw new SetupError(
      `no host NQN: /etc/nvme/hostnqn is missing, and none can be kept in ${folder}; give hostnqn= and hostid=`,
      { cause },
    )
  }
}

/** What a file holds; `line`, where there is none yet. No process ever sees a part of it. */
function keep(file: string, line: string, kind: Kind): string {
  if (!fs.existsSync(file)) {
    const made = `${file}.${randomUUID()}`
    try {
      fs.writeFileSync(made, `${line}\n`, { flag: 'wx', mode: 0o644 })
      fs.linkSync(made, file)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
    } finally {
      fs.rmSync(made, { force: true })
    }
  }
  return checked(file, lineOf(file), kind)
}

/** Throws SetupError where there is none: a process may have no home. */
function configFolder(): string {
  const { XDG_CONFIG_HOME = '' } = process.env
  if (path.isAbsolute(XDG_CONFIG_HOME)) return XDG_CONFIG_HOME
  let [home, cause]: [string, unknown] = ['', undefined]
  try {
    home = os.homedir()
  } catch (error) {
    cause = error
  }
  if (path.isAbsolute(home)) return path.join(home, '.config')
  throw new SetupError(
    'no host NQN: /etc/nvme/hostnqn is missing, and there is no home to keep one in; give hostnqn= and hostid=',
    { cause },
  )
}

/** The 16 bytes of a UUID. */
export function uuidBytes(uuid: string): Buffer {
  return Buffer.from(uuid.replaceAll('-', ''), 'hex')
}
