// Asynchronous events (NVMe 1.4 base, section 5.2): requests that wait, events that wait for a request, and the critical
// warnings of the SMART log that raise some, looked at when a temperature, threshold or warning changes.
// An event that was reported keeps its type silent until the host has read the log that it names,
// as the specification asks; so no event can flood the host.

import {
  ASYNC_ERROR,
  ASYNC_EVENT,
  ASYNC_NOTICE,
  ASYNC_NVM,
  ASYNC_SMART,
} from '../../nvme/spec/async-event.ts'
import { FEATURE } from '../../nvme/spec/features.ts'
import { CRITICAL_WARNING, LOG_PAGE } from '../../nvme/spec/logs.ts'
import type { Controller } from './controller.ts'
import { featureValue } from './features.ts'

export interface AsyncEvent {
  readonly type: number
  readonly info: number
  /** Log page that tells more, and whose reading lets the type speak again. */
  readonly lid: number
}

export interface Events {
  /** Identifiers of outstanding Asynchronous Event Request commands, oldest first. */
  requests: number[]
  queue: AsyncEvent[]
  /** Types that were reported and not yet read about: one bit each. */
  silent: number
  /** Namespaces that changed since the host last read their list. */
  changed: Set<number>
}

/** Asynchronous Event Request Limit: this many may be outstanding. */
export const EVENT_REQUESTS = 4

/** Events by name, as section 5.2.1 has them. */
export const EVENT = {
  INVALID_DOORBELL_REGISTER: {
    type: ASYNC_EVENT.ERROR,
    info: ASYNC_ERROR.INVALID_DOORBELL_REGISTER,
    lid: LOG_PAGE.ERROR_INFORMATION,
  },
  INVALID_DOORBELL_VALUE: {
    type: ASYNC_EVENT.ERROR,
    info: ASYNC_ERROR.INVALID_DOORBELL_VALUE,
    lid: LOG_PAGE.ERROR_INFORMATION,
  },
  SUBSYSTEM_RELIABILITY: { type: ASYNC_EVENT.SMART, info: ASYNC_SMART.RELIABILITY, lid: LOG_PAGE.SMART },
  TEMPERATURE: { type: ASYNC_EVENT.SMART, info: ASYNC_SMART.TEMPERATURE, lid: LOG_PAGE.SMART },
  SPARE: { type: ASYNC_EVENT.SMART, info: ASYNC_SMART.SPARE, lid: LOG_PAGE.SMART },
  NAMESPACE_CHANGED: {
    type: ASYNC_EVENT.NOTICE,
    info: ASYNC_NOTICE.NAMESPACE_ATTRIBUTE_CHANGED,
    lid: LOG_PAGE.CHANGED_NAMESPACES,
  },
  SANITIZED: {
    type: ASYNC_EVENT.IO_COMMAND_SET,
    info: ASYNC_NVM.SANITIZE_COMPLETED,
    lid: LOG_PAGE.SANITIZE_STATUS,
  },
  SANITIZED_DEALLOCATED: {
    type: ASYNC_EVENT.IO_COMMAND_SET,
    info: ASYNC_NVM.SANITIZE_COMPLETED_DEALLOCATED,
    lid: LOG_PAGE.SANITIZE_STATUS,
  },
} as const satisfies Record<string, AsyncEvent>

export function createEvents(): Events {
  return { requests: [], queue: [], silent: 0, changed: new Set() }
}

/** An event happened. It is reported as soon as a request waits and its type may speak. */
export function raiseEvent(events: Events, event: AsyncEvent): void {
  if (events.queue.some((other) => other.type === event.type && other.info === event.info)) return
  events.queue.push(event)
}

/** The next event that can be reported, with its request's identifier; both are taken. */
export function takeEvent(events: Events): { cid: number; event: AsyncEvent } | null {
  if (events.requests.length === 0) return null
  const at = events.queue.findIndex(({ type }) => (events.silent & (1 << type)) === 0)
  const event = events.queue[at]
  if (event === undefined) return null
  events.queue.splice(at, 1)
  events.silent |= 1 << event.type
  return { cid: events.requests.shift()!, event }
}

/** The host has read a log page and did not ask to retain its events. */
export function readLog(events: Events, lid: number): void {
  for (const event of Object.values(EVENT)) if (event.lid === lid) events.silent &= ~(1 << event.type)
}

/** Per cent of spare below which a warning is due. */
export const SPARE_THRESHOLD = 10

/** Bits of CRITICAL_WARNING that hold now. */
export function criticalWarnings({ health, features, backed }: Controller): number {
  // Health is the device's then, and so are its events.
  if (backed !== null) return 0
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
