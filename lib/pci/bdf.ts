// PCI names: `BB:DD.F` or `DDDD:BB:DD.F`, and `/nsid` after them for a namespace.
// Always formatted with the domain, as the kernel does, though people type them without.

import { AddressError } from '../errors.ts'

export interface PciName {
  /** 0 to ffffh on most machines; a VMD or hypervisor may number domains above. */
  domain: number
  bus: number
  device: number
  function: number
}

const NAME = /^(?:([0-9a-f]{4,8}):)?([0-9a-f]{1,2}):([0-9a-f]{1,2})\.([0-7])$/i
const MAX_DEVICE = 0x1f
// FFFFFFFFh means all namespaces, FFFFFFFEh is the last that may be valid (NVMe 1.4 base, 6.1.2).
const MAX_NSID = 0xffff_fffe

/**
 * Parses a PCI name, hexadecimal, with or without domain. Throws AddressError.
 */
export function parsePciName(text: string): PciName {
  const match = NAME.exec(text)
  if (match === null) {
    throw new AddressError(`'${text}' is no PCI name: BB:DD.F or DDDD:BB:DD.F is needed, as 0a:00.0`)
  }
  const hex = (digits = '0') => Number.parseInt(digits, 16)
  const name = {
    domain: hex(match[1]),
    bus: hex(match[2]),
    device: hex(match[3]),
    function: hex(match[4]),
  }
  if (name.device > MAX_DEVICE) {
    throw new AddressError(`'${text}' is no PCI name: the device number goes from 00 to 1f`)
  }
  return name
}

/** The kernel's form, with the domain: `0000:0a:00.0`. */
export function formatPciName({ domain, bus, device, function: fn }: PciName): string {
  const hex = (value: number, digits: number) => value.toString(16).padStart(digits, '0')
  return `${hex(domain, 4)}:${hex(bus, 2)}:${hex(device, 2)}.${fn}`
}

/** The kernel's form of any accepted one. Throws AddressError. */
export function canonicalPciName(text: string): string {
  return formatPciName(parsePciName(text))
}

/** A device's PCI name, and a namespace of it. */
export interface NamespaceName {
  /** In the kernel's form. */
  pciName: string
  /** 1 where none was given. */
  nsid: number
}

/** Parses `0a:00.0/1` and the like: nsid is decimal, from 1 to FFFFFFFEh. Throws AddressError. */
export function parseNamespaceName(text: string): NamespaceName {
  const slash = text.indexOf('/')
  if (slash < 0) return { pciName: canonicalPciName(text), nsid: 1 }
  const pciName = canonicalPciName(text.slice(0, slash))
  const digits = text.slice(slash + 1)
  const nsid = /^[0-9]{1,10}$/.test(digits) ? Number(digits) : 0
  if (nsid < 1 || nsid > MAX_NSID) {
    throw new AddressError(`'${text}': a namespace id from 1 to ${MAX_NSID} is needed after the slash`)
  }
  return { pciName, nsid }
}

/** `0000:0a:00.0/1` */
export function formatNamespaceName({ pciName, nsid }: NamespaceName): string {
  return `${pciName}/${nsid}`
}
