// Format, sanitize, self-test, firmware, namespaces, telemetry and saved features, through the driver's own calls.

import { spawnSync } from 'node:child_process'
import fs from 'node:fs'
import anyTest, { type ExecutionContext } from 'ava'
import {
  attachNamespace,
  commitFirmware,
  createNamespace,
  deleteNamespace,
  deviceSelfTest,
  downloadFirmware,
  formatNvm,
  getFeature,
  getLogPage,
  sanitize,
  setFeature,
} from '../../lib/nvme/host/admin-commands.ts'
import { SANITIZE_ACTION } from '../../lib/nvme/spec/commands.ts'
import { FEATURE, FEATURE_SELECT } from '../../lib/nvme/spec/features.ts'
import {
  CNS,
  decodeControllerList,
  decodeIdentifyController,
  decodeIdentifyNamespace,
  decodeNamespaceList,
  formattedLba,
} from '../../lib/nvme/spec/identify.ts'
import {
  decodeFirmwareSlotLog,
  decodeSanitizeLog,
  decodeSelfTestLog,
  decodeTelemetryHeader,
  LOG_PAGE,
  SELF_TEST,
  SELF_TEST_RESULT,
  TELEMETRY_BLOCK_BYTES,
  telemetryBytes,
} from '../../lib/nvme/spec/logs.ts'
import { ALL_NAMESPACES } from '../../lib/nvme/spec/opcodes.ts'
import { STATUS } from '../../lib/nvme/spec/status.ts'
import { ADMIN, type ControllerHandle, NVM, type NvmeError, openController } from '../../src/index.ts'
import { testFolder } from '../support/folder.ts'
import { startServer } from '../support/server.ts'

const file = testFolder()
const test = anyTest

async function refused(t: ExecutionContext, status: number, promise: Promise<unknown>): Promise<void> {
  const error = (await t.throwsAsync(promise, { code: 'ERR_NVME_STATUS' })) as NvmeError
  t.is((error.sct << 8) | error.sc, status, error.statusName)
}

async function identify(handle: ControllerHandle, cns: number, nsid = 0): Promise<Buffer> {
  return handle.controller.identify(cns, { nsid })
}

async function namespaceOf(handle: ControllerHandle, nsid: number) {
  return decodeIdentifyNamespace(await identify(handle, CNS.NAMESPACE, nsid))
}

const selfTestLog = async ({ controller }: ControllerHandle) =>
  decodeSelfTestLog(await getLogPage(controller, LOG_PAGE.DEVICE_SELF_TEST, 564))
const sanitizeLog = async ({ controller }: ControllerHandle) =>
  decodeSanitizeLog(await getLogPage(controller, LOG_PAGE.SANITIZE_STATUS, 512))
const firmwareLog = async ({ controller }: ControllerHandle) =>
  decodeFirmwareSlotLog(await getLogPage(controller, LOG_PAGE.FIRMWARE_SLOT, 512))

/** Looks again and again until it is so. */
async function until(so: () => Promise<boolean>): Promise<void> {
  while (!(await so())) await new Promise((resolve) => setTimeout(resolve, 5))
}

for (const host of ['', '&thread=1']) {
  const address = `sim:?size=8M&ns=2${host}`
  // Operations that are over at once, and that never are: no test waits for a time.
  const brief = `${address}&operation=0`
  const endless = `${address}&operation=3600s`

  test(`format: another block size, and nothing is left (${address})`, async (t) => {
    await using handle = await openController(address)
    const { controller } = handle
    const before = await handle.openNamespace(1)
    await before.promises.write(Buffer.alloc(4096, 7), 0)
    await before.promises.cmd({ opcode: NVM.WRITE_UNCORRECTABLE, cdw10: 20 })
    await formatNvm(controller, 1, { lbaf: 1 })
    const id = await namespaceOf(handle, 1)
    t.is(id.nsze, 2048)
    t.is(formattedLba(id).bytes, 4096)
    t.is(formattedLba(await namespaceOf(handle, 2)).bytes, 512)
    await using after = await handle.openNamespace(1)
    t.is(after.blocksize, 4096)
    const all = await after.promises.read(Buffer.alloc(64 * 4096), 0)
    t.true(all.every((byte) => byte === 0))
    await before.close()
    await formatNvm(controller, ALL_NAMESPACES, { lbaf: 0, ses: 2 })
    t.deepEqual([(await namespaceOf(handle, 1)).nsze, (await namespaceOf(handle, 2)).nsze], [16384, 16384])
    await refused(t, STATUS.INVALID_FORMAT, formatNvm(controller, 1, { lbaf: 2 }))
    await refused(t, STATUS.INVALID_FORMAT, formatNvm(controller, 1, { lbaf: 17 }))
    await refused(t, STATUS.INVALID_FORMAT, formatNvm(controller, 1, { lbaf: 0, mset: true }))
    await refused(t, STATUS.INVALID_FORMAT, formatNvm(controller, 1, { lbaf: 0, pi: 1 }))
    await refused(t, STATUS.INVALID_FIELD, formatNvm(controller, 1, { lbaf: 0, ses: 3 }))
    await refused(t, STATUS.INVALID_NAMESPACE_OR_FORMAT, formatNvm(controller, 3, { lbaf: 0 }))
  })

  test(`self-test: results (${address})`, async (t) => {
    await using handle = await openController(brief)
    const { controller } = handle
    t.is((await selfTestLog(handle)).results[0]!.result, SELF_TEST_RESULT.UNUSED)
    await deviceSelfTest(controller, SELF_TEST.SHORT)
    const log = await selfTestLog(handle)
    t.is(log.current_operation, SELF_TEST.NONE)
    t.like(log.results[0], { result: SELF_TEST_RESULT.NO_ERROR, code: SELF_TEST.SHORT, nsid_valid: false })

    await using ns = await handle.openNamespace(2)
    await ns.promises.cmd({ opcode: NVM.WRITE_UNCORRECTABLE, cdw10: 20 })
    await deviceSelfTest(controller, SELF_TEST.EXTENDED, 2)
    t.like((await selfTestLog(handle)).results[0], {
      ...{ result: SELF_TEST_RESULT.SEGMENT_FAILED, code: SELF_TEST.EXTENDED, segment: 7 },
      ...{ nsid_valid: true, nsid: 2, flba_valid: true, flba: 20n, sct: 2, sc: 0x81 },
    })
    await deviceSelfTest(controller, SELF_TEST.SHORT, 1)
    t.like((await selfTestLog(handle)).results[0], { result: SELF_TEST_RESULT.NO_ERROR, nsid: 1 })
    for (let i = 0; i < 20; i++) await deviceSelfTest(controller, SELF_TEST.EXTENDED, 0)
    t.true((await selfTestLog(handle)).results.every(({ code }) => code === SELF_TEST.EXTENDED))
  })

  test(`self-test: what ends one that runs (${address})`, async (t) => {
    await using handle = await openController(endless)
    const { controller } = handle
    await deviceSelfTest(controller, SELF_TEST.EXTENDED, 0)
    t.like(await selfTestLog(handle), { current_operation: SELF_TEST.EXTENDED, completion: 0 })
    await refused(t, STATUS.SELF_TEST_IN_PROGRESS, deviceSelfTest(controller, SELF_TEST.SHORT))
    await deviceSelfTest(controller, SELF_TEST.ABORT)
    await deviceSelfTest(controller, SELF_TEST.EXTENDED)
    await formatNvm(controller, 1, { lbaf: 0 })
    await deviceSelfTest(controller, SELF_TEST.SHORT)
    await handle.reset()
    await deviceSelfTest(controller, SELF_TEST.EXTENDED)
    await handle.reset()
    // An extended one goes on.
    t.is((await selfTestLog(handle)).current_operation, SELF_TEST.EXTENDED)
    await sanitize(controller, { sanact: SANITIZE_ACTION.BLOCK_ERASE })
    const { results } = await selfTestLog(handle)
    t.deepEqual(
      results.slice(0, 4).map(({ result }) => result),
      [
        SELF_TEST_RESULT.ABORTED_BY_SANITIZE,
        SELF_TEST_RESULT.ABORTED_BY_RESET,
        SELF_TEST_RESULT.ABORTED_BY_FORMAT,
        SELF_TEST_RESULT.ABORTED_BY_COMMAND,
      ],
    )
    await refused(t, STATUS.SANITIZE_IN_PROGRESS, deviceSelfTest(controller, SELF_TEST.SHORT))
    await using other = await openController(address)
    await refused(t, STATUS.INVALID_FIELD, deviceSelfTest(other.controller, SELF_TEST.VENDOR))
    await refused(t, STATUS.INVALID_NAMESPACE_OR_FORMAT, deviceSelfTest(other.controller, SELF_TEST.SHORT, 3))
  })

  test(`sanitize: nothing is left, and it is announced (${address})`, async (t) => {
    await using handle = await openController(brief)
    const { controller } = handle
    const events: number[] = []
    controller.onEvent((result) => events.push(result))
    t.like((await sanitizeLog(handle)).sstat, { status: 0, global_erased: false })
    await using ns = await handle.openNamespace(2)
    await ns.promises.write(Buffer.alloc(4096, 7), 0)
    await ns.promises.cmd({ opcode: NVM.WRITE_UNCORRECTABLE, cdw10: 20 })
    await sanitize(controller, { sanact: SANITIZE_ACTION.OVERWRITE, owpass: 3, pattern: 0x55 })
    const done = await sanitizeLog(handle)
    t.like(done, { sstat: { status: 1, passes: 3, global_erased: true }, scdw10: 0x33, sprog: 0xffff })
    const all = await ns.promises.read(Buffer.alloc(32 * 512), 0)
    t.true(all.every((byte) => byte === 0))
    await ns.promises.write(Buffer.alloc(512), 0)
    t.false((await sanitizeLog(handle)).sstat.global_erased)
    await until(async () => events.includes(0x81_0106))

    await refused(t, STATUS.INVALID_FIELD, sanitize(controller, { sanact: 0 }))
    await refused(t, STATUS.INVALID_FIELD, sanitize(controller, { sanact: 5 }))
    await t.notThrowsAsync(sanitize(controller, { sanact: SANITIZE_ACTION.EXIT_FAILURE }))
    // Blocks are always deallocated: refused, or done with another state, as feature 17h says.
    const keep = { sanact: SANITIZE_ACTION.CRYPTO_ERASE, ndas: true }
    await refused(t, STATUS.INVALID_FIELD, sanitize(controller, keep))
    await setFeature(controller, FEATURE.SANITIZE_CONFIG, 1)
    await sanitize(controller, keep)
    t.is((await sanitizeLog(handle)).sstat.status, 4)
  })

  test(`sanitize: nothing else goes on meanwhile (${address})`, async (t) => {
    await using handle = await openController(endless)
    const { controller } = handle
    await using ns = await handle.openNamespace(2)
    await sanitize(controller, { sanact: SANITIZE_ACTION.BLOCK_ERASE })
    await refused(t, STATUS.SANITIZE_IN_PROGRESS, ns.promises.read(Buffer.alloc(512), 0))
    await refused(t, STATUS.SANITIZE_IN_PROGRESS, ns.promises.flush())
    await refused(t, STATUS.SANITIZE_IN_PROGRESS, formatNvm(controller, 1, { lbaf: 0 }))
    await refused(
      t,
      STATUS.SANITIZE_IN_PROGRESS,
      sanitize(controller, { sanact: SANITIZE_ACTION.BLOCK_ERASE }),
    )
    await handle.reset()
    const running = await sanitizeLog(handle)
    t.is(running.sstat.status, 2)
    t.true(running.sprog < 0xffff)
    t.is((await identify(handle, CNS.CONTROLLER)).length, 4096)
  })

  test(`firmware: downloaded, committed, activated (${address})`, async (t) => {
    await using handle = await openController(`${address}&mdts=1`)
    const { controller } = handle
    const revision = async () => decodeIdentifyController(await identify(handle, CNS.CONTROLLER)).fr
    const image = Buffer.alloc(10_001, 'unvme firmware 2.0-b\n')
    image.write('unvme firmware 2.0-b\n')
    await downloadFirmware(controller, image)
    await commitFirmware(controller, { slot: 2, action: 1 })
    t.like(await firmwareLog(handle), { afi: { active: 1, next: 2 } })
    t.is(await revision(), '1.0')
    await handle.reset()
    const log = await firmwareLog(handle)
    t.deepEqual(log.afi, { active: 2, next: 0 })
    t.deepEqual(log.frs.slice(0, 3), ['1.0', '2.0-b', ''])
    t.is(await revision(), '2.0-b')

    await downloadFirmware(controller, Buffer.from('unvme firmware 3\n'))
    await commitFirmware(controller, { slot: 0, action: 3 })
    t.is(await revision(), '3')
    t.is((await firmwareLog(handle)).afi.active, 3)
    await commitFirmware(controller, { slot: 1, action: 2 })
    await handle.reset()
    t.is(await revision(), '1.0')

    await refused(t, STATUS.INVALID_FIRMWARE_IMAGE, commitFirmware(controller, { slot: 2 }))
    await downloadFirmware(controller, image)
    await refused(t, STATUS.OVERLAPPING_RANGE, downloadFirmware(controller, image, { offset: 8192 }))
    await refused(t, STATUS.INVALID_FIRMWARE_SLOT, commitFirmware(controller, { slot: 1 }))
    await refused(t, STATUS.INVALID_FIRMWARE_SLOT, commitFirmware(controller, { slot: 4 }))
    await refused(t, STATUS.INVALID_FIELD, commitFirmware(controller, { slot: 2, action: 6 }))
    // A reset forgets what was not committed; parts may come in any order, without gaps.
    await handle.reset()
    await downloadFirmware(controller, image.subarray(4096), { offset: 4096 })
    await refused(t, STATUS.INVALID_FIRMWARE_IMAGE, commitFirmware(controller, { slot: 2 }))
    await downloadFirmware(controller, image.subarray(4096), { offset: 4096 })
    await downloadFirmware(controller, image.subarray(0, 4096))
    await commitFirmware(controller, { slot: 2 })
    await refused(t, STATUS.INVALID_FIELD, downloadFirmware(controller, image, { offset: 512 }))
    await refused(t, STATUS.INVALID_FIELD, downloadFirmware(controller, image, { offset: 2 ** 24 }))
  })

  test(`namespaces: created, attached, used, detached, deleted (${address})`, async (t) => {
    await using handle = await openController(`${address}&spare=1M`)
    const { controller } = handle
    const unused = async () => decodeIdentifyController(await identify(handle, CNS.CONTROLLER)).unvmcap
    const list = async (cns: number) => decodeNamespaceList(await identify(handle, cns))
    t.is(await unused(), 2n ** 20n)
    const nsid = await createNamespace(controller, { nsze: 200, ncap: 200, flbas: 1 })
    t.is(nsid, 3)
    t.is(await unused(), 2n ** 20n - 200n * 4096n)
    t.deepEqual(await list(CNS.ACTIVE_NAMESPACES), [1, 2])
    t.deepEqual(await list(CNS.ALLOCATED_NAMESPACES), [1, 2, 3])
    t.is((await namespaceOf(handle, 3)).nsze, 0)
    t.is(decodeIdentifyNamespace(await identify(handle, CNS.ALLOCATED_NAMESPACE, 3)).nsze, 200)
    t.deepEqual(decodeControllerList(await identify(handle, CNS.ATTACHED_CONTROLLERS, 3)), [])
    await t.throwsAsync(handle.openNamespace(3), { code: 'ERR_UNVME_ADDRESS' })
    await refused(t, STATUS.NAMESPACE_NOT_ATTACHED, attachNamespace(controller, 3, [1], { detach: true }))
    await attachNamespace(controller, 3, [1])
    await refused(t, STATUS.NAMESPACE_ALREADY_ATTACHED, attachNamespace(controller, 3, [1]))
    t.deepEqual(decodeControllerList(await identify(handle, CNS.ATTACHED_CONTROLLERS, 3)), [1])
    await using ns = await handle.openNamespace(3)
    t.is(ns.blockcount, 200)
    await ns.promises.write(Buffer.alloc(4096, 9), 199)
    t.deepEqual(await ns.promises.read(Buffer.alloc(4096), 199), Buffer.alloc(4096, 9))
    await attachNamespace(controller, 3, [1], { detach: true })
    await refused(t, STATUS.INVALID_NAMESPACE_OR_FORMAT, ns.promises.read(Buffer.alloc(4096), 199))
    await attachNamespace(controller, 3, [1])
    t.deepEqual(await ns.promises.read(Buffer.alloc(4096), 199), Buffer.alloc(4096, 9))
    await deleteNamespace(controller, 3)
    await refused(t, STATUS.INVALID_NAMESPACE_OR_FORMAT, ns.promises.read(Buffer.alloc(4096), 0))

    // What was there is gone, also where the next one gets the same place.
    t.is(await createNamespace(controller, { nsze: 2048, ncap: 2048 }), 3)
    await attachNamespace(controller, 3, [1])
    await using next = await handle.openNamespace(3)
    const all = await next.promises.read(Buffer.alloc(2 ** 20), 0)
    t.true(all.every((byte) => byte === 0))
    await refused(
      t,
      STATUS.NAMESPACE_INSUFFICIENT_CAPACITY,
      createNamespace(controller, { nsze: 1, ncap: 1 }),
    )
    await deleteNamespace(controller, ALL_NAMESPACES)
    t.deepEqual(await handle.namespaces(), [])
    t.is(await createNamespace(controller, { nsze: 8, ncap: 8 }), 1)
    const create = (value: object) => createNamespace(controller, { nsze: 8, ncap: 8, ...value })
    await refused(t, STATUS.INVALID_FORMAT, create({ flbas: 2 }))
    await refused(t, STATUS.INVALID_FORMAT, create({ dps: 1 }))
    await refused(t, STATUS.INVALID_FIELD, create({ nsze: 0, ncap: 0 }))
    await refused(t, STATUS.INVALID_FIELD, create({ ncap: 9 }))
    await refused(t, STATUS.THIN_PROVISIONING_NOT_SUPPORTED, create({ ncap: 7 }))
    await refused(t, STATUS.CONTROLLER_LIST_INVALID, attachNamespace(controller, 1, [2]))
    await refused(t, STATUS.CONTROLLER_LIST_INVALID, attachNamespace(controller, 1, []))
    await refused(t, STATUS.INVALID_NAMESPACE_OR_FORMAT, attachNamespace(controller, 9, [1]))
    await refused(t, STATUS.INVALID_NAMESPACE_OR_FORMAT, deleteNamespace(controller, 9))
    await refused(
      t,
      STATUS.IO_COMMAND_SET_NOT_SUPPORTED,
      createNamespace(controller, { nsze: 8, ncap: 8 }, { csi: 2 }),
    )
    for (let i = 2; i <= 32; i++) t.is(await create({}), i)
    await refused(t, STATUS.NAMESPACE_IDENTIFIER_UNAVAILABLE, create({}))
  })

  test(`telemetry: made when asked for (${address})`, async (t) => {
    await using handle = await openController(address)
    const read = (bytes: number, lsp = 0) =>
      getLogPage(handle.controller, LOG_PAGE.TELEMETRY_HOST, bytes, { lsp })
    t.is(telemetryBytes(decodeTelemetryHeader(await read(512)), 3), TELEMETRY_BLOCK_BYTES)
    await refused(t, STATUS.INVALID_LOG_PAGE, getLogPage(handle.controller, 0x55, 4))
    const header = decodeTelemetryHeader(await read(512, 1))
    t.is(header.hostdgn, 1)
    const whole = await read(telemetryBytes(header, 1))
    const content = JSON.parse(whole.toString('utf8', TELEMETRY_BLOCK_BYTES).replace(/\0+$/, ''))
    t.is(content.errors[0].opcode, ADMIN.GET_LOG_PAGE)
    t.is(content.health.powerCycles, 1)
    const own = await getLogPage(handle.controller, LOG_PAGE.TELEMETRY_CONTROLLER, 512)
    t.like(decodeTelemetryHeader(own), { lid: 8, dalb3: 0, ctrlavail: 0 })
  })

  test(`what an image's controller keeps (${address})`, async (t) => {
    const image = file(`kept${host}.img`)
    const kept = `sim:${image}?size=8M&ns=2&spare=4M&operation=3600s${host}`
    {
      await using handle = await openController(kept)
      const { controller } = handle
      t.false(fs.existsSync(`${image}.nvme.json`))
      await setFeature(controller, FEATURE.VOLATILE_WRITE_CACHE, 0, { save: true })
      await setFeature(controller, FEATURE.WRITE_ATOMICITY, 1)
      await formatNvm(controller, 2, { lbaf: 1 })
      await createNamespace(controller, { nsze: 8, ncap: 8 })
      await attachNamespace(controller, 1, [1], { detach: true })
      await downloadFirmware(controller, Buffer.from('unvme firmware 2.0\n'))
      await commitFirmware(controller, { slot: 2, action: 1 })
      await deviceSelfTest(controller, SELF_TEST.SHORT, 0)
      await using ns = await handle.openNamespace(2)
      await ns.promises.write(Buffer.alloc(4096, 5), 3)
    }
    {
      await using handle = await openController(kept)
      const { controller } = handle
      t.deepEqual(await handle.namespaces(), [2])
      t.deepEqual(decodeNamespaceList(await identify(handle, CNS.ALLOCATED_NAMESPACES)), [1, 2, 3])
      t.is(handle.identity.fr, '2.0')
      t.like(await getFeature(controller, FEATURE.VOLATILE_WRITE_CACHE), { value: 0 })
      t.like(await getFeature(controller, FEATURE.VOLATILE_WRITE_CACHE, { select: FEATURE_SELECT.DEFAULT }), {
        value: 1,
      })
      t.like(await getFeature(controller, FEATURE.WRITE_ATOMICITY), { value: 0 })
      t.is((await selfTestLog(handle)).results[0]!.result, SELF_TEST_RESULT.ABORTED_BY_RESET)
      await using ns = await handle.openNamespace(2)
      t.is(ns.blocksize, 4096)
      t.deepEqual(await ns.promises.read(Buffer.alloc(4096), 3), Buffer.alloc(4096, 5))
      await sanitize(controller, { sanact: SANITIZE_ACTION.BLOCK_ERASE })
    }
    {
      await using handle = await openController(kept.replace('3600s', '0'))
      t.is((await sanitizeLog(handle)).sstat.status, 1)
    }
    {
      const server = await startServer({ device: `sim:${image}` })
      await using handle = await openController(server.address)
      t.deepEqual(await handle.namespaces(), [2])
      t.is(handle.identity.fr, '2.0')
      t.like(await getFeature(handle.controller, FEATURE.VOLATILE_WRITE_CACHE), { value: 0 })
      await handle.close()
      await server.stop()
    }
    const state = fs.readFileSync(`${image}.nvme.json`, 'utf8')
    for (const [text, message] of [
      ['{', /delete it, and the image is as new/],
      ['{"version":2}', /is no state of a controller/],
      [state.replace(/"blockBytes": \d+/, '"blockBytes": 7'), /is no state of a controller/],
      [state.replace(/"bytes": \d+/, '"bytes": 1e9'), /is of an image of 1000000000 bytes, .* has 20971520/],
    ] as const) {
      fs.writeFileSync(`${image}.nvme.json`, text)
      await t.throwsAsync(openController(kept), { code: 'ERR_UNVME_IMAGE', message })
    }
    fs.rmSync(`${image}.nvme.json`)
    await using handle = await openController(kept)
    t.deepEqual(await handle.namespaces(), [1, 2])
  })
}

/** Changes what the controller of an image keeps. */
async function keepSomething(address: string): Promise<void> {
  await using handle = await openController(address)
  await setFeature(handle.controller, FEATURE.VOLATILE_WRITE_CACHE, 0, { save: true })
}

async function kept(address: string): Promise<number> {
  await using handle = await openController(address)
  return (await getFeature(handle.controller, FEATURE.VOLATILE_WRITE_CACHE)).value
}

test("the state of an image's controller follows no link, and leaves what was planted in its way", async (t) => {
  const image = file('planted.img')
  const victim = file('victim')
  const [state, next] = [`${image}.nvme.json`, `${image}.nvme.json.new`]
  fs.writeFileSync(victim, 'precious', { mode: 0o600 })
  fs.writeFileSync(image, Buffer.alloc(2 ** 20), { mode: 0o640 })
  for (const target of [victim, file('not-there')]) {
    fs.symlinkSync(target, next)
    await keepSomething(`sim:${image}`)
    t.false(fs.existsSync(next))
    t.false(fs.existsSync(file('not-there')))
    t.is(fs.readFileSync(victim, 'utf8'), 'precious')
  }
  // A file with a mode of its choice, as another user would leave it to read along.
  fs.writeFileSync(next, 'planted')
  fs.chmodSync(next, 0o666)
  const inode = fs.statSync(next).ino
  const reader = fs.openSync(next, 'r')
  await keepSomething(`sim:${image}`)
  t.is(fs.fstatSync(reader).ino, inode)
  t.is(fs.readFileSync(reader, 'utf8'), 'planted')
  fs.closeSync(reader)
  t.is(fs.statSync(state).mode & 0o777, 0o640, 'the mode of the image')
  fs.rmSync(state)
  fs.symlinkSync(victim, state)
  await t.throwsAsync(openController(`sim:${image}`), { code: 'ERR_UNVME_IMAGE', message: /ELOOP/ })
  fs.rmSync(state)
  t.is(spawnSync('mkfifo', [state]).status, 0)
  await t.throwsAsync(openController(`sim:${image}`), { code: 'ERR_UNVME_IMAGE', message: /no regular file/ })
})

test("the state of an image's controller is one, by whatever name the image is opened", async (t) => {
  fs.mkdirSync(file('elsewhere'))
  const image = file('named.img')
  const [soft, hard] = [file('elsewhere/soft.img'), file('hard.img')]
  fs.writeFileSync(image, Buffer.alloc(2 ** 20))
  fs.symlinkSync(image, soft)
  fs.linkSync(image, hard)
  await keepSomething(`sim:${soft}`)
  t.false(fs.existsSync(`${soft}.nvme.json`))
  t.true(fs.existsSync(`${image}.nvme.json`))
  for (const name of [image, soft, hard]) t.is(await kept(`sim:${name}`), 0, name)
  t.false(fs.existsSync(`${hard}.nvme.json`))
})
