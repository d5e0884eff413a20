// SMART / Health Information log page (NVMe 1.4 base, section 5.14.1.2, figure 196). Keys are nvme-cli's.
// Trade-off: 128-bit counters are bigints even where small, so that sums never lose a unit.

import { type Decoded, type Encodable, list, structure, u8, u16, u32, u128 } from '../codec.ts'

export const SMART_LOG_BYTES = 512

/** Bits of `critical_warning`. */
export const CRITICAL_WARNING = {
  /** Available spare is below its threshold. */
  SPARE: 0x01,
  /** A temperature is over or under its threshold. */
  TEMPERATURE: 0x02,
  /** Media or internal errors make the NVM subsystem less reliable. */
  RELIABILITY: 0x04,
  /** All media are read-only. */
  READ_ONLY: 0x08,
  /** The volatile memory backup device failed. */
  VOLATILE_BACKUP: 0x10,
  /** The persistent memory region is read-only or unreliable. */
  PMR: 0x20,
} as const

const layout = {
  /** See CRITICAL_WARNING. */
  critical_warning: [0, u8],
  /** Composite temperature in kelvin: see `celsius`. */
  temperature: [1, u16],
  /** Spare capacity that is left, its threshold, and life that is used, in per cent; used may pass 100. */
  avail_spare: [3, u8],
  spare_thresh: [4, u8],
  percent_used: [5, u8],
  endurance_grp_critical_warning_summary: [6, u8],
  /** In units of 1000 times 512 bytes, rounded up: see `dataUnitsToBytes`. */
  data_units_read: [32, u128],
  data_units_written: [48, u128],
  host_read_commands: [64, u128],
  host_write_commands: [80, u128],
  /** In minutes. */
  controller_busy_time: [96, u128],
  power_cycles: [112, u128],
  power_on_hours: [128, u128],
  unsafe_shutdowns: [144, u128],
  media_errors: [160, u128],
  num_err_log_entries: [176, u128],
  /** Minutes above the warning and the critical composite temperature. */
  warning_temp_time: [192, u32],
  critical_comp_time: [196, u32],
  /** Temperature sensors 1 to 8 in kelvin; 0 where there is none. */
  temperature_sensors: [200, list(8, u16)],
  /** Thermal management temperatures 1 and 2: transitions, and seconds. */
  thm_temp1_trans_count: [216, u32],
  thm_temp2_trans_count: [220, u32],
  thm_temp1_total_time: [224, u32],
  thm_temp2_total_time: [228, u32],
} as const

const smart = structure('SMART / Health Information Log', SMART_LOG_BYTES, layout)

export interface SmartLog extends Decoded<typeof layout> {}

/** Decodes 512 bytes; throws DecodeError on fewer. */
export function decodeSmartLog(bytes: Uint8Array): SmartLog {
  return smart.decode(bytes)
}

/** Encodes 512 bytes. Fields left out are zero; throws OutOfRangeError for a value that does not fit. */
export function encodeSmartLog(value: Encodable<typeof layout>, target?: Uint8Array): Uint8Array {
  return smart.encode(value, target)
}

/** Kelvin, as in logs, thresholds and Identify, in whole degrees Celsius. */
export function celsius(kelvin: number): number {
  return kelvin - 273
}

/** Data units of the SMART log in bytes. */
export function dataUnitsToBytes(units: bigint): bigint {
  return units * 512_000n
}
