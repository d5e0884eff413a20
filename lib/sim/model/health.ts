// What the controller counts of its own life, for the SMART and error logs.
// Plain numbers, exact to 2^53; the logs' 128-bit fields are made of them when they are read.

/** One entry of the error log. */
export interface ErrorEntry {
  readonly count: number
  readonly sqid: number
  readonly cid: number
  /** Bits 15:1 of the completion's last half dword: status without phase. */
  readonly status: number
  readonly opcode: number
  readonly nsid: number
  readonly lba: number
}

export const ERROR_ENTRIES = 64

export interface Health {
  /** Commands and 512-byte units; see COUNTER. */
  readonly counters: Float64Array
  /** Newest first. */
  errors: ErrorEntry[]
  errorCount: number
  mediaErrors: number
  powerCycles: number
  unsafeShutdowns: number
  /** When it was powered on, in milliseconds of the controller's clock. */
  poweredAt: number
  /** Milliseconds with delayed I/O commands outstanding. */
  busy: number
  busySince: number
  /** Composite temperature in kelvin. */
  temperature: number
  /** Critical warnings that the plan sets, beside those of temperature. */
  warnings: number
  /** Per cent, and may be over 100. */
  percentageUsed: number
  /** Per cent left. */
  availableSpare: number
}

/** Indices of Health.counters. */
export const COUNTER = { READS: 0, WRITES: 1, UNITS_READ: 2, UNITS_WRITTEN: 3 } as const

/** Adds commands, and what they moved in units of 512 bytes. */
export function countTransfers(
  counters: Float64Array,
  reads: number,
  unitsRead: number,
  writes: number,
  unitsWritten: number,
): void {
  counters[COUNTER.READS]! += reads
  counters[COUNTER.UNITS_READ]! += unitsRead
  counters[COUNTER.WRITES]! += writes
  counters[COUNTER.UNITS_WRITTEN]! += unitsWritten
}

export const ROOM_TEMPERATURE = 300

export function createHealth(now: number): Health {
  return {
    counters: new Float64Array(4),
    errors: [],
    errorCount: 0,
    mediaErrors: 0,
    powerCycles: 1,
    unsafeShutdowns: 0,
    poweredAt: now,
    busy: 0,
    busySince: -1,
    temperature: ROOM_TEMPERATURE,
    warnings: 0,
    percentageUsed: 0,
    availableSpare: 100,
  }
}

/** Adds to the error log; the oldest entry falls off. */
export function recordError(health: Health, entry: Omit<ErrorEntry, 'count'>): void {
  health.errorCount++
  health.errors.unshift({ ...entry, count: health.errorCount })
  if (health.errors.length > ERROR_ENTRIES) health.errors.pop()
}
