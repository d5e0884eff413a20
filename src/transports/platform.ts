// What memory that is shared with a device, or with what stands in for one, needs of the machine.

import { UnsupportedError } from '../../lib/errors.ts'
import { showText } from '../../lib/sys/show.ts'

/**
 * Throws UnsupportedError on another system than Linux; and on another processor than x86-64, whose order of loads and
 * stores rings count on, unless the other side of them is `inline`: in this thread.
 */
export function checkPlatform(address: string, { inline = false } = {}): void {
  const { platform, arch } = process
  if (platform === 'linux' && (inline || arch === 'x64')) return
  const needed = inline ? 'Linux' : 'Linux on x86-64'
  throw new UnsupportedError(`${showText(address)}: ${needed} is needed, this is ${platform} on ${arch}`)
}
