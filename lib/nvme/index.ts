// nvme: the NVMe specification as code, and the driver of one controller behind any PCI function.
// Trade-off: encoding and decoding stand side by side, so that the software controller uses the same tables.

export * from './identify/index.ts'
export * from './opcodes.ts'
export * from './registers.ts'
export * from './status.ts'
