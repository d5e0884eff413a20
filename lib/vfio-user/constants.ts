// The vfio-user protocol by number (version 0.1): commands, flags, regions and interrupts of a PCI device.

export const MAJOR = 0
export const MINOR = 1

/** Commands; those from 11 on go either way, a server may send DMA_READ and DMA_WRITE to its client. */
export const COMMAND = {
  VERSION: 1,
  DMA_MAP: 2,
  DMA_UNMAP: 3,
  GET_INFO: 4,
  GET_REGION_INFO: 5,
  GET_REGION_IO_FDS: 6,
  GET_IRQ_INFO: 7,
  SET_IRQS: 8,
  REGION_READ: 9,
  REGION_WRITE: 10,
  DMA_READ: 11,
  DMA_WRITE: 12,
  DEVICE_RESET: 13,
} as const

const NAMES = new Map<number, string>(Object.entries(COMMAND).map(([name, command]) => [command, name]))

/** `DMA_MAP` and the like. */
export const commandName = (command: number): string => NAMES.get(command) ?? `command ${command}`

/** Bits of a header's flags: its type, and what else is said of the message. */
export const FLAGS = { TYPE: 0xf, REPLY: 1, NO_REPLY: 0x10, ERROR: 0x20 } as const

export const UNMAP_FLAGS = { ALL: 2 } as const

/** BARs of a served controller that hold MSI-X's tables. */
export const MSIX_BAR = { TABLE: 4, PBA: 5 } as const

/** Configuration space: offsets and bits (PCI 3.0, 6.1 and 6.8.2). */
export const CONFIG = { STATUS: 0x06, CAPABILITIES: 0x34 } as const
export const PCI_STATUS = { CAPABILITIES: 0x10 } as const
export const CAPABILITY = { POWER: 0x01, PCIE: 0x10, MSIX: 0x11 } as const
export const MSIX = { CONTROL: 2, ENABLE: 0x8000, FUNCTION_MASK: 0x4000, TABLE_SIZE: 0x7ff } as const

/** What each side takes: descriptors in a message, mappings, and bytes of data in one region access. */
export const MAX_FDS = 8
export const MAX_MAPPINGS = 64
export const MAX_DATA_BYTES = 2 ** 20
/** The longest message: data, with room for the structure in front of it. */
export const MAX_MESSAGE_BYTES = MAX_DATA_BYTES + 4096
