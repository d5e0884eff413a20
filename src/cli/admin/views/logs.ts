// `error-log`, `fw-log` and `effects-log`, by nvme-cli's names.
// Trade-off: error entries that are not used are left out of the text, and kept in JSON as nvme-cli has them.

import { decodeCommandEffects, decodeEffectsLog } from '../../../../lib/nvme/spec/logs/effects.ts'
import { decodeErrorLog, type ErrorLogEntry } from '../../../../lib/nvme/spec/logs/error.ts'
import { decodeFirmwareSlotLog } from '../../../../lib/nvme/spec/logs/firmware.ts'
import { opcodeName } from '../../../../lib/nvme/spec/opcodes.ts'
import { statusCode, statusName } from '../../../../lib/nvme/spec/status.ts'
import { fields } from '../../output.ts'
import type { Shown } from '../show.ts'
import { type BitRow, bitLines, dwordText, hexText, oneOf, yesNo } from '../text.ts'

export function viewErrors(bytes: Uint8Array): Shown {
  const entries = decodeErrorLog(bytes)
  return {
    text() {
      const used = entries.map((entry, n) => ({ entry, n })).filter(({ entry }) => entry.error_count !== 0n)
      if (used.length === 0) return `no errors in ${entries.length} entries`
      return used.map(({ entry, n }) => `Entry ${n}\n${errorText(entry)}`).join('\n\n')
    },
    json: () => ({ errors: entries.map(errorJson) }),
  }
}

function errorText(entry: ErrorLogEntry): string {
  const code = statusCode(entry.status_field << 1)
  const name = statusName(code >>> 8, code & 0xff)
  return fields([
    ['error_count', entry.error_count],
    ['sqid', entry.sqid],
    ['cmdid', hexText(entry.cmdid)],
    ['status_field', `${hexText(entry.status_field)} (${name})`],
    ['phase_tag', entry.phase_tag],
    ['parm_err_loc', hexText(entry.parm_error_location)],
    ['lba', hexText(entry.lba)],
    ['nsid', hexText(entry.nsid)],
    ['vs', entry.vs],
    ['trtype', entry.trtype],
    ['opcode', `${hexText(entry.opcode)} (${opcodeName(entry.opcode, { admin: entry.sqid === 0 })})`],
    ['cs', hexText(entry.cs)],
    ['trtype_spec_info', hexText(entry.trtype_spec_info)],
  ])
}

function errorJson({ csi: _, opcode: _1, log_page_version: _2, ...entry }: ErrorLogEntry) {
  return entry
}

/** @param device the name under which nvme-cli's JSON has it */
export function viewFirmware(bytes: Uint8Array, device: string): Shown {
  const { afi, frs } = decodeFirmwareSlotLog(bytes)
  const slots = frs.map((text, i) => ({ slot: i + 1, text, at: 8 + i * 8 })).filter(({ text }) => text !== '')
  return {
    text() {
      const next = afi.next === 0 ? '' : `, slot ${afi.next} after the next reset`
      return fields([
        ['afi', `${hexText(bytes[0]!)} (slot ${afi.active}${next})`],
        ...slots.map(({ slot, text }) => [`frs${slot}`, text] as const),
      ])
    },
    json: () => ({
      [device]: {
        'Active Firmware Slot (afi)': bytes[0],
        ...Object.fromEntries(
          slots.map(({ slot, at }) => [
            `Firmware Rev Slot ${slot}`,
            revisionJson(Buffer.from(bytes).subarray(at, at + 8)),
          ]),
        ),
      },
    }),
  }
}

// The eight characters as one number, and as text in which a point stands for all that is no letter or digit.
function revisionJson(revision: Buffer): string {
  return `${revision.readBigUInt64LE()} (${revision.toString('latin1').replace(/[^!-~]/g, '.')})`
}

const EFFECT_BITS: readonly BitRow[] = [
  [19, 19, 'UUID selection'],
  [
    18,
    16,
    oneOf(
      'No limit on what else runs',
      'No other command to the namespace',
      'No other command to any namespace',
    ),
  ],
  [4, 4, yesNo('Controller capability change')],
  [3, 3, yesNo('Namespace inventory change')],
  [2, 2, yesNo('Namespace capability change')],
  [1, 1, yesNo('Logical block content change')],
  [0, 0, 'Command'],
]

export function viewEffects(bytes: Uint8Array, csi = 0): Shown {
  const log = decodeEffectsLog(bytes)
  const supported = (words: readonly number[], admin: boolean) =>
    words
      .map((word, opcode) => ({ word, opcode, name: opcodeName(opcode, { admin }) }))
      .filter(({ word }) => decodeCommandEffects(word).csupp)
  const admin = supported(log.acs, true)
  const io = supported(log.iocs, false)
  const lines = (title: string, set: string, rows: typeof admin, human: boolean) => [
    title,
    ...rows.flatMap(({ word, opcode, name }) => [
      `${set}${String(opcode).padEnd(5)} [${name.padEnd(32)}] ${dwordText(word)}`,
      ...(human ? bitLines(word, EFFECT_BITS) : []),
    ]),
  ]
  const json = (set: string, rows: typeof admin) =>
    Object.fromEntries(rows.map(({ word, opcode, name }) => [`${set}_${opcode} (${name})`, word]))
  return {
    text: (human) =>
      [...lines('Admin commands', 'ACS', admin, human), ...lines('I/O commands', 'IOCS', io, human)].join(
        '\n',
      ),
    json: () => [
      { command_set_identifier: csi, admin_cmd_set: json('ACS', admin), io_cmd_set: json('IOCS', io) },
    ],
  }
}
