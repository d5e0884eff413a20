// Critical warnings of the SMART log, and the events that announce them.
// Trade-off: looked at when a temperature, threshold or warning changes; nothing is measured over time.

import { FEATURE } from '../../nvme/spec/features.ts'
import { CRITICAL_WARNING } from '../../nvme/spec/logs.ts'
import type { Controller } from './controller.ts'
import { EVENT, raiseEvent } from './events.ts'
import { featureValue } from './features.ts'

/** Per cent of spare below which a warning is due. */
export const SPARE_THRESHOLD = 10

/** Bits of CRITICAL_WARNING that hold now. */
export function criticalWarnings({ health, features }: Controller): number {
  const over = featureValue(features, FEATURE.TEMPERATURE_THRESHOLD, 0)
  const under = featureValue(features, FEATURE.TEMPERATURE_THRESHOLD, 1)
  const hot = health.temperature >= over || (under !== 0 && health.temperature <= under)
  const worn = health.availableSpare < SPARE_THRESHOLD
  return health.warnings | (hot ? CRITICAL_WARNING.TEMPERATURE : 0) | (worn ? CRITICAL_WARNING.SPARE : 0)
}

/** Raises an event for each warning that is new since `before`, where feature 0Bh asks for it. */
export function announceWarnings(c: Controller, before: number): void {
  const fresh = criticalWarnings(c) & ~before & featureValue(c.features, FEATURE.ASYNC_EVENT_CONFIGURATION)
  if ((fresh & CRITICAL_WARNING.TEMPERATURE) !== 0) raiseEvent(c.events, EVENT.TEMPERATURE)
  if ((fresh & CRITICAL_WARNING.SPARE) !== 0) raiseEvent(c.events, EVENT.SPARE)
  if ((fresh & ~(CRITICAL_WARNING.TEMPERATURE | CRITICAL_WARNING.SPARE) & 0xff) !== 0) {
    raiseEvent(c.events, EVENT.SUBSYSTEM_RELIABILITY)
  }
}

/** Namespace `nsid` changed: into the Changed Namespace List, and announced where feature 0Bh asks for it. */
export function announceNamespace(c: Controller, nsid: number): void {
  c.events.changed.add(nsid)
  if ((featureValue(c.features, FEATURE.ASYNC_EVENT_CONFIGURATION) & 0x100) !== 0) {
    raiseEvent(c.events, EVENT.NAMESPACE_CHANGED)
  }
}
