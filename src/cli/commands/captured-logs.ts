// `unvme telemetry-log` and `persistent-event-log`: logs that the controller puts together before they are read.
// Trade-off: both are read whole in one session, since a reset may change what the next one would read.

import { LOG_PAGE } from '../../../lib/nvme/logs/ids.ts'
import {
  decodePersistentEventHeader,
  PERSISTENT_EVENT_ACTION,
  PERSISTENT_EVENT_HEADER_BYTES,
} from '../../../lib/nvme/logs/persistent-event.ts'
import {
  decodeTelemetryHeader,
  TELEMETRY_BLOCK_BYTES,
  telemetryBytes,
} from '../../../lib/nvme/logs/telemetry.ts'
import { adminCommand } from '../admin/command.ts'
import { showCommand } from '../admin/show.ts'
import { isOutput, writeData } from '../data.ts'
import { flag, required, value, valueOr } from '../define.ts'
import { print } from '../output.ts'
import { integer, namedNumber, text } from '../parse.ts'

const commands = () => import('../../../lib/nvme/admin-commands.ts')
const MAX_BYTES = 2 ** 30

const telemetryLog = adminCommand({
  name: 'telemetry-log',
  group: 'Identify and logs',
  summary: 'Write the telemetry log of the controller to a file',
  details: "What is in it is the vendor's to know. The first 512 bytes are its header.",
  options: {
    outputFile: required('FILE', text, 'where to write it', { short: 'o' }),
    hostGenerate: valueOr(
      'N',
      integer({ max: 1 }),
      1,
      '1: let the controller make its data anew; 0: as it is',
      {
        short: 'g',
      },
    ),
    controllerInit: flag('the data that the controller has made by itself', { short: 'c' }),
    dataArea: valueOr('N', integer({ min: 1, max: 4 }), 3, 'up to which data area, 1 to 4', { short: 'd' }),
  },
  examples: [['telemetry-log 0a:00.0 -o telemetry.bin', 'for the support of the vendor']],
  async run({ handle: { controller }, options }) {
    const { getLogPage } = await commands()
    const { outputFile, hostGenerate, controllerInit, dataArea } = options
    const quiet = await isOutput(outputFile)
    const lid = controllerInit ? LOG_PAGE.TELEMETRY_CONTROLLER : LOG_PAGE.TELEMETRY_HOST
    const create = controllerInit ? 0 : hostGenerate
    const header = await getLogPage(controller, lid, TELEMETRY_BLOCK_BYTES, { lsp: create, rae: true })
    const bytes = telemetryBytes(decodeTelemetryHeader(header), dataArea as 1 | 2 | 3 | 4)
    // The header again, this time without making the data anew.
    await writeData(outputFile, await getLogPage(controller, lid, bytes))
    if (!quiet) print(`telemetry-log: ${bytes} bytes written to ${outputFile}`)
  },
})

const { READ, ESTABLISH_AND_READ, RELEASE } = PERSISTENT_EVENT_ACTION

const persistentEventLog = showCommand({
  name: 'persistent-event-log',
  summary: 'Show the persistent event log: what happened to the device in its life',
  options: {
    action: valueOr(
      'ACTION',
      namedNumber({ read: READ, establish: ESTABLISH_AND_READ }),
      ESTABLISH_AND_READ,
      'establish (or 1): let the controller put the log together, read it, and release it; read (0): only read',
      { short: 'a', fallbackText: 'establish' },
    ),
    logLen: value(
      'BYTES',
      integer({ min: PERSISTENT_EVENT_HEADER_BYTES, max: MAX_BYTES }),
      'bytes to read (default: all)',
      {
        short: 'l',
      },
    ),
  },
  examples: [['persistent-event-log 0a:00.0', 'every event with its time']],
  async read({ handle: { controller }, options }) {
    const { getLogPage } = await commands()
    const { viewPersistentEvents } = await import('../admin/views/persistent-event.ts')
    const read = (lsp: number, bytes: number) =>
      getLogPage(controller, LOG_PAGE.PERSISTENT_EVENT, bytes, { lsp })
    const header = await read(options.action, PERSISTENT_EVENT_HEADER_BYTES)
    const { tll } = decodePersistentEventHeader(header)
    const whole = Math.max(PERSISTENT_EVENT_HEADER_BYTES, Number(tll))
    const log = await read(READ, Math.min(options.logLen ?? MAX_BYTES, whole))
    if (options.action === ESTABLISH_AND_READ) await read(RELEASE, PERSISTENT_EVENT_HEADER_BYTES)
    return viewPersistentEvents(log)
  },
})

export const capturedLogCommands = [telemetryLog, persistentEventLog]
