// setup: which NVMe devices the machine has and who uses them, and moving them between the kernel and VFIO.

export { type Account, type Machine, thisMachine } from '../system/machine.ts'
export type { Use } from '../system/uses.ts'
export {
  bindSteps,
  groupReasons,
  handOverSteps,
  loadSteps,
  type Plan,
  planBind,
  type Refusal,
  undoSteps,
} from './bind.ts'
export { type Check, checkSystem, mendMemlock } from './checks.ts'
export { type KernelNamespace, listDevices, listRemoteControllers, type NvmeDevice } from './inventory.ts'
export { blockDevices, planReset, resetSteps } from './reset.ts'
export { perform, type Step, stepText } from './steps.ts'
