// identify: the data structures that the Identify command answers with, and what to ask it for.
// Trade-off: each structure is one table with decoder and encoder; the command itself is the driver's.

export * from './cns.ts'
export * from './controller.ts'
export * from './descriptors.ts'
export * from './flags.ts'
export * from './independent.ts'
export * from './lists.ts'
export * from './namespace.ts'
