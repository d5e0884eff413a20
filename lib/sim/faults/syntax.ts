// Fault rules: which commands go wrong and how, as objects and as the text of `fault=` in an address.
// The text covers the common cases; what needs more is given as objects through the API.

import { ArgumentTypeError, OutOfRangeError } from '../../errors.ts'
import { NVM } from '../../nvme/spec/opcodes.ts'
import { show } from '../../sys/show.ts'
import { parseTime } from '../time.ts'

/** Which commands a rule is for, and what happens to them. Everything left out matches every command of I/O queues. */
export interface FaultRule {
  /** Opcode; together with `queue` says which command. */
  readonly opcode?: number
  /** `io` (the default), `admin`, or one queue's id. */
  readonly queue?: 'io' | 'admin' | number
  /** Namespace id. */
  readonly nsid?: number
  /** Commands that touch any of these blocks. */
  readonly slba?: number
  /** Blocks from `slba` on; 1 unless set. */
  readonly nlb?: number
  /** Matching commands that pass before the rule begins; 0 unless set. */
  readonly skip?: number
  /** Matching commands that it is applied to; all unless set. */
  readonly times?: number
  /** What happens to them. */
  readonly action: FaultAction
}

/**
 * What happens to a command:
 *
 * `status`: it completes with this status (`sct << 8 | sc`), does nothing, and says Do Not Retry where `dnr` is true;
 * `delay`: it takes this much longer, in milliseconds;
 * `behind`: it completes after this many later commands of the same queue, or when there are no others;
 * `lose`: it does what was asked, and never says so; an Abort does not find it;
 * `swallow`: it does nothing, and never ends but by an Abort or a reset;
 * `twice`: it completes, and then once more;
 * `afterReset`: it does nothing, and ends on the queue of the same id that is created after a reset;
 * `stop`: the controller does nothing for this time, in milliseconds, and then goes on with this command;
 * `fatal`: the controller sets CSTS.CFS, and nothing completes until it is reset; it does not become ready at the next
 * `refuse` enables, and has another serial number from then on where one is given;
 * `vanish`: the device is unplugged: registers read all-ones, nothing ever completes; with `notify` the host is notified, as
 * by hot plug;
 * `cut`: the power is cut: blocks of a disk image that were written after the last Flush, and without FUA, are again what they
 * were before, all but `kept` per cent of them, and the device is gone as by `vanish`. Only what is written after the first
 * such rule is there can be lost.
 */
export type FaultAction =
  | { readonly kind: 'status'; readonly status: number; readonly dnr?: boolean }
  | { readonly kind: 'delay'; readonly ms: number }
  | { readonly kind: 'behind'; readonly commands: number }
  | { readonly kind: 'lose' | 'swallow' | 'twice' | 'afterReset' }
  | { readonly kind: 'stop'; readonly ms: number }
  | { readonly kind: 'fatal'; readonly refuse?: number; readonly serial?: string }
  | { readonly kind: 'vanish'; readonly notify?: boolean }
  | { readonly kind: 'cut'; readonly kept?: number }

/** Throws ArgumentTypeError or OutOfRangeError for a rule that can't be followed: those of a program may be anything. */
export function checkFault(rule: FaultRule): FaultRule {
  const action = rule?.action
  if (typeof action !== 'object' || action === null) {
    throw new ArgumentTypeError(`fault: a rule is needed as { action, … }, received ${show(rule)}`)
  }
  const possible =
    action.kind === 'status'
      ? Number.isInteger(action.status) && action.status > 0 && action.status <= 0x7ff
      : action.kind === 'delay' || action.kind === 'stop'
        ? action.ms >= 0 && action.ms < Number.POSITIVE_INFINITY
        : action.kind === 'behind'
          ? Number.isSafeInteger(action.commands) && action.commands > 0
          : action.kind === 'cut'
            ? action.kept === undefined || (action.kept >= 0 && action.kept <= 100)
            : ['lose', 'swallow', 'twice', 'afterReset', 'fatal', 'vanish'].includes(action.kind)
  if (!possible) throw new OutOfRangeError(`fault: ${show(action)} is no action`)
  return rule
}

const COMMANDS: Readonly<Record<string, number | undefined>> = {
  any: undefined,
  read: NVM.READ,
  write: NVM.WRITE,
  flush: NVM.FLUSH,
  compare: NVM.COMPARE,
  zeroes: NVM.WRITE_ZEROES,
  uncorrectable: NVM.WRITE_UNCORRECTABLE,
  dsm: NVM.DATASET_MANAGEMENT,
  verify: NVM.VERIFY,
}

const RULE = /^([a-z]+)(?:@(\d{1,15})(?:\+(\d{1,15}))?)?(?:#(\d{1,15}))?(?:\*(\d{1,15}))?:([a-z]+)(?:=(.+))?$/

/** The rules of `fault=`, separated by commas; undefined where one can't be understood. */
export function parseFaults(text: string): FaultRule[] | undefined {
  const rules = text.split(',').map(parseRule)
  return rules.includes(undefined) ? undefined : (rules as FaultRule[])
}

function parseRule(text: string): FaultRule | undefined {
  const match = RULE.exec(text)
  if (match === null || !Object.hasOwn(COMMANDS, match[1]!)) return undefined
  const action = parseAction(match[6]!, match[7])
  if (action === undefined) return undefined
  const opcode = COMMANDS[match[1]!]
  const [slba, nlb, skip, times] = match.slice(2, 6).map((n) => (n === undefined ? undefined : Number(n)))
  return {
    ...(opcode === undefined ? {} : { opcode }),
    ...(slba === undefined ? {} : { slba }),
    ...(nlb === undefined ? {} : { nlb }),
    ...(skip === undefined ? {} : { skip }),
    ...(times === undefined ? {} : { times }),
    action,
  }
}

function parseAction(kind: string, value: string | undefined): FaultAction | undefined {
  switch (kind) {
    case 'status': {
      const status = /^[0-9a-f]{1,3}h$/i.test(value ?? '') ? Number.parseInt(value!, 16) : 0
      return status > 0 && status <= 0x7ff ? { kind, status } : undefined
    }
    case 'delay':
    case 'stop': {
      const ms = parseTime(value ?? '')
      return ms === undefined ? undefined : { kind, ms }
    }
    case 'behind':
      return /^[1-9]\d{0,5}$/.test(value ?? '') ? { kind, commands: Number(value) } : undefined
    case 'cut':
      if (value === undefined) return { kind }
      return /^(100|\d{1,2})%$/.test(value) ? { kind, kept: Number.parseInt(value, 10) } : undefined
    case 'lose':
    case 'swallow':
    case 'twice':
    case 'fatal':
    case 'vanish':
      return value === undefined ? { kind } : undefined
    default:
      return undefined
  }
}
