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

/** @param records what there is to be found, as it is at each look */
export function createDiscovery(
  genctr: () => number,
  records: () => readonly DiscoveryRecord[],
): ServedController {
  let cc = 0
  let csts = 0
  let events = 0
  const waiting = new Set<CommandDone>()
  const done: (() => void)[] = []

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
        const log = encodeDiscoveryLog({ genctr: genctr(), records: records() })
        return sqe[12]! > log.length ? [STATUS.INVALID_FIELD, 0] : send(block, log, sqe[12]!)
      }
      case ADMIN.SET_FEATURES:
        if ((cdw10 & 0xff) !== FEATURE.ASYNC_EVENT_CONFIGURATION) return [STATUS.INVALID_FIELD, 0]
        events = sqe[11]!
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
      if ((sqe[0]! & 0xff) === ADMIN.ASYNC_EVENT_REQUEST) waiting.add(end)
      else done.push(() => end(...execute(sqe, block)))
    },
    idOf: () => undefined,
    run() {
      for (const end of done.splice(0)) end()
    },
    reset() {
      forget()
      cc = csts = events = 0
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
  ...{ mdts: 5, ver: VERSION, cntrltype: 2, sqes: 0x66, cqes: 0x44, lpa: 4, aerl: 3, subnqn: DISCOVERY_NQN },
})
