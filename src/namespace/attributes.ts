// UNVMe's attributes of a namespace, by UNVMe's names.
// Trade-off: plain numbers and strings, read once at open: a namespace that changes needs a new open.

import type { Device } from '../controller/device.ts'
import { type Geometry, PAGE_SIZE } from '../queue/geometry.ts'

/** UNVMe's attributes of a namespace. */
export class NamespaceAttributes {
  /** Namespace id. */
  readonly id: number
  /** PCI vendor id, model, serial number and firmware revision of the controller. */
  readonly vid: number
  readonly mn: string
  readonly sn: string
  readonly fr: string
  /** The address it was opened by. */
  readonly device: string
  /** LBAs of the namespace, and bytes in one: 2^blockshift. */
  readonly blockcount: number
  readonly blocksize: number
  readonly blockshift: number
  /** Bytes in a memory page, 2^pageshift, and whole pages in the namespace. */
  readonly pagesize: number = PAGE_SIZE
  readonly pageshift: number = 12
  readonly pagecount: number
  /** Shift from blocks to pages, and blocks in a page (at least 1). */
  readonly bpshift: number
  readonly nbpp: number
  /** Most blocks and pages of one command; calls take any number and split. */
  readonly maxbpio: number
  readonly maxppio: number
  /** Most commands in flight in one queue: one less than its entries. */
  readonly maxiopq: number
  /** Queues that are open, ids 0 to qcount - 1, and most that the device has. */
  readonly qcount: number
  readonly maxqcount: number
  /** Entries of each queue, and most that the device allows. */
  readonly qsize: number
  readonly maxqsize: number
  /** Active namespaces of the controller. */
  readonly nscount: number

  constructor(device: Device, geometry: Geometry, address: string) {
    const { controller } = device
    this.id = geometry.nsid
    this.device = address
    this.vid = controller.identity.vid
    this.mn = controller.identity.mn
    this.sn = controller.identity.sn
    this.fr = controller.identity.fr
    this.blockcount = geometry.blockcount
    this.blocksize = geometry.blocksize
    this.blockshift = geometry.blockshift
    this.bpshift = Math.max(0, 12 - geometry.blockshift)
    this.nbpp = 2 ** this.bpshift
    this.pagecount = Math.floor((geometry.blockcount * geometry.blocksize) / PAGE_SIZE)
    this.maxbpio = geometry.maxbpio
    this.maxppio = Math.floor((geometry.maxbpio * geometry.blocksize) / PAGE_SIZE)
    this.qcount = device.queues.length
    this.qsize = device.qsize
    this.maxiopq = device.qsize - 1
    this.maxqcount = device.maxqcount
    this.maxqsize = controller.cap.mqes
    this.nscount = device.namespaces.length
  }
}
