// What PCI functions, and what stands in for them, need of the machine: memory that they share, ordered as x86-64 orders it.

import { UnsupportedError } from '../../lib/errors.ts'
import { showText } from '../../lib/sys/show.ts'

/** Throws UnsupportedError on another system or processor. */
export function checkPlatform(address: string): void {
  const { platform, arch } = process
  if (platform === 'linux' && arch === 'x64') return
  throw new UnsupportedError(
    `${showText(address)}: Linux on x86-64 is needed, this is ${platform} on ${arch}`,
  )
}
