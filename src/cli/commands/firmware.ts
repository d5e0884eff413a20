// `unvme fw-download` and `fw-commit`.
// A controller forgets an image that is not committed when it is reset, which every command does at its
// end: so fw-download commits too, and fw-commit by itself is for slots that have an image already.

import { NvmeError, UsageError } from '../../../lib/errors.ts'
import { COMMIT_ACTION } from '../../../lib/nvme/spec/commands.ts'
import { STATUS } from '../../../lib/nvme/spec/status.ts'
import type { ControllerHandle } from '../../index.ts'
import { adminCommand } from '../admin/command.ts'
import { readData } from '../data.ts'
import { flag, required, value, valueOr } from '../define.ts'
import { bytesText, print } from '../output.ts'
import { bit, integer, namedNumber, size, text } from '../parse.ts'
import { withProgress } from '../transfer.ts'

const commands = () => import('../../../lib/nvme/host/admin-commands.ts')

const ACTIONS = namedNumber({
  replace: COMMIT_ACTION.REPLACE,
  'replace-and-activate': COMMIT_ACTION.REPLACE_AND_ACTIVATE,
  activate: COMMIT_ACTION.ACTIVATE,
  'activate-now': COMMIT_ACTION.ACTIVATE_NOW,
  'replace-boot': COMMIT_ACTION.REPLACE_BOOT_PARTITION,
  'activate-boot': COMMIT_ACTION.ACTIVATE_BOOT_PARTITION,
})
const ACTION_WORDS =
  'replace (or 0), replace-and-activate (1), activate (2), activate-now (3), replace-boot (6), activate-boot (7)'

// Far more than any image has: an input without an end is found before memory is.
const MAX_IMAGE_BYTES = 2 ** 28

const slotOption = () =>
  valueOr('N', integer({ max: 7 }), 0, 'firmware slot, 1 to 7; 0: the controller chooses', 's')
const bpidOption = () => valueOr('N', bit, 0, 'boot partition', 'b')

const download = adminCommand({
  name: 'fw-download',
  summary: 'Send a firmware image to the device, and commit it to a slot',
  details: `Without --action the image is only sent, to see whether the device takes it: it is forgotten when the \
command ends. What the slots hold is said by unvme fw-log.

Images are sent in dwords: one whose length is no multiple of 4 is filled up with zeroes, and the output says so.`,
  options: {
    fw: required('FILE', text, 'firmware image', 'f'),
    xfer: value(
      'SIZE',
      size({ min: 4, max: 2 ** 20 }),
      'bytes of a part (default: what the device asks for)',
      'x',
    ),
    offset: valueOr(
      'DWORDS',
      integer({ max: 2 ** 30 }),
      0,
      'where it begins in the whole image, in dwords',
      'o',
    ),
    ignoreOvr: flag('go on where the device says that parts overlap', 'i'),
    action: value('ACTION', ACTIONS, `commit it: ${ACTION_WORDS}`, 'a'),
    slot: slotOption(),
    bpid: bpidOption(),
  },
  ignored: ['-p, --progress'],
  examples: [
    ['fw-download 0a:00.0 -f new.bin -s 2 -a replace-and-activate', 'into slot 2, which runs after a reset'],
    ['fw-download 0a:00.0 -f new.bin', 'only see whether it is taken'],
  ],
  destroys: ({ options: { action, slot } }) => question(action, slot),
  async run({ handle, options }) {
    const { downloadFirmware } = await commands()
    const { fw, offset, action, slot, bpid, ignoreOvr } = options
    const image = await readData(fw, MAX_IMAGE_BYTES)
    const part = options.xfer ?? partBytes(handle)
    if (image.length === 0) throw new UsageError(`${fw} is empty`)
    if (part % 4 !== 0) throw new UsageError(`--xfer ${part}: a multiple of 4 is needed`)
    await withProgress('download', image.length, (onProgress) =>
      downloadFirmware(handle.controller, image, {
        part,
        offset: offset * 4,
        ignoreOverlap: ignoreOvr,
        onProgress,
      }),
    )
    const added = (4 - (image.length % 4)) % 4
    const filled = added === 0 ? '' : `, and ${added} ${added === 1 ? 'byte' : 'bytes'} of zeroes behind it`
    print(`Firmware download success: ${bytesText(image.length)}${filled}`)
    if (action === undefined) print('Not committed: the device forgets it now (see --action)')
    else await commitAndTell(handle, { slot, action, bpid })
  },
})

const commit = adminCommand({
  name: 'fw-commit',
  summary: 'Choose the firmware slot that runs, at once or after the next reset',
  details: `A new image is sent and committed by unvme fw-download: what an earlier command has sent is forgotten. \
The end of the command is a reset already.`,
  options: {
    slot: slotOption(),
    action: valueOr('ACTION', ACTIONS, COMMIT_ACTION.ACTIVATE, ACTION_WORDS, {
      short: 'a',
      fallbackText: 'activate',
    }),
    bpid: bpidOption(),
  },
  examples: [['fw-commit 0a:00.0 -s 1', 'back to the firmware in slot 1']],
  destroys: ({ options: { action, slot } }) => question(action, slot),
  run: ({ handle, options }) => commitAndTell(handle, options),
})

function question(action: number | undefined, slot: number): string | undefined {
  if (action === undefined) return undefined
  const where = slot === 0 ? "a slot of the device's choice" : `slot ${slot}`
  const boot = action >= COMMIT_ACTION.REPLACE_BOOT_PARTITION
  const replaces =
    action === COMMIT_ACTION.REPLACE ||
    action === COMMIT_ACTION.REPLACE_AND_ACTIVATE ||
    action === COMMIT_ACTION.REPLACE_BOOT_PARTITION
  return `${replaces ? 'Replace' : 'Activate'} the ${boot ? 'boot partition' : `firmware in ${where}`}`
}

/** Bytes of a part by the controller's granularity (FWUG): 0 not reported, FFh any. */
function partBytes({ identity: { fwug }, controller }: ControllerHandle): number {
  const granularity = fwug === 0 || fwug === 0xff ? 4096 : fwug * 4096
  return Math.min(granularity, controller.maxTransferBytes)
}

/** Statuses that say: done, and it will run after … */
const NEEDS: Readonly<Record<number, string>> = {
  [STATUS.FIRMWARE_NEEDS_CONVENTIONAL_RESET]:
    'a conventional reset (of the PCI Express function, or power off)',
  [STATUS.FIRMWARE_NEEDS_SUBSYSTEM_RESET]: 'an NVM subsystem reset (unvme subsystem-reset)',
  [STATUS.FIRMWARE_NEEDS_CONTROLLER_RESET]: 'a controller reset, which the end of this command is',
}

async function commitAndTell(
  { controller }: ControllerHandle,
  value: { slot: number; action: number; bpid: number },
): Promise<void> {
  const { commitFirmware } = await commands()
  const done = `Success committing firmware action:${value.action} slot:${value.slot}`
  try {
    const result = await commitFirmware(controller, value)
    // Bits 1:0: other parts of the image came in between (NVMe 2.0).
    print(`${done}${(result & 3) === 0 ? '' : '; multiple updates were detected: send the image again'}`)
  } catch (error) {
    const reset = error instanceof NvmeError ? NEEDS[(error.sct << 8) | error.sc] : undefined
    if (reset === undefined) throw error
    print(`${done}; it runs after ${reset}`)
  }
}

export const firmwareCommands = [download, commit]
