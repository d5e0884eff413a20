// Asynchronous events of one host's controller (NVMe 2.0 base, section 5.2): which are due, which were reported, and the two
// logs that tell the host what they are of.

import { encodeChangedNamespaces, LOG_PAGE } from '../../../lib/nvme/spec/logs.ts'
import { STATUS } from '../../../lib/nvme/spec/status.ts'
import type { CommandDone } from '../../../lib/nvme/tcp/target/index.ts'
import { EVENT_REQUESTS, refuse } from './subsystem.ts'

const MOST_NOTICES = 64

/** Events: which feature bit lets them come, what they say, and the log that lets the next one come. */
const EVENTS = {
  namespace: { mask: 1 << 8, dword: 0x04_0002, lid: LOG_PAGE.CHANGED_NAMESPACES },
  ana: { mask: 1 << 11, dword: 0x0c_0302, lid: LOG_PAGE.ASYMMETRIC_NAMESPACE_ACCESS },
  reservation: { mask: 0, dword: 0x80_0006, lid: LOG_PAGE.RESERVATION_NOTIFICATION },
} as const
type EventName = keyof typeof EVENTS

/** A reservation notification, as its log has it. */
interface Notice {
  /** Counts those of all hosts. */
  readonly page: number
  readonly type: number
  readonly nsid: number
}

export class HostEvents {
  readonly #wanted: () => number
  readonly #requests: CommandDone[] = []
  // Events that wait for a request, and those that were reported and whose log was not read since.
  readonly #pending = new Set<EventName>()
  readonly #reported = new Set<EventName>()
  readonly #changed = new Set<number>()
  readonly #notices: Notice[] = []

  /** @param wanted the feature Asynchronous Event Configuration, as it is now */
  constructor(wanted: () => number) {
    this.#wanted = wanted
  }

  /** Takes a request, which waits for an event. */
  request(done: CommandDone): void {
    if (this.#requests.length >= EVENT_REQUESTS) {
      refuse(done, STATUS.ASYNC_EVENT_REQUEST_LIMIT_EXCEEDED)
      return
    }
    this.#requests.push(done)
    this.report()
  }

  /** Takes a request back; false where it is none that waits. */
  withdraw(done: CommandDone): boolean {
    const at = this.#requests.indexOf(done)
    if (at >= 0) this.#requests.splice(at, 1)
    return at >= 0
  }

  addChangedNamespace(nsid: number): void {
    this.#changed.add(nsid)
  }

  addNotice(notice: Notice): void {
    if (this.#notices.length >= MOST_NOTICES) this.#notices.shift()
    this.#notices.push(notice)
  }

  /** Something has happened that the host may want to know of. */
  add(name: EventName): void {
    this.#pending.add(name)
    this.report()
  }

  /** Ends requests by events that are due, wanted, and not reported already. */
  report(): void {
    const wanted = this.#wanted()
    for (const name of this.#pending) {
      const { mask, dword } = EVENTS[name]
      if (this.#reported.has(name) || (mask !== 0 && (wanted & mask) === 0)) continue
      const done = this.#requests.shift()
      if (done === undefined) return
      this.#pending.delete(name)
      this.#reported.add(name)
      done(0, dword)
    }
  }

  /** The log was read, and its event may come again. */
  wasRead(lid: number): void {
    if (lid === EVENTS.namespace.lid) this.#changed.clear()
    if (lid === EVENTS.reservation.lid) {
      this.#notices.shift()
      if (this.#notices.length > 0) this.#pending.add('reservation')
    }
    for (const name of this.#reported) if (EVENTS[name].lid === lid) this.#reported.delete(name)
    this.report()
  }

  /** Changed Namespace List (log page 04h). */
  changedNamespaces(): Uint8Array {
    return encodeChangedNamespaces({ nsids: [...this.#changed].sort((a, b) => a - b) })
  }

  /** Reservation Notification (log page 80h): the oldest, and how many more there are. */
  notice(): Uint8Array {
    const page = Buffer.alloc(64)
    const [notice] = this.#notices
    if (notice === undefined) return page
    page.writeBigUInt64LE(BigInt(notice.page), 0)
    page[8] = notice.type
    page[9] = Math.min(255, this.#notices.length - 1)
    page.writeUInt32LE(notice.nsid, 12)
    return page
  }

  /** The controller was disabled: requests get no answer. */
  reset(): void {
    this.#pending.clear()
    this.#reported.clear()
    this.#changed.clear()
    for (const done of this.#requests.splice(0)) done(-1, 0)
  }
}
