// `persistent-event-log`: its header, and each event with its type and time.
// Trade-off: what an event holds is shown as bytes, since each type has a layout of its own, and vendors theirs.

import {
  decodePersistentEventLog,
  PERSISTENT_EVENT,
  type PersistentEvent,
} from '../../../../lib/nvme/spec/logs/persistent-event.ts'
import { fields } from '../../output.ts'
import type { Shown } from '../show.ts'
import { dumpText, hexText } from '../text.ts'

const NAMES: Readonly<Record<number, string>> = {
  [PERSISTENT_EVENT.SMART]: 'SMART / Health Log Snapshot',
  [PERSISTENT_EVENT.FIRMWARE_COMMIT]: 'Firmware Commit',
  [PERSISTENT_EVENT.TIMESTAMP_CHANGE]: 'Timestamp Change',
  [PERSISTENT_EVENT.POWER_ON_OR_RESET]: 'Power-on or Reset',
  [PERSISTENT_EVENT.HARDWARE_ERROR]: 'NVM Subsystem Hardware Error',
  [PERSISTENT_EVENT.CHANGE_NAMESPACE]: 'Change Namespace',
  [PERSISTENT_EVENT.FORMAT_START]: 'Format NVM Start',
  [PERSISTENT_EVENT.FORMAT_COMPLETION]: 'Format NVM Completion',
  [PERSISTENT_EVENT.SANITIZE_START]: 'Sanitize Start',
  [PERSISTENT_EVENT.SANITIZE_COMPLETION]: 'Sanitize Completion',
  [PERSISTENT_EVENT.SET_FEATURE]: 'Set Feature',
  [PERSISTENT_EVENT.TELEMETRY_CREATED]: 'Telemetry Log Created',
  [PERSISTENT_EVENT.THERMAL_EXCURSION]: 'Thermal Excursion',
  [PERSISTENT_EVENT.VENDOR]: 'Vendor Specific',
  [PERSISTENT_EVENT.TCG]: 'TCG Defined',
}

const nameOf = ({ etype }: PersistentEvent) => NAMES[etype] ?? 'Reserved'
const timeText = (ms: number) => `${ms} ms (${new Date(ms).toISOString()})`

export function viewPersistentEvents(bytes: Uint8Array): Shown {
  const { events, seb, ...header } = decodePersistentEventLog(bytes)
  return {
    text() {
      const head = Object.entries({ ...header, ts: timeText(header.ts.timestamp) })
      return [
        fields(head.map(([name, value]) => [name, String(value)])),
        ...events.map((event, n) => eventText(event, n)),
        ...(events.length < header.tnev ? [`${events.length} of ${header.tnev} events were read`] : []),
      ].join('\n\n')
    },
    json: () => ({
      ...header,
      seb: Buffer.from(seb).toString('hex'),
      events: events.map(({ vsi, data, ...event }) => ({
        ...event,
        vsi: Buffer.from(vsi).toString('hex'),
        data: Buffer.from(data).toString('hex'),
      })),
    }),
  }
}

function eventText(event: PersistentEvent, n: number): string {
  const { etype, etype_rev, cntlid, ets, vsi, data } = event
  const body = Buffer.concat([vsi, data])
  return [
    `Event ${n}`,
    fields([
      ['type', `${hexText(etype)} (${nameOf(event)}), revision ${etype_rev}`],
      ['cntlid', cntlid],
      ['timestamp', timeText(ets.timestamp)],
      ['data', `${data.length} bytes, after ${vsi.length} of the vendor`],
    ]),
    ...(body.length > 0 ? [dumpText(body)] : []),
  ].join('\n')
}
