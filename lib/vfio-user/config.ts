// The device's configuration space: command register, and the switch of MSI-X.
// It outlives its clients, so everything that matters is written at each open, whatever it is then.

import { ProtocolError } from '../errors.ts'
import { CONFIG_COMMAND, PCI_COMMAND, REGION } from '../vfio-abi/device.ts'
import type { Channel, Request } from './channel.ts'
import { CAPABILITY, CONFIG, MSIX, PCI_STATUS } from './constants.ts'
import { regionRead, regionWrite } from './device.ts'

export interface ConfigSpace {
  /** Memory and bus master on, INTx off. */
  enable(): Promise<void>
  /** Bus master off, as a request: from then on the device starts no transfer. */
  readonly disable: Request<void>
  /** MSI-X Enable; does nothing where the device has no MSI-X. */
  enableMsix(on: boolean): Promise<void>
}

// A chain of capabilities has at most so many: each takes 4 bytes of the first 256, behind the header.
const MAX_CAPABILITIES = 48

export async function openConfigSpace(channel: Channel): Promise<ConfigSpace> {
  const read16 = async (offset: number) =>
    (await channel.request(regionRead(REGION.CONFIG, offset, 2))).readUInt16LE()
  const msix = await findMsix(channel, read16)
  const { MEMORY, BUS_MASTER, INTX_DISABLE } = PCI_COMMAND
  return {
    enable: () => channel.request(write16(CONFIG_COMMAND, MEMORY | BUS_MASTER | INTX_DISABLE)),
    disable: write16(CONFIG_COMMAND, MEMORY | INTX_DISABLE),
    async enableMsix(on) {
      if (msix === 0) return
      const control = (await read16(msix + MSIX.CONTROL)) & ~(MSIX.ENABLE | MSIX.FUNCTION_MASK)
      await channel.request(write16(msix + MSIX.CONTROL, on ? control | MSIX.ENABLE : control))
    },
  }
}

function write16(offset: number, value: number): Request<void> {
  const data = Buffer.alloc(2)
  data.writeUInt16LE(value)
  return regionWrite(REGION.CONFIG, offset, data)
}

/** Offset of the MSI-X capability; 0 where there is none. */
async function findMsix(channel: Channel, read16: (offset: number) => Promise<number>): Promise<number> {
  if (((await read16(CONFIG.STATUS)) & PCI_STATUS.CAPABILITIES) === 0) return 0
  let at = (await read16(CONFIG.CAPABILITIES)) & 0xfc
  for (let i = 0; at !== 0; i++) {
    if (i === MAX_CAPABILITIES)
      throw new ProtocolError(`${channel.name}: a chain of capabilities without end`)
    const capability = await read16(at)
    if ((capability & 0xff) === CAPABILITY.MSIX) return at
    at = (capability >>> 8) & 0xfc
  }
  return 0
}
