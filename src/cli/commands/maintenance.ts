// `unvme device-self-test`, `format`, `sanitize`, `reset` and `subsystem-reset`. A format is one command that ends when it is
// done; self-test and sanitize go on in the background, and the command waits where it is asked to, or where its own end
// would end the operation.

import { NvmeError, UsageError } from '../../../lib/errors.ts'
import { FORMAT_ERASE, SANITIZE_ACTION } from '../../../lib/nvme/spec/commands.ts'
import { FNA } from '../../../lib/nvme/spec/flags.ts'
import { formattedLba, type IdentifyNamespace } from '../../../lib/nvme/spec/identify.ts'
import {
  LOG_PAGE,
  SANITIZE_STATE,
  SELF_TEST,
  SELF_TEST_RESULT,
  sanitizeStateName,
} from '../../../lib/nvme/spec/logs.ts'
import { ALL_NAMESPACES } from '../../../lib/nvme/spec/opcodes.ts'
import type { ControllerHandle } from '../../index.ts'
import {
  type AdminContext,
  adminCommand,
  chosenNamespace,
  namespaceIdOption,
  timeoutOption,
} from '../admin/command.ts'
import { flag, required, type Specs, unflag, value, valueOr } from '../define.ts'
import { print } from '../output.ts'
import { bit, dword, integer, namedNumber, size } from '../parse.ts'
import { waitUntilOver } from '../progress.ts'

const commands = () => import('../../../lib/nvme/host/admin-commands.ts')
const logs = () => import('../../../lib/nvme/spec/logs.ts')

const TEST_NAMES: Readonly<Record<number, string>> = {
  [SELF_TEST.SHORT]: 'Short',
  [SELF_TEST.EXTENDED]: 'Extended',
  [SELF_TEST.VENDOR]: 'Vendor specific',
}

const selfTest = adminCommand({
  name: 'device-self-test',
  summary: 'Start a self-test of the device, end the one that runs, or show what is going on',
  details: `A reset ends a short self-test, and every command resets the controller when it ends: so a short one is \
always waited for (some two minutes on most devices). An extended one goes on by itself; unvme self-test-log tells \
how far it is. Exit code 1: a test that was waited for found a fault, or was ended.`,
  options: {
    namespaceId: namespaceIdOption('namespace to test; 0: the controller alone (default: all)'),
    selfTestCode: valueOr(
      'CODE',
      namedNumber({
        show: SELF_TEST.NONE,
        short: SELF_TEST.SHORT,
        extended: SELF_TEST.EXTENDED,
        vendor: SELF_TEST.VENDOR,
        abort: SELF_TEST.ABORT,
      }),
      0,
      'show (or 0), short (1), extended (2), vendor (0xe), abort (0xf)',
      { short: 's', fallbackText: 'show' },
    ),
    wait: flag('wait until an extended or a vendor specific test is over', 'w'),
  },
  examples: [
    ['device-self-test 0a:00.0 -s short', 'a short test, and how it ended'],
    ['device-self-test 0a:00.0 -s extended --wait', 'a thorough one; Ctrl-C ends the waiting, not the test'],
    ['device-self-test 0a:00.0 -s abort', 'end the one that runs'],
  ],
  async run(context) {
    const { deviceSelfTest, getLogPage } = await commands()
    const { decodeSelfTestLog, SELF_TEST_LOG_BYTES } = await logs()
    const { selfTestResultText, viewSelfTest } = await import('../admin/views/logs.ts')
    const { controller } = context.handle
    const { selfTestCode: code, wait } = context.options
    const readLog = () => getLogPage(controller, LOG_PAGE.DEVICE_SELF_TEST, SELF_TEST_LOG_BYTES)
    if (code === SELF_TEST.NONE) {
      print(viewSelfTest(await readLog()).text(false))
      return 0
    }
    await deviceSelfTest(controller, code, context.nsid ?? ALL_NAMESPACES)
    const name = TEST_NAMES[code]
    if (name === undefined) {
      print('The device self-test that ran, if any, is ended')
      return 0
    }
    print(`${name} device self-test started`)
    if (!wait && code !== SELF_TEST.SHORT) return 0
    const look = async () => {
      const log = decodeSelfTestLog(await readLog())
      return log.current_operation === SELF_TEST.NONE ? 'over' : log.completion / 100
    }
    await waitUntilOver(`${name} device self-test`, look, context.signal)
    const [last] = decodeSelfTestLog(await readLog()).results
    print(selfTestResultText(last!))
    return last!.result === SELF_TEST_RESULT.NO_ERROR ? 0 : 1
  },
})

type FormatContext = AdminContext<Specs> & {
  options: { lbaf: number | undefined; blockSize: number | undefined; ses: number }
}

const format = adminCommand({
  name: 'format',
  summary: 'Format a namespace, with another block size or an erase: all of its data is lost',
  details: `What formats there are is said by unvme id-ns. Some devices format all of their namespaces at once, \
whichever is named; the question before says so.`,
  options: {
    namespaceId: namespaceIdOption('namespace; 0xffffffff: all (default: the only one)'),
    lbaf: value(
      'N',
      integer({ max: 63 }),
      'LBA format by its number in id-ns (default: the one in use)',
      'l',
    ),
    blockSize: value(
      'SIZE',
      size({ min: 512, max: 2 ** 31 }),
      'in place of --lbaf: the format with blocks of so many bytes, and no metadata',
      'b',
    ),
    ses: valueOr('N', integer({ max: 2 }), 0, 'secure erase: 0 none, 1 user data, 2 cryptographic', 's'),
    pi: valueOr('N', integer({ max: 3 }), 0, 'protection information: 0 off, or its type', 'i'),
    pil: valueOr('N', bit, 0, 'where it is in the metadata: 0 at its end, 1 at its start', 'p'),
    ms: valueOr('N', bit, 0, 'metadata: 0 in a buffer of its own, 1 behind each block', 'm'),
    reset: flag('reset the controller afterwards', 'r'),
    timeout: timeoutOption(),
  },
  examples: [
    ['format 0a:00.0 -b 4096', 'the only namespace, with blocks of 4096 bytes'],
    ['format 0a:00.0 -n 2 -s 1 --yes', 'erase namespace 2, without a question'],
    ['format sim:disk.img -b 4k', 'the software controller, which asks nothing'],
  ],
  async destroys(context) {
    const { which, bytes } = await planFormat(context)
    return `Destroy all data by a format to blocks of ${bytes} bytes: ${which}`
  },
  async run(context) {
    const { formatNvm } = await commands()
    const { nsid, lbaf } = await planFormat(context)
    const { ses, pi, pil, ms, reset, timeout } = context.options
    const limit = timeout === undefined ? {} : { timeout }
    await formatNvm(context.handle.controller, nsid, { lbaf, ses, pi, pil: pil === 1, mset: ms === 1 }, limit)
    if (reset) await context.handle.reset()
    print(`Success formatting namespace:${nsid === ALL_NAMESPACES ? 'all' : nsid}`)
  },
})

/** Which namespaces are formatted, with which format. */
async function planFormat(context: FormatContext) {
  const { handle, options } = context
  const nsid = await chosenNamespace(context)
  const id = await identifyFormats(handle, nsid)
  const lbaf = chooseFormat(id, nsid, options)
  const chosen = id.lbafs[lbaf]
  if (chosen === undefined)
    throw new UsageError(`there is no LBA format ${lbaf}: 0 to ${id.lbafs.length - 1}`)
  const { fna } = handle.identity
  const every =
    nsid === ALL_NAMESPACES ||
    (fna & FNA.FORMAT_ALL) !== 0 ||
    (options.ses !== FORMAT_ERASE.NONE && (fna & FNA.ERASE_ALL) !== 0)
  return { nsid, lbaf, bytes: 2 ** chosen.lbads, which: every ? 'every namespace' : `namespace ${nsid}` }
}

/**
 * What Identify Namespace says of a namespace, or of what all of them have in common: where a controller does not
 * tell that, the first namespace stands for it.
 */
export async function identifyFormats(handle: ControllerHandle, nsid: number): Promise<IdentifyNamespace> {
  try {
    return await handle.controller.identifyNamespace(nsid)
  } catch (error) {
    const [first] = await handle.namespaces()
    if (nsid !== ALL_NAMESPACES || first === undefined || !(error instanceof NvmeError)) throw error
    return handle.controller.identifyNamespace(first)
  }
}

function chooseFormat(
  id: IdentifyNamespace,
  nsid: number,
  { lbaf, blockSize }: FormatContext['options'],
): number {
  if (lbaf !== undefined && blockSize !== undefined) {
    throw new UsageError('--lbaf and --block-size both say which format: give one')
  }
  if (lbaf !== undefined) return lbaf
  if (blockSize !== undefined) return formatOfSize(id, blockSize)
  if (nsid === ALL_NAMESPACES)
    throw new UsageError('all namespaces: --lbaf or --block-size says which format')
  if (id.nsze === 0) throw new UsageError(`namespace ${nsid} is not active`)
  return formattedLba(id).index
}

/** Index of the first format with blocks of `bytes` bytes and no metadata. */
export function formatOfSize({ lbafs }: IdentifyNamespace, bytes: number): number {
  const found = lbafs.findIndex(({ lbads, ms }) => lbads > 0 && ms === 0 && 2 ** lbads === bytes)
  if (found >= 0) return found
  const sizes = lbafs.filter(({ lbads, ms }) => lbads > 0 && ms === 0).map(({ lbads }) => 2 ** lbads)
  throw new UsageError(`no LBA format has blocks of ${bytes} bytes: there are ${sizes.join(', ') || 'none'}`)
}

const ACTIONS: Readonly<Record<number, string>> = {
  [SANITIZE_ACTION.BLOCK_ERASE]: 'block erase',
  [SANITIZE_ACTION.OVERWRITE]: 'overwrite',
  [SANITIZE_ACTION.CRYPTO_ERASE]: 'crypto erase',
}

const sanitize = adminCommand({
  name: 'sanitize',
  summary: 'Sanitize the device: no data of any namespace can be got back',
  details: `It goes on by itself, over resets and power cycles, and until it is done the device takes no reads and \
writes; unvme sanitize-log tells how far it is. Where one failed, the device takes none until the next has \
succeeded, or exit-failure has ended that state. Exit code 1: one that was waited for failed.`,
  options: {
    sanact: required(
      'ACTION',
      namedNumber({
        'exit-failure': SANITIZE_ACTION.EXIT_FAILURE,
        'start-block-erase': SANITIZE_ACTION.BLOCK_ERASE,
        'start-overwrite': SANITIZE_ACTION.OVERWRITE,
        'start-crypto-erase': SANITIZE_ACTION.CRYPTO_ERASE,
      }),
      'exit-failure (or 1), start-block-erase (2), start-overwrite (3), start-crypto-erase (4)',
      'a',
    ),
    dealloc: unflag('do not deallocate the blocks afterwards', 'd'),
    ovrpat: valueOr('DWORD', dword, 0, 'overwrite: pattern of 32 bits', 'p'),
    owpass: valueOr('N', integer({ min: 1, max: 16 }), 1, 'overwrite: passes', 'n'),
    oipbp: flag('overwrite: invert the pattern between passes', 'i'),
    ause: flag('allow exit-failure, should it fail', 'u'),
    wait: flag('wait until it is over', 'w'),
  },
  examples: [
    ['sanitize 0a:00.0 -a start-block-erase --wait', 'erase all blocks, and wait until it is done'],
    ['sanitize 0a:00.0 -a start-overwrite -n 3 -p 0xdeadbeef', 'three passes with a pattern'],
  ],
  destroys({ options }) {
    const action = ACTIONS[options.sanact]
    return action && `Destroy all data by ${action}: every namespace`
  },
  async run(context) {
    const { handle, options } = context
    const { getLogPage, sanitize: start } = await commands()
    const { decodeSanitizeLog, SANITIZE_LOG_BYTES } = await logs()
    const { sanact, dealloc, ovrpat: pattern, oipbp, ause } = options
    // 0 stands for 16 passes.
    const owpass = sanact === SANITIZE_ACTION.OVERWRITE ? options.owpass & 0xf : 0
    await start(handle.controller, { sanact, ndas: !dealloc, oipbp, ause, owpass, pattern })
    const action = ACTIONS[sanact]
    print(action === undefined ? 'Failure mode ended' : `Sanitize started: ${action}`)
    if (action === undefined || !options.wait) return 0
    const readLog = async () =>
      decodeSanitizeLog(await getLogPage(handle.controller, LOG_PAGE.SANITIZE_STATUS, SANITIZE_LOG_BYTES))
    const look = async () => {
      const { sstat, sprog } = await readLog()
      return sstat.status === SANITIZE_STATE.IN_PROGRESS ? sprog / 65536 : 'over'
    }
    await waitUntilOver(`Sanitize, ${action}`, look, context.signal)
    const { status } = (await readLog()).sstat
    print(`Sanitize: ${sanitizeStateName(status)}`)
    return status === SANITIZE_STATE.FAILED ? 1 : 0
  },
})

export const maintenanceCommands = [selfTest, format, sanitize]

const command = (how: 'controller' | 'subsystem', name: string, summary: string, details: string) =>
  adminCommand({
    name,
    summary,
    details,
    options: {},
    examples: [[`${name} 0a:00.0`, 'and see that it comes back']],
    async run({ address, handle }) {
      const before = performance.now()
      await handle.reset(how)
      const text = how === 'controller' ? 'controller reset' : 'NVM subsystem reset'
      print(`${address}: ${text}, ready again after ${(performance.now() - before).toFixed(0)} ms`)
    },
  })

const reset = command(
  'controller',
  'reset',
  'Reset the controller, and bring it up again',
  'What lasts until a reset is as new: features that were not saved, firmware that was only sent, a short self-test.',
)

const subsystemReset = command(
  'subsystem',
  'subsystem-reset',
  'Reset the whole NVM subsystem: all of its controllers',
  'Controllers of the same subsystem that other processes or machines use are reset, too. Not every device has it.',
)

export const resetCommands = [reset, subsystemReset]
