// Controls: what a test or demonstration does to a controller while it runs, beside driving it.

import { addFault, removeFault } from '../faults/plan.ts'
import { prepareCut, updateSlowPath } from '../faults/slow-path.ts'
import { checkFault, type FaultRule } from '../faults/syntax.ts'
import type { Controller } from './controller.ts'
import { announceNamespace, announceWarnings, criticalWarnings } from './events.ts'
import { goFatal, vanish } from './state.ts'

/** Health values that can be set; see the SMART log. */
export interface HealthChange {
  /** Composite temperature in kelvin. */
  readonly temperature?: number
  /** Per cent left; under 10 is a critical warning. */
  readonly availableSpare?: number
  /** Per cent of its life used. */
  readonly percentageUsed?: number
  /** Bits of CRITICAL_WARNING that hold beside those of temperature and spare. */
  readonly warnings?: number
}

export type ControlMessage =
  | { readonly kind: 'fault'; readonly id: number; readonly rule: FaultRule }
  | { readonly kind: 'no-fault'; readonly id: number }
  | { readonly kind: 'no-faults' }
  | { readonly kind: 'latency'; readonly min: number; readonly max: number }
  | { readonly kind: 'health'; readonly change: HealthChange }
  | { readonly kind: 'namespace'; readonly nsid: number }
  | { readonly kind: 'fatal' }
  | { readonly kind: 'vanish'; readonly notify: boolean }

/** What can be done to a running controller. */
export interface SimControls {
  /** Adds a rule behind the others; it holds for commands that are fetched from now on. Returns its number. */
  addFault(rule: FaultRule): number
  /** Takes one rule away, by its number. */
  removeFault(id: number): void
  /** Takes all rules away, those of the address, too. */
  clearFaults(): void
  /** Time that each I/O command takes from now on, in milliseconds: fixed, or any from a range. */
  setLatency(min: number, max?: number): void
  /** Sets values of the SMART log; warnings that follow from them are announced. */
  setHealth(change: HealthChange): void
  /** Announces that a namespace changed (asynchronous event, Changed Namespace List). */
  namespaceChanged(nsid: number): void
  /** CSTS.CFS, until the controller is reset. */
  goFatal(): void
  /** Unplugs the device. `notify`: `onRemoved` is called, as by hot plug; else only registers tell. */
  vanish(options?: { notify?: boolean }): void
}

/** @param firstFault number of the first rule that is added: those of the address come before */
export function createControls(send: (message: ControlMessage) => void, firstFault: number): SimControls {
  let id = firstFault
  return {
    addFault(rule) {
      send({ kind: 'fault', id, rule: checkFault(rule) })
      return id++
    },
    removeFault: (id) => send({ kind: 'no-fault', id }),
    clearFaults: () => send({ kind: 'no-faults' }),
    setLatency: (min, max = min) => send({ kind: 'latency', min, max }),
    setHealth: (change) => send({ kind: 'health', change }),
    namespaceChanged: (nsid) => send({ kind: 'namespace', nsid }),
    goFatal: () => send({ kind: 'fatal' }),
    vanish: ({ notify = false } = {}) => send({ kind: 'vanish', notify }),
  }
}

/** The controller's side. */
export function applyControl(c: Controller, message: ControlMessage): void {
  switch (message.kind) {
    case 'fault':
      addFault(c.faults, message.rule, message.id)
      prepareCut(c)
      break
    case 'no-fault':
      removeFault(c.faults, message.id)
      break
    case 'no-faults':
      c.faults.rules = []
      break
    case 'latency':
      c.pending.latency = { min: message.min, max: message.max }
      break
    case 'health':
      changeHealth(c, message.change)
      break
    case 'namespace':
      announceNamespace(c, message.nsid)
      break
    case 'fatal':
      goFatal(c)
      break
    case 'vanish':
      vanish(c, message.notify)
      break
  }
  updateSlowPath(c)
}

function changeHealth(c: Controller, change: HealthChange): void {
  const before = criticalWarnings(c)
  Object.assign(c.health, change)
  announceWarnings(c, before)
}
