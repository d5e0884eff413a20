// The discovery service of a target (NVMe 2.0 base, section 3.1.2.3): a controller without namespaces, with one log page.

import { FEATURE } from '../../spec/features.ts'
import { CNS, encodeIdentifyController } from '../../spec/identify.ts'
import { ADMIN } from '../../spec/opcodes.ts'
import { CSTS, encodeCapabilities, REGISTER, SHST } from '../../spec/registers.ts'
import { STATUS } from '../../spec/status.ts'
import { DISCOVERY_LOG, DISCOVERY_NQN, type DiscoveryRecord, encodeDiscoveryLog } from '../fabrics.ts'
import type { CommandDone, DataBlock, ServedController } from './controller.ts'

const CAP = encodeCapabilities({
  ...{ mqes: 128, cqr: true, ams: 0, to: 5000, dstrd: 4, nssrs: false, css: 1, bps: false },
  ...{ mpsmin: 4096, mpsmax: 4096, pmrs: false, cmbs: false },
})
const VERSION = 0x0001_0400
const MAX_BYTES = 2 ** 17
const CC_SHN = 0xc000

const CHANGE_EVENT = 0x70f002
const CHANGE_MASK = 0x8000_0000
const RETAIN = 0x8000
const MOST_EVENT_REQUESTS = 4

/** What there is to be found. */
export interface DiscoverySource {
  /** Changes with the records. */
  readonly genctr: number
  readonly records: readonly DiscoveryRecord[]
}

/** A controller of the discovery service, whose host gets events of changes. */
export interface DiscoveryController extends ServedController {
  changed(): void
}

/** @param look what there is now, for this host */
export function createDiscovery(look: () => DiscoverySource): DiscoveryController {
  let cc = 0
  let csts = 0
  let events = 0
  const waiting = new Set<CommandDone>()
  const done: (() => void)[] = []
  // There was a change without an event yet; an event was sent, and the host has not read the log since.
  let pending = false
  let sent = false

  function sendEvent(): void {
    if (!pending || sent || (events & CHANGE_MASK) === 0) return
    const [end] = waiting
    if (end === undefined) return
    waiting.delete(end)
    pending = false
    sent = true
    end(0, CHANGE_EVENT)
  }

  function execute(sqe: Uint32Array, block: DataBlock | null): [status: number, result: number] {
    const cdw10 = sqe[10]!
    switch (sqe[0]! & 0xff) {
      case ADMIN.IDENTIFY:
        if ((cdw10 & 0xff) !== CNS.CONTROLLER) return [STATUS.INVALID_FIELD, 0]
        return send(block, IDENTITY, 0)
      case ADMIN.GET_LOG_PAGE: {
        if ((cdw10 & 0xff) !== DISCOVERY_LOG) return [STATUS.INVALID_LOG_PAGE, 0]
        const bytes = (((sqe[11]! & 0xffff) << 16) | (cdw10 >>> 16)) * 4 + 4
        if (block === null || bytes > block.bytes.length) return [STATUS.DATA_SGL_LENGTH_INVALID, 0]
        if (sqe[13] !== 0) return [STATUS.INVALID_FIELD, 0]
        const log = encodeDiscoveryLog(look())
        if ((cdw10 & RETAIN) === 0) sent = false
        return sqe[12]! > log.length ? [STATUS.INVALID_FIELD, 0] : send(block, log, sqe[12]!)
      }
      case ADMIN.SET_FEATURES:
        if ((cdw10 & 0xff) !== FEATURE.ASYNC_EVENT_CONFIGURATION) return [STATUS.INVALID_FIELD, 0]
        events = sqe[11]!
        sendEvent()
        return [0, 0]
      case ADMIN.GET_FEATURES:
        if ((cdw10 & 0xff) !== FEATURE.ASYNC_EVENT_CONFIGURATION) return [STATUS.INVALID_FIELD, 0]
        return [0, events]
      default:
        return [STATUS.INVALID_OPCODE, 0]
    }
  }

  function forget(): void {
    for (const end of waiting) end(-1, 0)
    waiting.clear()
  }

  return {
    maxBytes: MAX_BYTES,
    onGone: null,
    onRoom: null,
    changed() {
      pending = true
      sendEvent()
    },
    readRegister(offset) {
      switch (offset) {
        case REGISTER.CAP_LO:
          return CAP[0]
        case REGISTER.CAP_HI:
          return CAP[1]
        case REGISTER.VS:
          return VERSION
        case REGISTER.CC:
          return cc
        case REGISTER.CSTS:
          return csts
        default:
          return 0
      }
    },
    writeRegister(offset, value) {
      if (offset !== REGISTER.CC) return
      cc = value
      csts = ((cc & 1) === 0 ? 0 : CSTS.RDY) | ((cc & CC_SHN) === 0 ? 0 : SHST.COMPLETE)
      if ((cc & 1) === 0) forget()
    },
    alloc: (bytes) => ({ bytes: Buffer.alloc(bytes) }),
    free() {},
    createQueue: (_qid, _entries, end) => end(STATUS.INVALID_FIELD),
    deleteQueue: (_qid, end) => end(),
    submit(_qid, sqe, block, end) {
      if ((sqe[0]! & 0xff) !== ADMIN.ASYNC_EVENT_REQUEST) done.push(() => end(...execute(sqe, block)))
      else if (waiting.size >= MOST_EVENT_REQUESTS) end(STATUS.ASYNC_EVENT_REQUEST_LIMIT_EXCEEDED, 0)
      else {
        waiting.add(end)
        sendEvent()
      }
    },
    withdraw(end) {
      if (!waiting.delete(end)) return false
      end(STATUS.ABORT_REQUESTED, 0)
      return true
    },
    idOf: () => undefined,
    run() {
      for (const end of done.splice(0)) end()
      sendEvent()
    },
    reset(ended) {
      forget()
      cc = csts = events = 0
      pending = sent = false
      ended()
    },
    close: forget,
  }
}

function send(block: DataBlock | null, data: Uint8Array, from: number): [status: number, result: number] {
  if (block === null) return [STATUS.DATA_SGL_LENGTH_INVALID, 0]
  block.bytes.fill(0)
  block.bytes.set(data.subarray(from, from + block.bytes.length))
  return [0, 0]
}

const IDENTITY = encodeIdentifyController({
  ...{ sn: 'DISCOVERY', mn: 'unvme discovery', fr: '1' },
  ...{
    mdts: 5,
    ver: VERSION,
    cntrltype: 2,
    sqes: 0x66,
    cqes: 0x44,
    lpa: 4,
    aerl: MOST_EVENT_REQUESTS - 1,
    oaes: CHANGE_MASK,
    subnqn: DISCOVERY_NQN,
  },
})
