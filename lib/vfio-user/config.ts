// The device's configuration space: command register, and the switch of MSI-X.
// Trade-off: it outlives its clients, so everything that matters is written at each open, whatever it is then.

import { ProtocolError } from '../errors.ts'
import type { Channel } from './channel.ts'
import { CAPABILITY, CONFIG, MSIX, PCI_COMMAND, PCI_STATUS, REGION } from './constants.ts'
import { readRegion, writeRegion } from './device.ts'

export interface ConfigSpace {
  /** Memory and bus master on, INTx off. */
  enable(): void
  /** Bus master off: from now on the device starts no transfer. */
  disable(): void
  /** MSI-X Enable; does nothing where the device has no MSI-X. */
  enableMsix(on: boolean): void
}

// A chain of capabilities has at most so many: each takes 4 bytes of the first 256, behind the header.
const MAX_CAPABILITIES = 48

export function openConfigSpace(channel: Channel): ConfigSpace {
  const read16 = (offset: number) => readRegion(channel, REGION.CONFIG, offset, 2).readUInt16LE()
  const write16 = (offset: number, value: number) => {
    const data = Buffer.alloc(2)
    data.writeUInt16LE(value)
    writeRegion(channel, REGION.CONFIG, offset, data)
  }
  const msix = findMsix(channel, read16)
  const { MEMORY, BUS_MASTER, INTX_DISABLE } = PCI_COMMAND
  return {
    enable: () => write16(CONFIG.COMMAND, MEMORY | BUS_MASTER | INTX_DISABLE),
    disable: () => write16(CONFIG.COMMAND, MEMORY | INTX_DISABLE),
    enableMsix(on) {
      if (msix === 0) return
      const control = read16(msix + MSIX.CONTROL) & ~(MSIX.ENABLE | MSIX.FUNCTION_MASK)
      write16(msix + MSIX.CONTROL, on ? control | MSIX.ENABLE : control)
    },
  }
}

/** Offset of the MSI-X capability; 0 where there is none. */
function findMsix(channel: Channel, read16: (offset: number) => number): number {
  if ((read16(CONFIG.STATUS) & PCI_STATUS.CAPABILITIES) === 0) return 0
  let at = read16(CONFIG.CAPABILITIES) & 0xfc
  for (let i = 0; at !== 0; i++) {
    if (i === MAX_CAPABILITIES)
      throw new ProtocolError(`${channel.name}: a chain of capabilities without end`)
    const capability = read16(at)
    if ((capability & 0xff) === CAPABILITY.MSIX) return at
    at = (capability >>> 8) & 0xfc
  }
  return 0
}
