// Commands that are sent again: what overlaps is never in flight together, and keeps its order, whatever fails.

import test from 'ava'
import fc from 'fast-check'
import { NVM } from '../../lib/nvme/spec/opcodes.ts'
import { type Part, Resends } from '../../src/queue/backlog.ts'
import type { Operation } from '../../src/queue/operation.ts'

const BLOCKS = 24

const partArbitrary = fc.record({
  opc: fc.constantFrom(NVM.READ, NVM.READ, NVM.WRITE, NVM.WRITE_ZEROES, NVM.DATASET_MANAGEMENT, NVM.FLUSH),
  nsid: fc.integer({ min: 1, max: 2 }),
  slba: fc.nat(BLOCKS - 1),
  nlb: fc.integer({ min: 1, max: 6 }),
  delay: fc.oneof(fc.constant(0), fc.nat(20)),
})

/** What a step does; numbers choose among what there is. */
const stepArbitrary = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant('add' as const),
      parts: fc.array(partArbitrary, { maxLength: 5 }),
    }),
  },
  {
    weight: 6,
    arbitrary: fc.record({ kind: fc.constant('send' as const), most: fc.integer({ min: 1, max: 8 }) }),
  },
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant('end' as const),
      which: fc.nat(99),
      again: fc.boolean(),
      delay: fc.nat(9),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('take' as const), which: fc.nat(99) }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('wait' as const), ms: fc.nat(20) }) },
  {
    weight: 2,
    arbitrary: fc.record({ kind: fc.constant('path' as const), nsid: fc.integer({ min: 1, max: 2 }) }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('reset' as const) }) },
)

const WRITES: readonly number[] = [NVM.WRITE, NVM.WRITE_ZEROES, NVM.DATASET_MANAGEMENT]

const nsidOf = ({ op }: Part) => op.geometry.nsid

/** Where one of them writes a block of the other's; what a DSM touches is in its data, so it may be any. */
function conflict(a: Part, b: Part): boolean {
  if (nsidOf(a) !== nsidOf(b)) return false
  if (!WRITES.includes(a.op.opc) && !WRITES.includes(b.op.opc)) return false
  if (a.op.opc === NVM.DATASET_MANAGEMENT || b.op.opc === NVM.DATASET_MANAGEMENT) return true
  return a.slba < b.slba + b.nlb && b.slba < a.slba + a.nlb
}

test('parts that overlap are sent one by one and in order, each once, and hold up no other namespace', (t) => {
  fc.assert(
    fc.property(fc.array(stepArbitrary, { maxLength: 80 }), (steps) => {
      const resends = new Resends()
      const waiting: Part[] = []
      const inFlight = new Map<number, Part>()
      const pathless = new Set<number>()
      // Parts that were there at a reset: by operation, which a part that fails again keeps.
      const first = new Set<Operation>()
      let now = 1
      let order = 0
      let cid = 0
      // Namespaces in which some overlapped when parts were added last.
      let overlapping = new Set<number>()
      const add = (parts: Part[]) => {
        waiting.push(...parts)
        resends.add(parts)
        const all = [...inFlight.values(), ...waiting]
        const overlaps = all.filter((one) => all.some((other) => one !== other && conflict(one, other)))
        overlapping = new Set(overlaps.map(nsidOf))
      }
      const send = (most: number) => {
        for (let n = 0; n < most; n++) {
          const part = resends.next(now, (nsid) => !pathless.has(nsid))
          if (part === undefined) {
            // Nothing but its own namespace may hold a part up.
            for (const one of waiting) {
              if (one.from > now || pathless.has(nsidOf(one)) || overlapping.has(nsidOf(one))) continue
              throw new Error('held up by another namespace')
            }
            return
          }
          if (pathless.has(nsidOf(part))) throw new Error('sent without a path')
          if (part.from > now) throw new Error('sent before its time')
          const at = waiting.indexOf(part)
          if (at < 0) throw new Error('sent twice, or never added')
          for (const other of inFlight.values()) {
            if (conflict(part, other)) throw new Error('overlaps what is in flight')
          }
          for (const other of waiting) {
            if (other.order < part.order && conflict(part, other)) throw new Error('out of order')
          }
          waiting.splice(at, 1)
          inFlight.set(cid, part)
          resends.sent(part, cid++)
        }
      }
      const end = (id: number) => {
        const part = inFlight.get(id)!
        inFlight.delete(id)
        if (resends.ended(id) !== part) throw new Error('ended as another')
        if (resends.ended(id) !== undefined) throw new Error('ended twice')
        return part
      }
      for (const step of steps) {
        if (step.kind === 'add') {
          const parts = step.parts.map(({ opc, nsid, slba, nlb, delay }): Part => {
            const ranged = opc !== NVM.DATASET_MANAGEMENT && opc !== NVM.FLUSH
            const blocks = ranged ? { slba, nlb } : { slba: 0, nlb: 0 }
            const from = delay === 0 ? 0 : now + delay
            const op = { opc, geometry: { nsid } } as Operation
            return { op, ...blocks, order: order++, attempt: 1, from, refusedAt: 0, first: false }
          })
          add(parts)
        } else if (step.kind === 'send') {
          send(step.most)
        } else if (step.kind === 'end' && inFlight.size > 0) {
          const part = end([...inFlight.keys()][step.which % inFlight.size]!)
          if (!step.again) continue
          const failed = { ...part, attempt: part.attempt + 1, from: step.delay === 0 ? 0 : now + step.delay }
          add([failed])
        } else if (step.kind === 'take' && waiting.length > 0) {
          const { op } = waiting[step.which % waiting.length]!
          const taken = resends.take((part) => part.op === op)
          if (!taken.every((part) => part.op === op && waiting.includes(part)))
            throw new Error('took another')
          for (const part of taken) waiting.splice(waiting.indexOf(part), 1)
          if (taken.length === 0 || waiting.some((part) => part.op === op)) throw new Error('took too few')
        } else if (step.kind === 'wait') {
          now += step.ms
        } else if (step.kind === 'path') {
          if (!pathless.delete(step.nsid)) pathless.add(step.nsid)
        } else if (step.kind === 'reset') {
          // What was in flight is to be sent again.
          const again = [...inFlight.keys()].map(end)
          add(again)
          resends.goFirst()
          for (const { op } of waiting) first.add(op)
        }
        for (const nsid of [1, 2]) {
          const all = [...inFlight.values(), ...waiting].filter((part) => nsidOf(part) === nsid)
          if (resends.isFirst(nsid) !== all.some(({ op }) => first.has(op)))
            throw new Error('not first, or for ever')
        }
        if (resends.length !== waiting.length || resends.pending !== waiting.length + inFlight.size)
          return false
      }
      // All of it comes to an end, whatever was done before.
      pathless.clear()
      for (let round = 0; resends.pending > 0; round++) {
        if (round > 1000) throw new Error('stuck')
        now += 50
        send(1)
        for (const id of [...inFlight.keys()]) end(id)
      }
      return waiting.length === 0 && inFlight.size === 0 && resends.take(() => true).length === 0
    }),
    { numRuns: 2000 },
  )
  t.pass()
})
