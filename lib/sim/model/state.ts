// The controller's states (NVMe 1.4 base, sections 3.1.5, 3.1.6 and 7.3): enable, disable, shutdown, resets,
// fatal, gone.
// Each change is done at once, within the step that sees the register; CAP.TO is never needed.

import {
  ALL_ONES,
  CSTS,
  decodeAdminQueues,
  decodeConfiguration,
  NSSR_RESET,
  SHST,
} from '../../nvme/spec/registers.ts'
import { join32 } from '../../sys/int64.ts'
import { resetFirmware } from './admin/firmware.ts'
import { resetBackground } from './background.ts'
import { type Backed, forgetBacked, mayEnable } from './backing.ts'
import { clearDoorbells, REQUEST, WORD } from './bar.ts'
import { type Controller, MPS_MAX, powerOnRegisters } from './controller.ts'
import { createEvents } from './events.ts'
import { resetFeatures } from './features.ts'
import { endPending, removePending } from './pending.ts'
import { createCompletionQueue, createSubmissionQueue, SQE_WORDS } from './queues.ts'

const CC_EN = 1

/** Acts on what the host has written to registers. */
export function followRegisters(c: Controller): void {
  const { registers, requests } = c.bar
  c.seenWrites = requests[REQUEST.WRITES]!
  if (c.gone) return
  if (requests[REQUEST.RESETS] !== c.seenResets) {
    c.seenResets = requests[REQUEST.RESETS]!
    powerCycle(c)
    requests[REQUEST.RESETS_DONE] = c.seenResets
  }
  if (requests[REQUEST.NSSR] === NSSR_RESET) subsystemReset(c)
  requests[REQUEST.NSSR] = 0
  if (requests[REQUEST.CLEAR_NSSRO] !== 0) {
    requests[REQUEST.CLEAR_NSSRO] = 0
    registers[WORD.CSTS]! &= ~CSTS.NSSRO
  }
  const disabled = requests[REQUEST.DISABLES] !== c.seenDisables
  c.seenDisables = requests[REQUEST.DISABLES]!
  const before = decodeConfiguration(c.cc)
  c.cc = registers[WORD.CC]!
  const now = decodeConfiguration(c.cc)
  if (before.en && (disabled || !now.en)) disable(c)
  if (now.en && (disabled || !before.en)) enable(c)
  if (now.shn !== before.shn) now.shn === 0 ? setShutdown(c, SHST.NORMAL) : shutDown(c)
}

function enable(c: Controller): void {
  if (c.refusals > 0) {
    c.refusals--
    return
  }
  if (c.backed !== null && !mayEnable(c.backed)) {
    // Its time comes when nothing of before is being done any more.
    c.cc &= ~CC_EN
    return
  }
  const { registers } = c.bar
  const cc = decodeConfiguration(c.cc)
  const { asqs: sqSize, acqs: cqSize } = decodeAdminQueues(registers[WORD.AQA]!)
  const asq = join32(registers[WORD.ASQ_LO]!, registers[WORD.ASQ_HI]!)
  const acq = join32(registers[WORD.ACQ_LO]!, registers[WORD.ACQ_HI]!)
  const aligned = asq % cc.mps === 0 && acq % cc.mps === 0
  if (cc.css !== 0 || cc.ams !== 0 || cc.mps > MPS_MAX || sqSize < 2 || cqSize < 2 || !aligned) {
    goFatal(c)
    return
  }
  const sqRange = c.dma.find(asq, sqSize * 64)
  const cqRange = c.dma.find(acq, cqSize * 16)
  if (c.quiesced || sqRange === null || cqRange === null) {
    goFatal(c)
    return
  }
  clearDoorbells(c.bar)
  c.pageBytes = cc.mps
  const stride = c.config.dstrd
  const cq = createCompletionQueue(
    { id: 0, range: cqRange, iova: acq, size: cqSize, doorbell: 1 << stride },
    true,
    0,
  )
  const sq = createSubmissionQueue({ id: 0, range: sqRange, iova: asq, size: sqSize, doorbell: 0 }, cq)
  cq.users = 1
  c.cqs[0] = cq
  c.sqs[0] = sq
  c.doorbellsEnd = cq.doorbell + 1
  c.ready = true
  registers[WORD.CSTS]! |= CSTS.RDY
}

/** CC.EN to 0: a controller reset. What was in flight is forgotten; admin queue registers stay. */
function disable(c: Controller): void {
  forget(c)
  c.bar.registers[WORD.CSTS]! &= CSTS.NSSRO
}

/** No queues, no commands in flight, features as saved. */
function forget(c: Controller): void {
  keepGhosts(c)
  if (c.backed !== null) forgetBacked(c.backed)
  for (const slot of removePending(c.pending, () => true)) endPending(c.pending, slot)
  c.sqs.length = 0
  c.cqs.length = 0
  c.busy.length = c.busyCount = c.turn = 0
  c.shadow = null
  c.ready = false
  Object.assign(c.events, createEvents())
  c.raised.fill(0)
  c.raisedCount = 0
  resetFeatures(c.features)
  resetFirmware(c.firmware)
  resetBackground(c)
  clearDoorbells(c.bar)
}

function keepGhosts({ pending, ghosts }: Controller): void {
  pending.actions.forEach((action, slot) => {
    const qid = pending.queues[slot]?.id
    if (action?.kind === 'afterReset' && qid !== undefined) {
      ghosts.push({ qid, cid: pending.entries[slot * SQE_WORDS]! >>> 16 })
    }
  })
}

function subsystemReset(c: Controller): void {
  forget(c)
  powerOnRegisters(c)
  c.cc = 0
  c.bar.registers[WORD.CSTS] = CSTS.NSSRO
}

/** Function-level reset, which counts as power off and on: a shutdown is missed where none was announced. */
function powerCycle(c: Controller): void {
  const csts = c.bar.registers[WORD.CSTS]!
  if ((csts & CSTS.RDY) !== 0 && (csts & CSTS.SHST) !== SHST.COMPLETE) c.health.unsafeShutdowns++
  c.health.powerCycles++
  forget(c)
  powerOnRegisters(c)
  c.cc = 0
  c.quiesced = false
}

function shutDown(c: Controller): void {
  if (c.backed !== null) {
    flushBacked(c, c.backed)
    return
  }
  c.medium.flush()
  setShutdown(c, SHST.COMPLETE)
}

function flushBacked(c: Controller, backed: Backed): void {
  const number = ++backed.shutdowns
  setShutdown(c, SHST.PROCESSING)
  void backed.backing.flush().then(() => {
    const processing = (c.bar.registers[WORD.CSTS]! & CSTS.SHST) === SHST.PROCESSING
    if (processing && number === backed.shutdowns) setShutdown(c, SHST.COMPLETE)
  })
}

function setShutdown({ bar }: Controller, shst: number): void {
  bar.registers[WORD.CSTS] = (bar.registers[WORD.CSTS]! & ~CSTS.SHST) | shst
}

/** CSTS.CFS: nothing is fetched or completed until a reset. */
export function goFatal(c: Controller): void {
  if (c.gone) return
  stop(c)
  c.bar.registers[WORD.CSTS]! |= CSTS.CFS
}

/** Unplugged: registers read all-ones for good. */
export function vanish(c: Controller, notify: boolean): void {
  if (c.gone) return
  stop(c)
  c.gone = true
  c.bar.registers.fill(ALL_ONES)
  c.onGone?.(notify)
}

/** No command is fetched or completed any more, and no memory of the host is touched. */
export function stop(c: Controller): void {
  if (c.backed !== null) forgetBacked(c.backed)
  for (const slot of removePending(c.pending, () => true)) endPending(c.pending, slot)
  c.ready = false
  c.events.requests = []
}

/** As `stop`, and until a function-level reset it can't be enabled again: its memory is about to go. */
export function quiesce(c: Controller): void {
  stop(c)
  c.quiesced = true
}

/** Takes a range of host memory away. A queue that lies in it can't go on. */
export function unmapDma(c: Controller, iova: number): void {
  const range = c.dma.ranges.find(({ start }) => start === iova)
  if (range === undefined) return
  const queues = [...c.sqs, ...c.cqs].some((queue) => queue !== undefined && queue.range === range)
  const inUse = queues || c.shadow?.ranges.includes(range) === true
  if (inUse && c.ready) goFatal(c)
  c.dma.remove(iova)
}
