// features: what Get Features and Set Features carry, in dwords and in data.
// Trade-off: values by identifier in tables, so that tools can show any feature, and typed where it is named.

export * from './data.ts'
export * from './dwords.ts'
export * from './host.ts'
export * from './ids.ts'
export * from './select.ts'
