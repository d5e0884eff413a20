// Asynchronous events (NVMe 1.4 base, section 5.2): requests that wait, and events that wait for a request.
// Trade-off: an event that was reported keeps its type silent until the host has read the log that it names,
// as the specification asks; so no event can flood the host.

import { LOG_PAGE } from '../../nvme/spec/logs.ts'

export interface AsyncEvent {
  readonly type: number
  readonly info: number
  /** Log page that tells more, and whose reading lets the type speak again. */
  readonly log: number
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
  INVALID_DOORBELL_REGISTER: { type: 0, info: 0, log: LOG_PAGE.ERROR_INFORMATION },
  INVALID_DOORBELL_VALUE: { type: 0, info: 1, log: LOG_PAGE.ERROR_INFORMATION },
  SUBSYSTEM_RELIABILITY: { type: 1, info: 0, log: LOG_PAGE.SMART },
  TEMPERATURE: { type: 1, info: 1, log: LOG_PAGE.SMART },
  SPARE: { type: 1, info: 2, log: LOG_PAGE.SMART },
  NAMESPACE_CHANGED: { type: 2, info: 0, log: LOG_PAGE.CHANGED_NAMESPACES },
  SANITIZED: { type: 6, info: 1, log: LOG_PAGE.SANITIZE_STATUS },
  SANITIZED_DEALLOCATED: { type: 6, info: 2, log: LOG_PAGE.SANITIZE_STATUS },
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
export function readLog(events: Events, log: number): void {
  for (const { type, log: ofType } of Object.values(EVENT)) {
    if (ofType === log) events.silent &= ~(1 << type)
  }
}

/** Dword 0 of the completion that reports an event. */
export function encodeEvent({ type, info, log }: AsyncEvent): number {
  return type | (info << 8) | (log << 16)
}
