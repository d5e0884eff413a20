// Reads the error, SMART / health and firmware slot logs of a controller, on the modules of lib/ alone.
//
//   node dist/examples/admin/get-log-page.js [ADDRESS]

import {
  celsius,
  dataUnitsToBytes,
  decodeErrorLog,
  decodeFirmwareSlotLog,
  decodeSmartLog,
  decodeStatus,
  ERROR_LOG_ENTRY_BYTES,
  FIRMWARE_SLOT_LOG_BYTES,
  getLogPage,
  LOG_PAGE,
  SMART_LOG_BYTES,
} from 'unvme/nvme'
import { openAddress } from './open.ts'

const [address = 'sim:?size=64M'] = process.argv.slice(2)
const { controller } = await openAddress(address)

try {
  // As many entries as the controller keeps: ELPE is zero-based. Unused ones have an error count of 0.
  const errorBytes = (controller.identity.elpe + 1) * ERROR_LOG_ENTRY_BYTES
  const errors = decodeErrorLog(await getLogPage(controller, LOG_PAGE.ERROR_INFORMATION, errorBytes))
  const used = errors.filter(({ error_count }) => error_count > 0n)
  console.log(`errors: ${used.length} of ${errors.length} entries`)
  for (const { error_count, sqid, status_field, lba } of used) {
    console.log(`  ${error_count}: queue ${sqid}, LBA ${lba}, ${decodeStatus(status_field << 1).name}`)
  }

  const smart = decodeSmartLog(await getLogPage(controller, LOG_PAGE.SMART, SMART_LOG_BYTES))
  console.log(`temperature: ${celsius(smart.temperature)} °C (${smart.temperature} K)`)
  console.log(`spare: ${smart.avail_spare} %, used: ${smart.percent_used} %`)
  console.log(`read: ${dataUnitsToBytes(smart.data_units_read)} bytes`)
  console.log(`written: ${dataUnitsToBytes(smart.data_units_written)} bytes`)
  console.log(`power on: ${smart.power_on_hours} hours, ${smart.power_cycles} cycles`)

  const slots = await getLogPage(controller, LOG_PAGE.FIRMWARE_SLOT, FIRMWARE_SLOT_LOG_BYTES)
  const { afi, frs } = decodeFirmwareSlotLog(slots)
  frs.forEach((revision, i) => {
    if (revision !== '')
      console.log(`firmware slot ${i + 1}: ${revision}${afi.active === i + 1 ? ' (runs)' : ''}`)
  })
} finally {
  await controller.close()
}
