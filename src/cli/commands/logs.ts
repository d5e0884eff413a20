// `unvme smart-log` and the other log pages, `get-log` for any, and the two that the controller puts together before they are
// read: `telemetry-log` and `persistent-event-log`, each read whole in one session, since a reset may change what the next
// one would read.

import { NvmeError, UnsupportedError } from '../../../lib/errors.ts'
import type { GetLogPageOptions } from '../../../lib/nvme/host/admin-commands.ts'
import type { Controller } from '../../../lib/nvme/host/controller.ts'
import { ANA_GROUPS_ONLY, anaLogBytes } from '../../../lib/nvme/spec/ana.ts'
import { decodeHostBehavior, FEATURE } from '../../../lib/nvme/spec/features.ts'
import { CMIC, LPA } from '../../../lib/nvme/spec/flags.ts'
import {
  decodePersistentEventHeader,
  decodeTelemetryHeader,
  LOG_PAGE,
  logPageName,
  PERSISTENT_EVENT_ACTION,
  PERSISTENT_EVENT_HEADER_BYTES,
  TELEMETRY_BLOCK_BYTES,
  telemetryBytes,
} from '../../../lib/nvme/spec/logs.ts'
import { ALL_NAMESPACES } from '../../../lib/nvme/spec/opcodes.ts'
import type { ControllerHandle } from '../../index.ts'
import { type AdminContext, adminCommand, namespaceIdOption } from '../admin/command.ts'
import { type ShowDefinition, type Shown, type ShowOptions, showCommand } from '../admin/show.ts'
import { dumpText } from '../admin/text.ts'
import { isOutput, openOutput } from '../data.ts'
import { flag, required, type Specs, value, valueOr } from '../define.ts'
import { print } from '../output.ts'
import { bit, byte, dword, integer, namedNumber, size, text, word } from '../parse.ts'
import { withProgress } from '../transfer.ts'

type Views = typeof import('../admin/views/logs.ts')
const views = (): Promise<Views> => import('../admin/views/logs.ts')
const commands = () => import('../../../lib/nvme/host/admin-commands.ts')

interface LogDefinition<O extends Specs> extends Omit<ShowDefinition<O>, 'read'> {
  /** Which page, how many bytes of it, and what else is asked for. */
  page(
    context: AdminContext<ShowOptions<O>>,
  ): readonly [lid: number, bytes: number, options?: GetLogPageOptions]
  view(views: Views, bytes: Buffer, context: AdminContext<ShowOptions<O>>): Shown
}

/** A command that reads a page and shows it. */
function logCommand<const O extends Specs>({ page, view, ...definition }: LogDefinition<O>) {
  return showCommand<O>({
    ...definition,
    async read(context) {
      const { getLogPage } = await commands()
      const bytes = await getLogPage(context.handle.controller, ...page(context))
      return { bytes, show: async () => view(await views(), bytes, context) }
    },
  })
}

const raeOption = () => flag('retain the asynchronous event of the page', 'r')

const smartLog = logCommand({
  name: 'smart-log',
  summary: 'Show the SMART / health log: temperature, wear, data read and written, errors',
  options: {
    namespaceId: namespaceIdOption('namespace, where the controller keeps the log for each (default: all)'),
  },
  examples: [
    ['smart-log 0a:00.0', 'temperatures in kelvin and degrees Celsius, data in units and bytes'],
    ['smart-log 0a:00.0 -o json', "for programs, by nvme-cli's keys"],
  ],
  page: ({ options }) => [LOG_PAGE.SMART, 512, { nsid: options.namespaceId ?? ALL_NAMESPACES }],
  view: ({ viewSmart }, bytes) => viewSmart(bytes),
})

const errorLog = logCommand({
  name: 'error-log',
  summary: 'Show the error log: failed commands with their status, newest first',
  options: {
    logEntries: valueOr(
      'N',
      integer({ min: 1, max: 256 }),
      64,
      'entries to read, up to as many as the device keeps',
      'e',
    ),
  },
  examples: [['error-log 0a:00.0 -e 4', 'the last four']],
  page: ({ handle, options }) => [
    LOG_PAGE.ERROR_INFORMATION,
    Math.min(options.logEntries, handle.identity.elpe + 1) * 64,
  ],
  view: ({ viewErrors }, bytes) => viewErrors(bytes),
})

const fwLog = logCommand({
  name: 'fw-log',
  summary: 'Show the firmware slots, which is active, and which will be',
  options: {},
  examples: [['fw-log 0a:00.0', 'revisions by slot']],
  page: () => [LOG_PAGE.FIRMWARE_SLOT, 512],
  view: ({ viewFirmware }, bytes, { handle }) => viewFirmware(bytes, deviceName(handle)),
})

const effectsLog = logCommand({
  name: 'effects-log',
  summary: 'Show which commands are supported, and what each may change',
  options: { csi: valueOr('N', byte, 0, 'command set', 'c') },
  examples: [['effects-log 0a:00.0 -H', 'with the effects in words']],
  page: ({ options: { csi } }) => [LOG_PAGE.COMMAND_EFFECTS, 4096, { csi }],
  view: ({ viewEffects }, bytes, { options: { csi } }) => viewEffects(bytes, csi),
})

const selfTestLog = logCommand({
  name: 'self-test-log',
  summary: 'Show the device self-test that runs, and the results of the last twenty',
  options: { dstEntries: valueOr('N', integer({ min: 1, max: 20 }), 20, 'results to show', 'e') },
  examples: [['self-test-log 0a:00.0 -e 1', 'the last result']],
  page: () => [LOG_PAGE.DEVICE_SELF_TEST, 564],
  view: ({ viewSelfTest }, bytes, { options }) => viewSelfTest(bytes, options.dstEntries),
})

const sanitizeLog = logCommand({
  name: 'sanitize-log',
  summary: 'Show how far the sanitize operation is, or how the last one ended',
  options: { rae: raeOption() },
  examples: [['sanitize-log 0a:00.0', 'progress, state, estimated times']],
  page: ({ options: { rae } }) => [LOG_PAGE.SANITIZE_STATUS, 512, { rae }],
  view: ({ viewSanitize }, bytes, { handle }) => viewSanitize(bytes, deviceName(handle)),
})

const changedNamespaces = logCommand({
  name: 'changed-ns-list-log',
  summary: 'List the namespaces that have changed since the log was last read',
  options: { rae: raeOption() },
  examples: [['changed-ns-list-log 0a:00.0', 'those whose size, format or attachment changed']],
  page: ({ options: { rae } }) => [LOG_PAGE.CHANGED_NAMESPACES, 4096, { rae }],
  view: ({ viewChanged }, bytes, { handle }) => viewChanged(bytes, deviceName(handle)),
})

const anaLog = showCommand({
  name: 'ana-log',
  summary: 'Show by which state the controller gives access to its namespaces (asymmetric namespace access)',
  details: `A group of namespaces is optimized, non-optimized, inaccessible, in persistent-loss or in change: what a host \
with several paths chooses among them by. See docs/tcp.md.`,
  options: { groups: flag('groups alone, without their namespaces', 'g') },
  examples: [
    ['ana-log nvme+tcp://10.0.0.5/nqn.2024-01.org.example:disk', 'groups, their states and namespaces'],
  ],
  async read({ handle, options: { groups } }) {
    const { getLogPage } = await commands()
    const { controller } = handle
    const { cmic, nanagrpid, nn, mnan } = controller.identity
    if ((cmic & CMIC.ANA) === 0) {
      throw new UnsupportedError(
        `${controller.transport.address} does not report asymmetric namespace access (bit 3 of CMIC is 0)`,
      )
    }
    const namespaces = groups ? 0 : Math.min(mnan || nn, MOST_ANA_NAMESPACES)
    const bytes = await getLogPage(
      controller,
      LOG_PAGE.ASYMMETRIC_NAMESPACE_ACCESS,
      anaLogBytes(Math.min(nanagrpid, MOST_ANA_GROUPS), namespaces),
      { lsp: groups ? ANA_GROUPS_ONLY : 0 },
    )
    return { bytes, show: async () => (await views()).viewAna(bytes, deviceName(handle)) }
  },
})

// More than any controller has: what it says of itself is no reason to ask for gigabytes.
const MOST_ANA_GROUPS = 32_768
const MOST_ANA_NAMESPACES = 2 ** 20

const getLog = showCommand({
  name: 'get-log',
  summary: 'Read any log page: a hex dump, bytes or JSON',
  options: {
    logId: required('ID', byte, 'log page identifier', 'i'),
    logLen: valueOr('BYTES', integer({ min: 1, max: 2 ** 30 }), 512, 'bytes to read', 'l'),
    namespaceId: namespaceIdOption('namespace (default: all)'),
    lpo: valueOr('BYTES', integer(), 0, 'log page offset: where to begin, a multiple of 4', 'L'),
    lsp: valueOr('N', integer({ max: 127 }), 0, 'log specific field', 's'),
    lsi: valueOr('N', word, 0, 'log specific identifier', 'S'),
    rae: raeOption(),
    uuidIndex: valueOr('N', integer({ max: 127 }), 0, 'UUID index', 'U'),
    csi: valueOr('N', byte, 0, 'command set', 'y'),
    ot: flag('--lpo is an index, not a number of bytes', 'O'),
    xferLen: value('SIZE', size({ min: 4096, max: 2 ** 20 }), 'most bytes of one command', 'x'),
    aen: value('DWORD', dword, 'the result of an asynchronous event, whose page is read', 'a'),
  },
  examples: [
    ['get-log 0a:00.0 -i 2 -l 512', 'the SMART log as a hex dump'],
    ['get-log 0a:00.0 -i 0xca -l 4096 -b > page.bin', "a vendor's page into a file"],
  ],
  async read({ handle, options }) {
    const { getLogPage } = await commands()
    const { logLen, lpo, lsp, lsi, rae, uuidIndex: uuid, csi, ot, aen } = options
    const { namespaceId: nsid = ALL_NAMESPACES } = options
    const lid = aen === undefined ? options.logId : (aen >>> 16) & 0xff
    const { controller } = handle
    const maxTransferBytes = Math.min(controller.maxTransferBytes, options.xferLen ?? 2 ** 20)
    const sender = { maxTransferBytes, admin: controller.admin.bind(controller) }
    const how = { nsid, lpo, lsp, lsi, rae, uuid, csi, ot }
    const bytes = await getLogPage(sender, lid, logLen, how)
    const head = `log-id:0x${lid.toString(16).padStart(2, '0')} (${logPageName(lid)}) namespace-id:0x${nsid.toString(16)}`
    const shown = {
      text: () => `${head}\n${dumpText(bytes)}`,
      json: () => ({ log_id: lid, name: logPageName(lid), nsid, lpo, data: bytes.toString('hex') }),
    }
    return { bytes, show: () => shown }
  },
})

export const logCommands = [
  ...[smartLog, errorLog, fwLog, effectsLog, selfTestLog, sanitizeLog, changedNamespaces],
  anaLog,
  getLog,
]

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
    hostGenerate: valueOr('N', bit, 1, '1: let the controller make new data; 0: as it is', 'g'),
    controllerInit: flag('the data that the controller has made by itself', 'c'),
    rae: raeOption(),
    dataArea: valueOr('N', integer({ min: 1, max: 4 }), 3, 'up to which data area, 1 to 4', 'd'),
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
  show: async () => (await views()).viewPersistentEvents(bytes),
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

/** The name of a device as nvme-cli has it in its JSON: the kernel's, where the kernel has it. */
function deviceName({ controller }: ControllerHandle): string {
  return controller.transport.address.replace(/^\/dev\//, '')
}
