// Opens the controller of any address with the modules of lib/ alone: what `open` of unvme does for whole
// namespaces, in a few lines. Used by the other programs in this folder.
//
// The modules vfio, vfio-user, sim and nvme do not know each other, so that each can be used without the others;
// this is where they meet. No queues for reads and writes are made.

import { type Controller, createController, openPcieTransport } from 'unvme/nvme'
import { type PciFunction, parseNamespaceName } from 'unvme/pci'
import { openSim, parseSimAddress } from 'unvme/sim'
import { openVfio } from 'unvme/vfio'
import { openVfioUser, parseVfioUserAddress } from 'unvme/vfio-user'
import '../support/one-line.ts'

/** A controller that is ready for admin commands, and the namespace that the address names (1 where it names none). */
interface Opened {
  controller: Controller
  nsid: number
}

/** Opens `0a:00.0/1`, `sim:disk.img?lba=4096` or `vfio-user:/run/nvme/cntrl`. Close its controller in the end. */
export async function openAddress(address: string): Promise<Opened> {
  const { nsid, connect } = targetOf(address)
  return { controller: await createController(await openPcieTransport(await connect())), nsid: nsid ?? 1 }
}

interface Target {
  nsid: number | undefined
  connect(): Promise<PciFunction>
}

function targetOf(address: string): Target {
  if (address.startsWith('sim:')) {
    return { nsid: parseSimAddress(address).nsid, connect: () => openSim(address) }
  }
  if (address.startsWith('vfio-user:')) {
    const { path, nsid } = parseVfioUserAddress(address)
    return { nsid, connect: () => openVfioUser(path) }
  }
  const { pciName, nsid } = parseNamespaceName(address)
  return { nsid, connect: () => openVfio(pciName) }
}
