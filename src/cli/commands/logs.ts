// `unvme smart-log` and the other log pages, and `get-log` for any.
// Trade-off: a page is a few words here (which, how many bytes, how it is shown); what they share is in admin/show.ts.

import { LOG_PAGE, logPageName } from '../../../lib/nvme/spec/logs.ts'
import { ALL_NAMESPACES } from '../../../lib/nvme/spec/opcodes.ts'
import { namespaceIdOption } from '../admin/command.ts'
import { showCommand } from '../admin/show.ts'
import { dumpText } from '../admin/text.ts'
import { flag, required, value, valueOr } from '../define.ts'
import { integer, size } from '../parse.ts'

const views = () => import('../admin/views/logs.ts')
const operations = () => import('../admin/views/logs.ts')
const commands = () => import('../../../lib/nvme/host/admin-commands.ts')

const smartLog = showCommand({
  name: 'smart-log',
  summary: 'Show the SMART / health log: temperature, wear, data read and written, errors',
  options: {
    namespaceId: namespaceIdOption('namespace, where the controller keeps the log for each (default: all)'),
  },
  examples: [
    ['smart-log 0a:00.0', 'temperatures in kelvin and degrees Celsius, data in units and bytes'],
    ['smart-log 0a:00.0 -o json', "for programs, by nvme-cli's keys"],
  ],
  async read({ handle, options }) {
    const { getLogPage } = await commands()
    const { namespaceId: nsid = ALL_NAMESPACES } = options
    const bytes = await getLogPage(handle.controller, LOG_PAGE.SMART, 512, { nsid })
    return { bytes, show: async () => (await import('../admin/views/logs.ts')).viewSmart(bytes) }
  },
})

const errorLog = showCommand({
  name: 'error-log',
  summary: 'Show the error log: failed commands with their status, newest first',
  options: {
    logEntries: valueOr(
      'N',
      integer({ min: 1, max: 256 }),
      64,
      'entries to read, up to as many as the device keeps',
      {
        short: 'e',
      },
    ),
  },
  examples: [['error-log 0a:00.0 -e 4', 'the last four']],
  async read({ handle, options }) {
    const { getLogPage } = await commands()
    const count = Math.min(options.logEntries, handle.identity.elpe + 1)
    const bytes = await getLogPage(handle.controller, LOG_PAGE.ERROR_INFORMATION, count * 64)
    return { bytes, show: async () => (await views()).viewErrors(bytes) }
  },
})

const fwLog = showCommand({
  name: 'fw-log',
  summary: 'Show the firmware slots, which is active, and which will be',
  options: {},
  examples: [['fw-log 0a:00.0', 'revisions by slot']],
  async read({ handle }) {
    const { getLogPage } = await commands()
    const bytes = await getLogPage(handle.controller, LOG_PAGE.FIRMWARE_SLOT, 512)
    const { address } = handle.controller.transport
    return { bytes, show: async () => (await views()).viewFirmware(bytes, address) }
  },
})

const effectsLog = showCommand({
  name: 'effects-log',
  summary: 'Show which commands are supported, and what each may change',
  options: { csi: valueOr('N', integer({ max: 255 }), 0, 'command set', { short: 'c' }) },
  examples: [['effects-log 0a:00.0 -H', 'with the effects in words']],
  async read({ handle, options }) {
    const { getLogPage } = await commands()
    const { csi } = options
    const bytes = await getLogPage(handle.controller, LOG_PAGE.COMMAND_EFFECTS, 4096, { csi })
    return { bytes, show: async () => (await views()).viewEffects(bytes, csi) }
  },
})

const selfTestLog = showCommand({
  name: 'self-test-log',
  summary: 'Show the device self-test that runs, and the results of the last twenty',
  options: { dstEntries: valueOr('N', integer({ min: 1, max: 20 }), 20, 'results to show', { short: 'e' }) },
  examples: [['self-test-log 0a:00.0 -e 1', 'the last result']],
  async read({ handle, options }) {
    const { getLogPage } = await commands()
    const bytes = await getLogPage(handle.controller, LOG_PAGE.DEVICE_SELF_TEST, 564)
    return { bytes, show: async () => (await operations()).viewSelfTest(bytes, options.dstEntries) }
  },
})

const sanitizeLog = showCommand({
  name: 'sanitize-log',
  summary: 'Show how far the sanitize operation is, or how the last one ended',
  options: { rae: flag('retain the asynchronous event of the page', { short: 'r' }) },
  examples: [['sanitize-log 0a:00.0', 'progress, state, estimated times']],
  async read({ handle, options }) {
    const { getLogPage } = await commands()
    const bytes = await getLogPage(handle.controller, LOG_PAGE.SANITIZE_STATUS, 512, { rae: options.rae })
    const { address } = handle.controller.transport
    return { bytes, show: async () => (await operations()).viewSanitize(bytes, address) }
  },
})

const changedNamespaces = showCommand({
  name: 'changed-ns-list-log',
  summary: 'List the namespaces that have changed since the log was last read',
  options: { rae: flag('retain the asynchronous event of the page', { short: 'r' }) },
  examples: [['changed-ns-list-log 0a:00.0', 'those whose size, format or attachment changed']],
  async read({ handle, options }) {
    const { getLogPage } = await commands()
    const bytes = await getLogPage(handle.controller, LOG_PAGE.CHANGED_NAMESPACES, 4096, { rae: options.rae })
    const { address } = handle.controller.transport
    return {
      bytes,
      show: async () => (await import('../admin/views/logs.ts')).viewChanged(bytes, address),
    }
  },
})

const field = (max: number) => integer({ max })

const getLog = showCommand({
  name: 'get-log',
  summary: 'Read any log page: a hex dump, bytes or JSON',
  options: {
    logId: required('ID', field(255), 'log page identifier', { short: 'i' }),
    logLen: valueOr('BYTES', integer({ min: 1, max: 2 ** 30 }), 512, 'bytes to read', { short: 'l' }),
    namespaceId: namespaceIdOption('namespace (default: all)'),
    lpo: valueOr('BYTES', integer(), 0, 'log page offset: where to begin, a multiple of 4', { short: 'L' }),
    lsp: valueOr('N', field(127), 0, 'log specific field', { short: 's' }),
    lsi: valueOr('N', field(65535), 0, 'log specific identifier', { short: 'S' }),
    rae: flag('retain the asynchronous event of the page', { short: 'r' }),
    uuidIndex: valueOr('N', field(127), 0, 'UUID index', { short: 'U' }),
    csi: valueOr('N', field(255), 0, 'command set', { short: 'y' }),
    ot: flag('--lpo is an index, not a number of bytes', { short: 'O' }),
    xferLen: value('SIZE', size({ min: 4096, max: 2 ** 20 }), 'most bytes of one command', { short: 'x' }),
    aen: value('DWORD', field(0xffff_ffff), 'the result of an asynchronous event, whose page is read', {
      short: 'a',
    }),
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
    const bytes = await getLogPage(sender, lid, logLen, {
      nsid,
      lpo,
      lsp,
      lsi,
      rae,
      uuid,
      csi,
      ot,
    })
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
  getLog,
]
