import test from 'ava'
import { FEATURE, featureInfo } from '../../lib/nvme/spec/features.ts'
import {
  decodeControllerList,
  decodeIdentifyController,
  decodeIdentifyNamespace,
  decodeNamespaceDescriptors,
  decodeNamespaceList,
  formattedLba,
} from '../../lib/nvme/spec/identify.ts'
import {
  decodeChangedNamespaces,
  decodeCommandEffects,
  decodeEffectsLog,
  decodeErrorLog,
  decodeFirmwareSlotLog,
  decodeSmartLog,
} from '../../lib/nvme/spec/logs.ts'
import { STATUS } from '../../lib/nvme/spec/status.ts'
import { bringUp, type Command, type Completion, PAGE, READ, type Rig, range, WRITE } from './ring.ts'

const SET = 9
const GET = 10
const AER = 12
const ABORT = 8
const ALL = 0xffff_ffff

async function identify(rig: Rig, buf: number, cns: number, nsid = 0) {
  const { status } = await rig.admin({ opcode: 6, nsid, prp1: buf, dw: [cns] })
  return { status, bytes: rig.at(buf, PAGE).slice() }
}

async function log(rig: Rig, buf: number, lid: number, bytes: number, more: Partial<Command> = {}) {
  const numd = bytes / 4 - 1
  const dw = [lid | ((numd & 0xffff) << 16), numd >>> 16]
  const { status } = await rig.admin({ opcode: 2, nsid: ALL, prp1: buf, prp2: buf + PAGE, dw, ...more })
  return { status, bytes: rig.at(buf, bytes).slice() }
}

for (const host of ['', '&thread=1']) {
  const address = `sim:?size=1M${host}`

  test(`identify controller and namespaces (${address})`, async (t) => {
    const rig = await bringUp(`${address}&ns=2,5&lba=4096&mdts=3&serial=ABC&model=Some%20disk`)
    const buf = rig.alloc(1)
    const ctrl = decodeIdentifyController((await identify(rig, buf, 1)).bytes)
    t.like(ctrl, { sn: 'ABC', mn: 'Some disk', fr: '1.0', mdts: 3, cntlid: 1, ver: 0x1_0400, nn: 32 })
    t.like(ctrl, { acl: 3, aerl: 3, elpe: 63, npss: 0, sqes: 0x66, cqes: 0x44, oncs: 0xdf, vwc: 7, lpa: 0xe })
    t.is(ctrl.tnvmcap, 2n * 2n ** 20n)
    t.regex(ctrl.subnqn, /^nqn\.2014-08\.org\.nvmexpress:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/)
    const ns = decodeIdentifyNamespace((await identify(rig, buf, 0, 5)).bytes)
    t.like(ns, { nsze: 256, ncap: 256, nuse: 256, dlfeat: 9, nvmcap: 2n ** 20n })
    t.is(formattedLba(ns).bytes, 4096)
    t.deepEqual(decodeNamespaceList((await identify(rig, buf, 2)).bytes), [2, 5])
    t.deepEqual(decodeNamespaceList((await identify(rig, buf, 2, 2)).bytes), [5])
    t.deepEqual(decodeNamespaceList((await identify(rig, buf, 2, 5)).bytes), [])
    const ids = decodeNamespaceDescriptors((await identify(rig, buf, 3, 5)).bytes)
    t.deepEqual(ids.map(({ nidt }) => nidt).sort(), [1, 2])
    t.is(ids.find(({ nidt }) => nidt === 2)?.nid, ns.nguid)
    const other = decodeIdentifyNamespace((await identify(rig, buf, 0, 2)).bytes)
    t.not(other.nguid, ns.nguid)
    t.not(other.eui64, ns.eui64)
    t.deepEqual(decodeControllerList((await identify(rig, buf, 0x13)).bytes), [1])
    await rig.sim.close()
  })

  test(`identify: what does not exist (${address})`, async (t) => {
    const rig = await bringUp(`${address}&ns=2,5`)
    const buf = rig.alloc(1)
    const inactive = await identify(rig, buf, 0, 3)
    t.is(inactive.status, 0)
    t.true(inactive.bytes.every((byte) => byte === 0))
    const status = async (cns: number, nsid: number) => (await identify(rig, buf, cns, nsid)).status
    t.is(await status(0, 0), STATUS.INVALID_NAMESPACE_OR_FORMAT)
    t.is(await status(0, 33), STATUS.INVALID_NAMESPACE_OR_FORMAT)
    const common = decodeIdentifyNamespace((await identify(rig, buf, 0, ALL)).bytes)
    t.like(common, { nsze: 0, nlbaf: 1, dlfeat: 9 })
    t.is(await status(2, ALL), STATUS.INVALID_NAMESPACE_OR_FORMAT)
    t.is(await status(3, 3), STATUS.INVALID_NAMESPACE_OR_FORMAT)
    t.is(await status(0x7f, 0), STATUS.INVALID_FIELD)
    t.is((await rig.admin({ opcode: 6, prp1: 0x4000, dw: [1] })).status, STATUS.DATA_TRANSFER_ERROR)
    t.is((await rig.admin({ opcode: 0x7d })).status, STATUS.INVALID_OPCODE)
    t.is((await rig.admin({ opcode: 6, flags: 0x40, prp1: buf, dw: [1] })).status, STATUS.INVALID_FIELD)
    await rig.sim.close()
  })

  test(`the SMART log counts what happened (${address})`, async (t) => {
    const rig = await bringUp(address)
    await rig.createPair(1, 8)
    const buf = rig.alloc(2)
    const before = decodeSmartLog((await log(rig, buf, 2, 512)).bytes)
    t.like(before, {
      critical_warning: 0,
      temperature: 300,
      avail_spare: 100,
      percent_used: 0,
      power_cycles: 1n,
    })
    t.like(before, { host_read_commands: 0n, data_units_read: 0n, media_errors: 0n, num_err_log_entries: 0n })
    for (let i = 0; i < 126; i++) {
      await rig.run(1, { opcode: WRITE, nsid: 1, prp1: buf, prp2: buf + PAGE, dw: range(0, 16) })
    }
    for (let i = 0; i < 3; i++) await rig.run(1, { opcode: READ, nsid: 1, prp1: buf, dw: range(0, 1) })
    await rig.run(1, { opcode: 4, nsid: 1, dw: range(9, 1) })
    await rig.run(1, { opcode: READ, nsid: 1, prp1: buf, dw: range(9, 1) })
    await rig.run(1, { opcode: READ, nsid: 1, prp1: buf, dw: range(99999, 1) })
    const after = decodeSmartLog((await log(rig, buf, 2, 512)).bytes)
    t.like(after, {
      host_read_commands: 3n,
      host_write_commands: 126n,
      media_errors: 1n,
      num_err_log_entries: 2n,
    })
    t.like(after, { data_units_read: 1n, data_units_written: 3n })
    await rig.sim.close()
  })

  test(`the error log holds the latest failures, newest first (${address})`, async (t) => {
    const rig = await bringUp(address)
    await rig.createPair(1, 8)
    const buf = rig.alloc(2)
    for (let i = 0; i < 70; i++) {
      const failed = await rig.run(1, { opcode: READ, nsid: 1, cid: i, prp1: buf, dw: range(5000 + i, 1) })
      t.true(failed.more)
    }
    const entries = decodeErrorLog((await log(rig, buf, 1, 64 * 64)).bytes)
    t.is(entries.length, 64)
    t.like(entries[0], { error_count: 70n, sqid: 1, cmdid: 69, lba: 5069n, nsid: 1, opcode: READ })
    t.is(entries[0]!.status_field & 0x7ff, STATUS.LBA_OUT_OF_RANGE)
    t.like(entries[63], { error_count: 7n, cmdid: 6, lba: 5006n })
    await rig.sim.close()
  })

  test(`log pages: offset, length, firmware, effects, and what is refused (${address})`, async (t) => {
    const rig = await bringUp(`${address}&mdts=1`)
    const buf = rig.alloc(3)
    const status = async (lid: number, bytes: number, more: Partial<Command> = {}) =>
      (await log(rig, buf, lid, bytes, more)).status
    t.is(decodeFirmwareSlotLog((await log(rig, buf, 3, 512)).bytes).frs[0], '1.0')
    const effects = decodeEffectsLog((await log(rig, buf, 5, PAGE)).bytes)
    t.true(decodeCommandEffects(effects.acs[6]!).csupp)
    t.true(decodeCommandEffects(effects.iocs[WRITE]!).lbcc)
    t.false(decodeCommandEffects(effects.iocs[0x55]!).csupp)
    const part = await log(rig, buf, 5, 8, { dw: [5 | (1 << 16), 0, 1024 + 4, 0] })
    t.is(Buffer.from(part.bytes).readUInt32LE(0), effects.iocs[1]!)
    t.is(Buffer.from(part.bytes).readUInt32LE(4), effects.iocs[2]!)
    const beyond = await log(rig, buf, 3, 1024)
    t.is(beyond.status, 0)
    t.true(beyond.bytes.subarray(512).every((byte) => byte === 0))
    t.is(await status(0x7f, 512), STATUS.INVALID_LOG_PAGE)
    t.is(await status(2, 512, { dw: [2 | (127 << 16), 0, 2, 0] }), STATUS.INVALID_FIELD, 'offset no dword')
    t.is(
      await status(2, 512, { dw: [2 | (127 << 16), 0, 516, 0] }),
      STATUS.INVALID_FIELD,
      'offset behind the end',
    )
    t.is(await status(2, 3 * PAGE), STATUS.INVALID_FIELD, 'above MDTS')
    t.is(await status(2, 512, { nsid: 1 }), STATUS.INVALID_FIELD, 'not kept for a namespace')
    t.is(await status(2, 512, { nsid: 7 }), STATUS.INVALID_NAMESPACE_OR_FORMAT)
    await rig.sim.close()
  })

  test(`features: current, default, saved, supported (${address})`, async (t) => {
    const rig = await bringUp(address)
    const get = (fid: number, select = 0, dw11 = 0, nsid = 0) =>
      rig.admin({ opcode: GET, nsid, dw: [fid | (select << 8), dw11] })
    const set = (fid: number, dw11: number, { save = false, nsid = 0 } = {}) =>
      rig.admin({ opcode: SET, nsid, dw: [(fid | (save ? 0x8000_0000 : 0)) >>> 0, dw11] })
    t.like(await get(6), { status: 0, result: 1 })
    t.like(await get(6, 3), { status: 0, result: 5 })
    t.like(await set(6, 0), { status: 0 })
    t.like(await get(6), { result: 0 })
    t.like(await get(6, 1), { result: 1 })
    t.like(await get(6, 2), { result: 1 })
    t.is((await set(1, 0x0302_0105, { save: true })).status, 0)
    t.like(await get(1), { result: 0x0302_0105 })
    t.like(await get(1, 2), { result: 0x0302_0105 })
    t.like(await get(1, 1), { result: 4 })
    await rig.sim.reset()
    rig.enable()
    await rig.ready()
    t.like(await get(1), { result: 0x0302_0105 }, 'saved values survive')
    t.like(await get(6), { result: 1 }, 'others do not')

    t.like(await set(9, 0x1_0003), { status: 0 })
    t.like(await get(9, 0, 3), { result: 0x1_0003 })
    t.like(await get(9, 0, 2), { result: 2 })
    t.is((await get(9, 0, 17)).status, STATUS.INVALID_FIELD)
    t.is((await set(2, 1)).status, STATUS.INVALID_FIELD, 'no such power state')
    t.is((await get(0x0d)).status, STATUS.INVALID_FIELD, 'not supported')
    t.is((await set(0xff, 0)).status, STATUS.INVALID_FIELD)
    t.is((await get(6, 4)).status, STATUS.INVALID_FIELD)
    t.is((await set(7, 0, { save: true })).status, STATUS.FEATURE_NOT_SAVEABLE)
    t.is((await set(6, 0, { nsid: 1 })).status, STATUS.FEATURE_NOT_NAMESPACE_SPECIFIC)
    t.is((await set(6, 0, { nsid: 9 })).status, STATUS.INVALID_NAMESPACE_OR_FORMAT)
    t.is((await set(5, 7, { nsid: 9 })).status, STATUS.INVALID_NAMESPACE_OR_FORMAT)
    t.is((await set(5, 0x1_0000, { nsid: 1 })).status, STATUS.INVALID_FIELD, 'DULBE')
    t.is((await set(5, 7, { nsid: ALL })).status, 0)
    t.like(await get(5, 0, 0, 1), { status: 0, result: 7 })
    t.is((await get(5)).status, STATUS.INVALID_NAMESPACE_OR_FORMAT)
    await rig.sim.close()
  })

  test(`features of a namespace are asked for of one, whatever is selected (${address})`, async (t) => {
    const rig = await bringUp(address)
    const buf = rig.alloc(1)
    const run = async (opcode: number, fid: number, nsid: number, select = 0) =>
      (await rig.admin({ opcode, nsid, prp1: buf, dw: [fid | (select << 8), 0] })).status
    const ofNamespace = Array.from({ length: 256 }, (_, fid) => fid).filter(
      (fid) => featureInfo(fid).namespaceSpecific,
    )
    const supported: number[] = []
    for (const fid of ofNamespace) {
      if ((await run(GET, fid, 1)) === STATUS.INVALID_FIELD) continue
      supported.push(fid)
      t.is(await run(SET, fid, 1), 0)
      t.is(await run(SET, fid, ALL), 0, 'all of them at once')
      for (const nsid of [0, 9, 0xffff_fffe]) {
        t.is(await run(SET, fid, nsid), STATUS.INVALID_NAMESPACE_OR_FORMAT, `set ${fid} of ${nsid}`)
      }
      for (let select = 0; select <= 3; select++) {
        t.is(await run(GET, fid, 1, select), 0)
        for (const nsid of [0, 9, 0xffff_fffe, ALL]) {
          const what = `get ${fid} of ${nsid}, select ${select}`
          t.is(await run(GET, fid, nsid, select), STATUS.INVALID_NAMESPACE_OR_FORMAT, what)
        }
      }
    }
    t.deepEqual(supported, [FEATURE.LBA_RANGE_TYPE, FEATURE.ERROR_RECOVERY])
    // What is set for all of them is each one's, data included.
    const bytes = rig.at(buf, PAGE)
    bytes.fill(0x44)
    t.is(await run(SET, FEATURE.LBA_RANGE_TYPE, ALL), 0)
    bytes.fill(0)
    t.is(await run(GET, FEATURE.LBA_RANGE_TYPE, 1), 0)
    t.true(bytes.every((byte) => byte === 0x44))
    await rig.sim.close()
  })

  test(`features with data: timestamp, host identifier, LBA range type (${address})`, async (t) => {
    const rig = await bringUp(address)
    const buf = rig.alloc(1)
    const bytes = rig.at(buf, PAGE)
    const run = (opcode: number, fid: number, nsid = 0) =>
      rig.admin({ opcode, nsid, prp1: buf, dw: [fid, 0] })
    const now = 1_700_000_000_000
    bytes.fill(0)
    Buffer.from(bytes.buffer, bytes.byteOffset).writeUIntLE(now, 0, 6)
    t.is((await run(SET, 0x0e)).status, 0)
    bytes.fill(0)
    t.is((await run(GET, 0x0e)).status, 0)
    const told = Buffer.from(bytes).readUIntLE(0, 6)
    t.true(told >= now && told < now + 60_000)
    t.is(bytes[6], 2, 'set by the host')
    bytes.fill(0x5a, 0, 8)
    t.is((await run(SET, 0x81)).status, 0)
    bytes.fill(0)
    t.is((await run(GET, 0x81)).status, 0)
    t.true(bytes.subarray(0, 8).every((byte) => byte === 0x5a))
    bytes.fill(0x33)
    t.is((await run(SET, 3, 1)).status, 0)
    bytes.fill(0)
    t.is((await run(GET, 3, 1)).status, 0)
    t.true(bytes.every((byte) => byte === 0x33))
    t.is((await rig.admin({ opcode: SET, prp1: 0x3000, dw: [0x81, 0] })).status, STATUS.DATA_TRANSFER_ERROR)
    await rig.sim.close()
  })

  test(`temperature: thresholds, warning, event once until the log is read (${address})`, async (t) => {
    const rig = await bringUp(address)
    const buf = rig.alloc(1)
    const set = (dw11: number) => rig.admin({ opcode: SET, dw: [4, dw11] })
    const get = async (dw11: number) => (await rig.admin({ opcode: GET, dw: [4, dw11] })).result
    t.is(await get(0), 343)
    t.is(await get(0x10_0000), 0)
    t.is((await set(0x30_0000)).status, STATUS.INVALID_FIELD)
    t.is((await set(0x01_0000 | 300)).status, STATUS.INVALID_FIELD, 'no such sensor')
    rig.post(0, { opcode: AER, cid: 900 })
    rig.post(0, { opcode: AER, cid: 901 })
    rig.ringTail(0)
    rig.sim.controls.setHealth({ temperature: 350 })
    t.like(await rig.next(0), { cid: 900, status: 0, result: 0x02_0101 })
    rig.sim.controls.setHealth({ temperature: 300 })
    rig.sim.controls.setHealth({ temperature: 360 })
    await rig.settle()
    t.is(rig.take(0), undefined, 'silent until the log was read')
    const smart = decodeSmartLog((await log(rig, buf, 2, 512, { dw: [2 | 0x8000 | (127 << 16)] })).bytes)
    t.like(smart, { critical_warning: 2, temperature: 360 })
    await rig.settle()
    t.is(rig.take(0), undefined, 'the event was retained')
    await log(rig, buf, 2, 512)
    t.like(await rig.next(0), { cid: 901, result: 0x02_0101 })
    await log(rig, buf, 2, 512)
    rig.sim.controls.setHealth({ temperature: 300 })
    rig.post(0, { opcode: AER, cid: 902 })
    rig.ringTail(0)
    t.is((await set(300)).status, 0)
    t.like(await rig.next(0), { cid: 902, result: 0x02_0101 }, 'a threshold that is met')
    await rig.sim.close()
  })

  test(`events that feature 0Bh masks are not sent; others by their kind (${address})`, async (t) => {
    const rig = await bringUp(address)
    const buf = rig.alloc(1)
    rig.post(0, { opcode: AER, cid: 900 })
    rig.ringTail(0)
    t.is((await rig.admin({ opcode: SET, dw: [0x0b, 0x01] })).status, 0)
    rig.sim.controls.setHealth({ temperature: 350 })
    rig.sim.controls.namespaceChanged(1)
    await rig.settle()
    t.is(rig.take(0), undefined)
    rig.sim.controls.setHealth({ availableSpare: 5 })
    t.like(await rig.next(0), { cid: 900, result: 0x02_0201 })
    await log(rig, buf, 2, 512)
    t.is((await rig.admin({ opcode: SET, dw: [0x0b, 0x1ff] })).status, 0)
    rig.post(0, { opcode: AER, cid: 901 })
    rig.post(0, { opcode: AER, cid: 902 })
    rig.ringTail(0)
    rig.sim.controls.setHealth({ warnings: 4 })
    t.like(await rig.next(0), { cid: 901, result: 0x02_0001 })
    rig.sim.controls.namespaceChanged(1)
    t.like(await rig.next(0), { cid: 902, result: 0x04_0002 })
    t.deepEqual(decodeChangedNamespaces((await log(rig, buf, 4, PAGE)).bytes).nsids, [1])
    t.deepEqual(decodeChangedNamespaces((await log(rig, buf, 4, PAGE)).bytes).nsids, [], 'reading clears it')
    await rig.sim.close()
  })

  test(`event requests: a limit, and abort (${address})`, async (t) => {
    const rig = await bringUp(address)
    for (let i = 0; i < 5; i++) rig.post(0, { opcode: AER, cid: 900 + i })
    rig.ringTail(0)
    t.like(await rig.next(0), { cid: 904, status: STATUS.ASYNC_EVENT_REQUEST_LIMIT_EXCEEDED })
    rig.post(0, { opcode: ABORT, cid: 7, dw: [902 << 16] })
    rig.ringTail(0)
    t.like(await rig.next(0), { cid: 902, status: STATUS.ABORT_REQUESTED })
    t.like(await rig.next(0), { cid: 7, status: 0, result: 0 })
    t.like(await rig.admin({ opcode: ABORT, cid: 8, dw: [902 << 16] }), { status: 0, result: 1 })
    t.like(await rig.admin({ opcode: ABORT, cid: 9, dw: [9] }), { status: 0, result: 1 }, 'no such queue')
    await rig.sim.close()
  })

  test(`abort takes delayed commands back; too many aborts at once are refused (${address})`, async (t) => {
    const rig = await bringUp(`${address}&latency=1h`.replace('1h', '3000s'))
    await rig.createPair(1, 16)
    const buf = rig.alloc(1)
    rig.at(buf, PAGE).fill(1)
    for (let cid = 0; cid < 6; cid++)
      rig.post(1, { opcode: WRITE, cid, nsid: 1, prp1: buf, dw: range(cid, 1) })
    rig.ringTail(1)
    await rig.settle()
    t.is(rig.take(1), undefined)
    for (let cid = 0; cid < 6; cid++) rig.post(0, { opcode: ABORT, cid: 50 + cid, dw: [(cid << 16) | 1] })
    rig.ringTail(0)
    const answers: Completion[] = []
    for (let i = 0; i < 6; i++) answers.push(await rig.next(0))
    t.deepEqual(
      answers.map(({ cid, status, result }) => [cid, status, result]),
      [0, 1, 2, 3, 4, 5].map((cid) => [
        50 + cid,
        cid < 4 ? 0 : STATUS.ABORT_COMMAND_LIMIT_EXCEEDED,
        answers[cid]!.result,
      ]),
    )
    t.deepEqual(
      answers.slice(0, 4).map(({ result }) => result),
      [0, 0, 0, 0],
    )
    for (let cid = 0; cid < 4; cid++) {
      t.like(await rig.next(1), { cid, status: STATUS.ABORT_REQUESTED, dnr: false })
    }
    t.is((await rig.admin({ opcode: 0, dw: [1] })).status, 0)
    for (const cid of [4, 5]) t.like(await rig.next(1), { cid, status: STATUS.ABORTED_SQ_DELETION })
    await rig.sim.close()
  })
}
