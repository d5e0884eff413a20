// `smart-log`: SMART / Health Information by nvme-cli's names.
// Trade-off: units stand beside the numbers in the text; JSON has the numbers as the log has them.

import { decodeSmartLog, type SmartLog } from '../../../../lib/nvme/spec/logs/smart.ts'
import type { Shown } from '../show.ts'
import { type BitRow, bitLines, dataUnitsText, hexText, rowLines, temperatureText, yesNo } from '../text.ts'

const WARNING_BITS: readonly BitRow[] = [
  [5, 5, yesNo('Persistent Memory Region read-only or unreliable')],
  [4, 4, yesNo('Volatile memory backup failed')],
  [3, 3, yesNo('Media read-only')],
  [2, 2, yesNo('NVM subsystem reliability degraded')],
  [1, 1, yesNo('Temperature over or under a threshold')],
  [0, 0, yesNo('Available spare below its threshold')],
]

export function viewSmart(bytes: Uint8Array): Shown {
  const log = decodeSmartLog(bytes)
  const sensors = sensorsOf(log)
  return {
    text(human) {
      const rows = Object.entries(smartTexts(log)).map(([name, value]) => ({ name, value }))
      const [warning, ...rest] = rows
      const bits = bitLines(log.critical_warning, WARNING_BITS)
      const temperatures = Object.entries(sensors).map(([name, kelvin]) => ({
        name: name.replace('temperature_sensor_', 'Temperature Sensor '),
        value: temperatureText(kelvin),
      }))
      return rowLines([{ ...warning!, bits }, ...rest, ...temperatures], human)
    },
    json() {
      const { temperature_sensors: _, thm_temp1_trans_count, thm_temp2_trans_count, ...rest } = log
      const { thm_temp1_total_time, thm_temp2_total_time, ...before } = rest
      const thermal = {
        thm_temp1_trans_count,
        thm_temp2_trans_count,
        thm_temp1_total_time,
        thm_temp2_total_time,
      }
      return { ...plain(before), ...sensors, ...thermal }
    },
  }
}

// 0: there is no such sensor.
function sensorsOf({ temperature_sensors }: SmartLog): Record<string, number> {
  const sensors = temperature_sensors.map((kelvin, i) => [`temperature_sensor_${i + 1}`, kelvin] as const)
  return Object.fromEntries(sensors.filter(([, kelvin]) => kelvin !== 0))
}

function smartTexts(log: SmartLog): Record<string, string> {
  return {
    critical_warning: hexText(log.critical_warning),
    temperature: temperatureText(log.temperature),
    available_spare: `${log.avail_spare}%`,
    available_spare_threshold: `${log.spare_thresh}%`,
    percentage_used: `${log.percent_used}%`,
    endurance_group_critical_warning: hexText(log.endurance_grp_critical_warning_summary),
    'Data Units Read': dataUnitsText(log.data_units_read),
    'Data Units Written': dataUnitsText(log.data_units_written),
    host_read_commands: String(log.host_read_commands),
    host_write_commands: String(log.host_write_commands),
    controller_busy_time: `${log.controller_busy_time} minutes`,
    power_cycles: String(log.power_cycles),
    power_on_hours: String(log.power_on_hours),
    unsafe_shutdowns: String(log.unsafe_shutdowns),
    media_errors: String(log.media_errors),
    num_err_log_entries: String(log.num_err_log_entries),
    'Warning Temperature Time': `${log.warning_temp_time} minutes`,
    'Critical Composite Temperature Time': `${log.critical_comp_time} minutes`,
    'Thermal Management T1 Trans Count': String(log.thm_temp1_trans_count),
    'Thermal Management T2 Trans Count': String(log.thm_temp2_trans_count),
    'Thermal Management T1 Total Time': `${log.thm_temp1_total_time} s`,
    'Thermal Management T2 Total Time': `${log.thm_temp2_total_time} s`,
  }
}

/** The decoded value with its 128-bit numbers as text, as nvme-cli prints them. */
function plain(value: object): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(value).map(([key, item]) => [key, typeof item === 'bigint' ? String(item) : item]),
  )
}
