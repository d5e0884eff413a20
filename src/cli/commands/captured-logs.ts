// `unvme telemetry-log` and `persistent-event-log`: logs that the controller puts together before they are read.
// Trade-off: both are read whole in one session, since a reset may change what the next one would read.

import { NvmeError, UnsupportedError } from '../../../lib/errors.ts'
import type { Controller } from '../../../lib/nvme/host/controller.ts'
import { decodeHostBehavior, FEATURE } from '../../../lib/nvme/spec/features.ts'
import { LPA } from '../../../lib/nvme/spec/flags.ts'
import {
  decodePersistentEventHeader,
  decodeTelemetryHeader,
  LOG_PAGE,
  PERSISTENT_EVENT_ACTION,
  PERSISTENT_EVENT_HEADER_BYTES,
  TELEMETRY_BLOCK_BYTES,
  telemetryBytes,
} from '../../../lib/nvme/spec/logs.ts'
import { adminCommand } from '../admin/command.ts'
import { showCommand } from '../admin/show.ts'
import { isOutput, openOutput } from '../data.ts'
import { flag, required, value, valueOr } from '../define.ts'
import { print } from '../output.ts'
import { integer, namedNumber, text } from '../parse.ts'
import { withProgress } from '../transfer.ts'

const commands = () => import('../../../lib/nvme/host/admin-commands.ts')
const MAX_BYTES = 2 ** 30
const PART_BYTES = 2 ** 20
/** Of Host Behavior Support: extended telemetry data area 4 supported. */
const ETDAS_BYTE = 1

const telemetryLog = adminCommand({
  name: 'telemetry-log',
  group: 'Identify and logs',
  summary: 'Write the telemetry log of the controller to a file',
  details: `What is in it is the vendor's to know. The first 512 bytes are its header.

Data area 4 needs a controller that has it (bit 6 of LPA in unvme id-ctrl) and the feature Host Behavior Support, in \
which the command says that it takes that area (ETDAS), while it reads.`,
  options: {
    outputFile: required('FILE', text, 'where to write it', { short: 'o', also: ['-O'] }),
    hostGenerate: valueOr('N', integer({ max: 1 }), 1, '1: let the controller make new data; 0: as it is', {
      short: 'g',
    }),
    controllerInit: flag('the data that the controller has made by itself', { short: 'c' }),
    rae: flag('retain the asynchronous event of the page', { short: 'r' }),
    dataArea: valueOr('N', integer({ min: 1, max: 4 }), 3, 'up to which data area, 1 to 4', { short: 'd' }),
  },
  examples: [['telemetry-log 0a:00.0 -o telemetry.bin', 'for the support of the vendor']],
  async run({ handle: { controller }, options }) {
    const { getLogPage } = await commands()
    const { outputFile, hostGenerate, controllerInit, dataArea, rae } = options
    const quiet = isOutput(outputFile)
    const lid = controllerInit ? LOG_PAGE.TELEMETRY_CONTROLLER : LOG_PAGE.TELEMETRY_HOST
    const create = controllerInit ? 0 : hostGenerate
    const area = dataArea as 1 | 2 | 3 | 4
    const output = await openOutput(outputFile)
    let leaveArea4: (() => Promise<void>) | undefined
    try {
      if (area === 4) leaveArea4 = await enterArea4(controller)
      const header = await getLogPage(controller, lid, TELEMETRY_BLOCK_BYTES, { lsp: create, rae: true })
      const bytes = telemetryBytes(decodeTelemetryHeader(header), area)
      // The header again, this time as it is.
      await withProgress('telemetry-log', bytes, (onProgress) =>
        output.write(logParts(controller, lid, bytes, { rae, onProgress })),
      )
      if (!quiet) print(`telemetry-log: ${bytes} bytes written to ${outputFile}`)
    } finally {
      await output.close()
      await leaveArea4?.()
    }
  },
})

interface Reading {
  rae: boolean
  onProgress(bytes: number): void
}

/** A log page in parts: how long it is is the controller's word alone. */
async function* logParts(
  controller: Controller,
  lid: number,
  bytes: number,
  { rae, onProgress }: Reading,
): AsyncGenerator<Buffer> {
  const { getLogPage } = await commands()
  for (let lpo = 0; lpo < bytes; lpo += PART_BYTES) {
    const end = Math.min(bytes, lpo + PART_BYTES)
    yield await getLogPage(controller, lid, end - lpo, { lpo, rae: rae || end < bytes })
    onProgress(end)
  }
}

/**
 * Says to the controller that this host takes data area 4, where it does not know yet. Resolves with what takes that
 * back; rejects with UnsupportedError where the controller lacks the area or the feature.
 */
async function enterArea4(controller: Controller): Promise<() => Promise<void>> {
  const { getFeature, setFeature } = await commands()
  const { address } = controller.transport
  if ((controller.identity.lpa & LPA.TELEMETRY_AREA_4) === 0) {
    throw new UnsupportedError(
      `${address} has no telemetry data area 4 (bit 6 of LPA is 0): --data-area 3 is its last`,
    )
  }
  const { data } = await getFeature(controller, FEATURE.HOST_BEHAVIOR).catch((error: unknown) => {
    if (!(error instanceof NvmeError)) throw error
    throw new UnsupportedError(
      `${address} has no Host Behavior Support (feature 16h), which data area 4 needs: give --data-area 3`,
      { cause: error },
    )
  })
  if (decodeHostBehavior(data).etdas !== 0) return async () => {}
  const taking = Buffer.from(data)
  taking[ETDAS_BYTE] = 1
  await setFeature(controller, FEATURE.HOST_BEHAVIOR, 0, { data: taking })
  return async () => void (await setFeature(controller, FEATURE.HOST_BEHAVIOR, 0, { data }))
}

const { READ, ESTABLISH_AND_READ, RELEASE } = PERSISTENT_EVENT_ACTION

const shownLog = (bytes: Buffer) => ({
  bytes,
  show: async () => (await import('../admin/views/logs.ts')).viewPersistentEvents(bytes),
})

const persistentEventLog = showCommand({
  name: 'persistent-event-log',
  summary: 'Show the persistent event log: what happened to the device in its life',
  options: {
    action: valueOr(
      'ACTION',
      namedNumber({ read: READ, establish: ESTABLISH_AND_READ, release: RELEASE }),
      ESTABLISH_AND_READ,
      'establish (or 1): let the controller put the log together, read it, and release it; read (0): only read; release (2): only release, which shows the header',
      { short: 'a', fallbackText: 'establish' },
    ),
    logLen: value(
      'BYTES',
      integer({ min: PERSISTENT_EVENT_HEADER_BYTES, max: MAX_BYTES }),
      'bytes to read (default: all)',
      { short: 'l', also: ['--log_len'] },
    ),
  },
  examples: [['persistent-event-log 0a:00.0', 'every event with its time']],
  async read({ handle: { controller }, options }) {
    const { pels } = controller.identity
    const { getLogPage } = await commands()
    const read = (lsp: number, bytes: number) =>
      getLogPage(controller, LOG_PAGE.PERSISTENT_EVENT, bytes, { lsp })
    const header = await read(options.action, PERSISTENT_EVENT_HEADER_BYTES)
    if (options.action === RELEASE) return shownLog(header)
    const { tll } = decodePersistentEventHeader(header)
    // In units of 64 KiB: what the controller says beforehand is a bound for what the log says of itself.
    const most = pels === 0 ? MAX_BYTES : Math.min(MAX_BYTES, pels * 65_536)
    const whole = Math.max(PERSISTENT_EVENT_HEADER_BYTES, Number(tll))
    const log = await read(READ, Math.min(options.logLen ?? most, whole))
    if (options.action === ESTABLISH_AND_READ) await read(RELEASE, PERSISTENT_EVENT_HEADER_BYTES)
    return shownLog(log)
  },
})

export const capturedLogCommands = [telemetryLog, persistentEventLog]
