// sim: the software NVMe controller, as a PCI function in this process.

export { parseSimAddress, SIM_OPTIONS, type SimConfig, type SimOption } from './address.ts'
export type { FaultAction, FaultRule } from './faults/syntax.ts'
export type { SimActivity, SimFunction } from './function.ts'
export { type CapsuleBlock, type CapsuleDone, type CapsuleSim, hostCapsules } from './hosts/capsules.ts'
export { type HostedSim, hostedDoorbellBytes, hostSim } from './hosts/hosted.ts'
export type { Backing, BackingBlock, BackingDone, BackingNamespace } from './model/backing.ts'
export type { HealthChange, SimControls } from './model/controls.ts'
export { openSim, type SimOptions } from './open.ts'
