// `error-log`, `smart-log`, `fw-log`, `changed-ns-list-log`, `ana-log`, `effects-log`, `self-test-log`, `persistent-event-log` and
// `sanitize-log`, by nvme-cli's names. Entries and results that are not used are left out of the text, and kept in JSON
// where nvme-cli keeps them.

import { anaStateName, decodeAnaLog } from '../../../../lib/nvme/spec/ana.ts'
import { temperatureText } from '../../../../lib/nvme/spec/codec.ts'
import {
  decodeChangedNamespaces,
  decodeCommandEffects,
  decodeEffectsLog,
  decodeErrorLog,
  decodeFirmwareSlotLog,
  decodePersistentEventLog,
  decodeSanitizeLog,
  decodeSelfTestLog,
  decodeSmartLog,
  EFFECTS,
  type ErrorLogEntry,
  type PersistentEvent,
  persistentEventName,
  type SanitizeLog,
  SELF_TEST_RESULT,
  type SelfTestResult,
  type SmartLog,
  sanitizeStateName,
  selfTestResultName,
  smartLayout,
} from '../../../../lib/nvme/spec/logs.ts'
import { opcodeName } from '../../../../lib/nvme/spec/opcodes.ts'
import { statusCode, statusName } from '../../../../lib/nvme/spec/status.ts'
import { fields } from '../../output.ts'
import type { Shown } from '../show.ts'
import { bitLines, dumpText, dwordText, hexText, plain, rowLines, structureRows } from '../text.ts'
import { numberedList } from './identify.ts'

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

export function viewSmart(bytes: Uint8Array): Shown {
  const log = decodeSmartLog(bytes)
  const sensors = sensorsOf(log)
  return {
    text(human) {
      const { temperature_sensors: _, ...values } = log
      const temperatures = Object.entries(sensors).map(([name, kelvin]) => ({
        name: name.replace('temperature_sensor_', 'Temperature Sensor '),
        value: temperatureText(kelvin),
      }))
      return rowLines([...structureRows(smartLayout, values), ...temperatures], human)
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

/** @param device the name under which nvme-cli's JSON has it */
export function viewChanged(bytes: Uint8Array, device: string): Shown {
  const { nsids, overflow } = decodeChangedNamespaces(bytes)
  return {
    text: () => (overflow ? 'more than 1024 namespaces changed: look at all of them' : numberedList(nsids)),
    json: () => ({
      'Changed Namespace List Log': device,
      [device]: overflow
        ? { num_changed_ns_list: '>1024' }
        : Object.fromEntries(nsids.map((nsid, i) => [`[${String(i).padStart(4)}]`, hexText(nsid)])),
    }),
  }
}

export function viewAna(bytes: Uint8Array, device: string): Shown {
  const { chgcnt, ngrps, groups } = decodeAnaLog(bytes)
  return {
    text: () =>
      [
        `Asymmetric Namespace Access Log for NVMe device: ${device}`,
        'ANA LOG HEADER :-',
        `chgcnt\t:\t${chgcnt}`,
        `ngrps\t:\t${ngrps}`,
        ...groups.flatMap((group) => [
          'ANA Log Desc :-',
          `grpid\t:\t${group.grpid}`,
          `nnsids\t:\t${group.nnsids}`,
          `chgcnt\t:\t${group.chgcnt}`,
          `state\t:\t${anaStateName(group.state)}`,
          ...group.nsids.map((nsid) => `\tnsid\t:\t${nsid}`),
          '',
        ]),
      ].join('\n'),
    json: () => ({
      'Asymmetric Namespace Access Log for NVMe device': device,
      chgcnt,
      ngrps,
      'ANA DESC LIST ': groups.map(({ grpid, nnsids, chgcnt, state, nsids }) => ({
        ...{ grpid, nnsids, chgcnt, state: anaStateName(state) },
        NSIDS: nsids.map((nsid) => ({ nsid })),
      })),
    }),
  }
}

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
      ...(human ? bitLines(word, EFFECTS.rows) : []),
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

const OPERATIONS: Readonly<Record<number, string>> = {
  0: 'none',
  1: 'short',
  2: 'extended',
  14: 'vendor specific',
}
const operation = (code: number) => `${hexText(code)} (${OPERATIONS[code] ?? 'reserved'})`

/** @param count how many results, newest first */
export function viewSelfTest(bytes: Uint8Array, count = 20): Shown {
  const log = decodeSelfTestLog(bytes)
  const results = log.results.slice(0, count)
  return {
    text() {
      const head = fields([
        ['Current operation', operation(log.current_operation)],
        ['Current completion', `${log.completion}%`],
      ])
      const used = results
        .map((entry, n) => ({ entry, n }))
        .filter(({ entry }) => entry.result !== SELF_TEST_RESULT.UNUSED)
      return [
        head,
        ...used.map(({ entry, n }) => `Self-test result ${n}\n${selfTestResultText(entry)}`),
      ].join('\n\n')
    },
    json: () => ({
      'Current Device Self-Test Operation': log.current_operation,
      'Current Device Self-Test Completion': log.completion,
      'List of Valid Reports': results.map(resultJson),
    }),
  }
}

/** Lines of one result. */
export function selfTestResultText(entry: SelfTestResult): string {
  return fields([
    ['Operation result', `${hexText(entry.result)} (${selfTestResultName(entry.result)})`],
    ['Self-test code', operation(entry.code)],
    ...(entry.result === SELF_TEST_RESULT.SEGMENT_FAILED ? [['Segment number', entry.segment] as const] : []),
    ['Power on hours', entry.poh],
    ...(entry.nsid_valid ? [['Namespace identifier', hexText(entry.nsid)] as const] : []),
    ...(entry.flba_valid ? [['Failing LBA', entry.flba] as const] : []),
    ...(entry.sc_valid
      ? [
          [
            'Status',
            `${statusName(entry.sct, entry.sc)} (sct ${entry.sct}, sc ${hexText(entry.sc)})`,
          ] as const,
        ]
      : []),
  ])
}

function resultJson(entry: SelfTestResult) {
  const { result, code, segment, poh, nsid_valid, flba_valid, sct_valid, sc_valid } = entry
  if (result === SELF_TEST_RESULT.UNUSED) return { 'Self test result': result }
  const valid = [nsid_valid, flba_valid, sct_valid, sc_valid].reduce(
    (sum, on, bit) => sum | (on ? 1 << bit : 0),
    0,
  )
  return {
    'Self test result': result,
    'Self test code': code,
    'Segment number': segment,
    'Valid Diagnostic Information': valid,
    'Power on hours': poh,
    ...(nsid_valid && { 'Namespace Identifier': entry.nsid }),
    ...(flba_valid && { 'Failing LBA': entry.flba }),
    ...(sct_valid && { 'Status Code Type': entry.sct }),
    ...(sc_valid && { 'Status Code': entry.sc }),
    'Vendor Specific': (entry.vs[0] ?? 0) | ((entry.vs[1] ?? 0) << 8),
  }
}

const NOT_REPORTED = 0xffff_ffff
const seconds = (value: number) => (value === NOT_REPORTED ? 'not reported' : `${value} s`)

/** @param device the name under which nvme-cli's JSON has it */
export function viewSanitize(bytes: Uint8Array, device: string): Shown {
  const log = decodeSanitizeLog(bytes)
  return {
    text: () => sanitizeText(log),
    json: () => ({
      [device]: {
        sprog: log.sprog,
        sstat: {
          global_erased: log.sstat.global_erased ? 1 : 0,
          no_cmplted_passes: log.sstat.passes,
          status: `(${log.sstat.status}) ${sanitizeStateName(log.sstat.status)}`,
        },
        cdw10_info: log.scdw10,
        time_over_write: log.eto,
        time_block_erase: log.etbe,
        time_crypto_erase: log.etce,
        time_over_write_no_dealloc: log.etond,
        time_block_erase_no_dealloc: log.etbend,
        time_crypto_erase_no_dealloc: log.etcend,
      },
    }),
  }
}

function sanitizeText(log: SanitizeLog): string {
  const { status, passes, global_erased } = log.sstat
  const done = log.sprog === 0xffff ? 'none in progress' : `${((log.sprog / 65536) * 100).toFixed(1)}%`
  return fields([
    ['Sanitize Progress (SPROG)', `${log.sprog} (${done})`],
    ['Sanitize Status (SSTAT)', `${status} (${sanitizeStateName(status)})`],
    ['Overwrite passes completed', passes],
    ['Global data erased', global_erased ? 'yes' : 'no'],
    ['Sanitize Command Dword 10 (SCDW10)', dwordText(log.scdw10)],
    ['Estimated time of overwrite', seconds(log.eto)],
    ['Estimated time of block erase', seconds(log.etbe)],
    ['Estimated time of crypto erase', seconds(log.etce)],
    ['Estimated time of overwrite, no deallocation', seconds(log.etond)],
    ['Estimated time of block erase, no deallocation', seconds(log.etbend)],
    ['Estimated time of crypto erase, no deallocation', seconds(log.etcend)],
  ])
}

// What an event holds is shown as bytes, since each type has a layout of its own, and vendors theirs.
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
      ['type', `${hexText(etype)} (${persistentEventName(etype)}), revision ${etype_rev}`],
      ['cntlid', cntlid],
      ['timestamp', timeText(ets.timestamp)],
      ['data', `${data.length} bytes, after ${vsi.length} of the vendor`],
    ]),
    ...(body.length > 0 ? [dumpText(body)] : []),
  ].join('\n')
}
