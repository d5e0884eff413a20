// What a system error of the kernel's nvme driver means for the command that met it.

import {
  ControllerFatalError,
  DeviceRemovedError,
  OutcomeUnknownError,
  OutOfMemoryError,
  SetupError,
  SystemCallError,
  UnsupportedError,
} from '../../errors.ts'
import { ERRNO, errnoName } from '../../sys/libc.ts'
import { encodeStatus, SCT } from '../spec/status.ts'

/** Why a command did not come to the controller, and a status of the path that says whether it may pass. */
export interface Fault {
  readonly status: number
  readonly error: Error
}

// Status codes of the path (SCT 3h): Host Pathing Error, Command Aborted By Host.
const HOST_PATHING = 0x70
const ABORTED_BY_HOST = 0x71
const NEVER = encodeStatus({ sct: SCT.PATH, sc: HOST_PATHING, dnr: true })
const LATER = encodeStatus({ sct: SCT.PATH, sc: HOST_PATHING })
const ABORTED = encodeStatus({ sct: SCT.PATH, sc: ABORTED_BY_HOST })

/** What a fault can be about. */
export interface FaultContext {
  /** The address that was opened, and the device's file. */
  readonly address: string
  readonly file: string
  /** What the command was, for the message. */
  readonly what: string
  /** What has ended the controller, or null. */
  health(): Error | null
}

/** @param error a positive errno */
export function faultOf(error: number, context: FaultContext): Fault {
  const { address, file, what } = context
  const name = errnoName(error)
  // What the kernel cancels since the device is gone says nothing of it.
  const gone = context.health()
  if (gone !== null) return { status: NEVER, error: gone }
  switch (error) {
    case ERRNO.EINTR: {
      const text = `outcome unknown, since the kernel cancelled the command, as it does for a reset: ${what}`
      return { status: ABORTED, error: new OutcomeUnknownError(text) }
    }
    case ERRNO.EAGAIN:
    case ERRNO.EBUSY: {
      const error = new ControllerFatalError(`${address} is busy in the kernel (${name}): ${what}`)
      return { status: LATER, error }
    }
    // The memory is ours, and there: the kernel could not take it at that moment (seen at resets), and sent nothing.
    case ERRNO.EFAULT: {
      const text = `${address}: the kernel could not take the command's memory (${name}): ${what}`
      return { status: LATER, error: new OutOfMemoryError(text) }
    }
    case ERRNO.ENODEV:
    case ERRNO.ENXIO:
      return { status: NEVER, error: new DeviceRemovedError(`device removed: ${address} (${name})`) }
    case ERRNO.EACCES:
    case ERRNO.EPERM:
      return { status: NEVER, error: noRights(file, what, name) }
    case ERRNO.ENOMEM: {
      const text = `${address}: the kernel has no memory, or locks no more of it (RLIMIT_MEMLOCK): ${what}`
      return { status: NEVER, error: new OutOfMemoryError(text) }
    }
    case ERRNO.EINVAL:
    case ERRNO.EOPNOTSUPP:
    case ERRNO.ENOTTY: {
      const text = `${address}: the kernel's driver refuses the command (${name}), by its namespace, length or kind: ${what}`
      return { status: NEVER, error: new UnsupportedError(text) }
    }
  }
  const fields = { code: name, errno: error, syscall: 'ioctl', path: file }
  return { status: NEVER, error: new SystemCallError(what, fields) }
}

/** What a user without the rights for a command, or a file, has to do. */
export function noRights(file: string, what: string, name: string): SetupError {
  return new SetupError(
    `no rights for ${file} (${name}): ${what}; passing commands to the kernel's driver asks for CAP_SYS_ADMIN before Linux 6.2, ` +
      `and for rights on ${file} (a group by udev) and CAP_SYS_ADMIN for what changes the device from then on; as root it works, ` +
      'and by VFIO without root: unvme setup',
  )
}
