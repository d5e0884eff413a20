// The fault plan at work: which rule, if any, a command meets.

import { NVM } from '../../nvme/spec/opcodes.ts'
import type { FaultAction, FaultRule } from './syntax.ts'

interface ActiveRule {
  readonly id: number
  readonly rule: FaultRule
  /** Matching commands so far. */
  matched: number
}

export interface Faults {
  rules: ActiveRule[]
  nextId: number
}

export function createFaults(rules: readonly FaultRule[]): Faults {
  const faults: Faults = { rules: [], nextId: 1 }
  for (const rule of rules) addFault(faults, rule)
  return faults
}

/** Adds a rule behind the others. Returns the number to remove it by. */
export function addFault(faults: Faults, rule: FaultRule, id = faults.nextId): number {
  faults.rules.push({ id, rule, matched: 0 })
  faults.nextId = Math.max(faults.nextId, id) + 1
  return id
}

export function removeFault(faults: Faults, id: number): void {
  faults.rules = faults.rules.filter((active) => active.id !== id)
}

/** What happens to the command at `sqe[e]` of queue `qid`; counts it for every rule that it matches. */
export function meetFault(faults: Faults, qid: number, sqe: Uint32Array, e: number): FaultAction | null {
  let met: FaultAction | null = null
  for (const active of faults.rules) {
    const { rule } = active
    if (!isMatch(rule, qid, sqe, e)) continue
    const nth = active.matched++ - (rule.skip ?? 0)
    if (met === null && nth >= 0 && nth < (rule.times ?? Number.POSITIVE_INFINITY)) met = rule.action
  }
  return met
}

function isMatch(rule: FaultRule, qid: number, sqe: Uint32Array, e: number): boolean {
  const { queue = 'io', opcode, nsid, slba, nlb = 1 } = rule
  if (queue === 'io' ? qid === 0 : queue === 'admin' ? qid !== 0 : qid !== queue) return false
  const given = sqe[e]! & 0xff
  if (opcode !== undefined && given !== opcode) return false
  if (nsid !== undefined && sqe[e + 1] !== nsid) return false
  if (slba === undefined) return true
  if (qid === 0 || !hasRange(given)) return false
  const first = sqe[e + 11]! * 0x1_0000_0000 + sqe[e + 10]!
  const end = first + (sqe[e + 12]! & 0xffff) + 1
  return first < slba + nlb && slba < end
}

/** Commands with a first LBA in dwords 10 and 11 and a number of blocks in dword 12. */
export function hasRange(opcode: number): boolean {
  switch (opcode) {
    case NVM.READ:
    case NVM.WRITE:
    case NVM.COMPARE:
    case NVM.WRITE_ZEROES:
    case NVM.WRITE_UNCORRECTABLE:
    case NVM.VERIFY:
      return true
    default:
      return false
  }
}
