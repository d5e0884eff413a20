// commands: the dwords of admin commands that have fields in them, and Dataset Management's ranges.
// Trade-off: dwords, not commands: who sends them is the driver, who reads them the software controller.

export * from './dsm.ts'
export * from './firmware.ts'
export * from './log-page.ts'
export * from './maintenance.ts'
export * from './namespaces.ts'
