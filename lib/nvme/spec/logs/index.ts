// logs: the log pages that Get Log Page answers with, decoded and encoded.
// Trade-off: keys are nvme-cli's where it has them, and the specification's field names elsewhere.

export * from './changed-namespaces.ts'
export * from './effects.ts'
export * from './error.ts'
export * from './firmware.ts'
export * from './ids.ts'
export * from './persistent-event.ts'
export * from './sanitize.ts'
export * from './self-test.ts'
export * from './smart.ts'
export * from './telemetry.ts'
