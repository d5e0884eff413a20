// What errors of the kernel's driver become: each with its code, and whether the command may be sent again.

import test from 'ava'
import { DeviceRemovedError } from '../../lib/errors.ts'
import { faultOf } from '../../lib/nvme/linux/faults.ts'
import { mayPass } from '../../lib/nvme/spec/status.ts'
import { ERRNO } from '../../lib/sys/libc.ts'

const context = { address: '/dev/nvme0', file: '/dev/ng0n1', what: 'Write (opcode 01h)', health: () => null }

const KNOWN: [errno: number | undefined, code: string, again: boolean, text: RegExp][] = [
  [ERRNO.EINTR, 'ERR_UNVME_OUTCOME_UNKNOWN', true, /outcome unknown.*Write/],
  [ERRNO.EAGAIN, 'ERR_UNVME_CONTROLLER_FATAL', true, /busy in the kernel \(EAGAIN\).*Write/],
  [ERRNO.EBUSY, 'ERR_UNVME_CONTROLLER_FATAL', true, /busy in the kernel \(EBUSY\)/],
  [ERRNO.ENODEV, 'ERR_UNVME_DEVICE_REMOVED', false, /\/dev\/nvme0 \(ENODEV\)/],
  [ERRNO.ENXIO, 'ERR_UNVME_DEVICE_REMOVED', false, /ENXIO/],
  [ERRNO.EACCES, 'ERR_UNVME_SETUP', false, /\/dev\/ng0n1 \(EACCES\).*CAP_SYS_ADMIN.*group.*unvme setup/],
  [ERRNO.EPERM, 'ERR_UNVME_SETUP', false, /EPERM/],
  [ERRNO.ENOMEM, 'ERR_UNVME_OUT_OF_MEMORY', false, /RLIMIT_MEMLOCK/],
  [ERRNO.EINVAL, 'ERR_UNVME_UNSUPPORTED', false, /refuses the command \(EINVAL\)/],
  [ERRNO.EFAULT, 'ERR_UNVME_OUT_OF_MEMORY', true, /could not take.*EFAULT.*Write/],
  [ERRNO.EIO, 'EIO', false, /Write/],
]

for (const [errno, code, again, text] of KNOWN) {
  test(`faultOf: errno ${errno} is ${code}, ${again ? 'and may pass' : 'for good'}`, (t) => {
    const { status, error } = faultOf(errno!, context)
    t.is((error as { code?: string }).code, code)
    t.regex(error.message, text)
    t.is(mayPass(status), again)
    t.not(status, 0)
  })
}

test('faultOf: whatever the kernel says of a device that is gone, it was removed', (t) => {
  const gone = new DeviceRemovedError('device removed')
  const { status, error } = faultOf(ERRNO.EINTR!, { ...context, health: () => gone })
  t.is(error, gone)
  t.false(mayPass(status))
})
