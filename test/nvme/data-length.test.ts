// How long the data of a command is, by its opcode and dwords, and that a shorter buffer is refused.

import test from 'ava'
import { adminDataBytes, ioDataBytes } from '../../lib/nvme/spec/commands.ts'
import { FEATURE } from '../../lib/nvme/spec/features.ts'
import { ADMIN, NVM } from '../../lib/nvme/spec/opcodes.ts'
import { open, openController } from '../../src/index.ts'

test('adminDataBytes is what the specification says', (t) => {
  const cases: [bytes: number, opcode: number, cdw10?: number, cdw11?: number, cdw12?: number][] = [
    [4096, ADMIN.IDENTIFY, 1],
    [4096, ADMIN.NAMESPACE_ATTACHMENT, 1],
    [4096, ADMIN.NAMESPACE_MANAGEMENT, 0],
    [0, ADMIN.NAMESPACE_MANAGEMENT, 1],
    [512, ADMIN.GET_LOG_PAGE, 0x7f_0002],
    [4, ADMIN.GET_LOG_PAGE, 2],
    [2 ** 18 + 4, ADMIN.GET_LOG_PAGE, 2, 1],
    // Log specific identifier, beside the upper half of the count.
    [8, ADMIN.GET_LOG_PAGE, 0x1_0002, 0xffff_0000],
    [2 ** 34, ADMIN.GET_LOG_PAGE, -1, -1],
    [8, ADMIN.GET_FEATURES, FEATURE.TIMESTAMP],
    [256, ADMIN.GET_FEATURES, FEATURE.AUTONOMOUS_POWER_STATE],
    [0, ADMIN.GET_FEATURES, FEATURE.AUTONOMOUS_POWER_STATE | 0x300],
    [4096, ADMIN.GET_FEATURES, FEATURE.HOST_MEMORY_BUFFER],
    [0, ADMIN.SET_FEATURES, FEATURE.HOST_MEMORY_BUFFER],
    [8, ADMIN.GET_FEATURES, FEATURE.HOST_IDENTIFIER],
    [16, ADMIN.SET_FEATURES, FEATURE.HOST_IDENTIFIER, 1],
    [4096, ADMIN.GET_FEATURES, FEATURE.LBA_RANGE_TYPE],
    [128, ADMIN.SET_FEATURES, FEATURE.LBA_RANGE_TYPE, 1],
    [0, ADMIN.GET_FEATURES, FEATURE.NUMBER_OF_QUEUES],
    [0, ADMIN.GET_FEATURES, 0xc0],
    [4096, ADMIN.FIRMWARE_DOWNLOAD, 1023, 7],
    [600, ADMIN.SECURITY_SEND, 0, 600],
    [2 ** 31, ADMIN.SECURITY_RECEIVE, 0, 0x8000_0000],
    [32, ADMIN.DIRECTIVE_RECEIVE, 7, 0x101],
    [0, ADMIN.DIRECTIVE_RECEIVE, 7, 0x103],
    [40, ADMIN.GET_LBA_STATUS, 0, 0, 9],
    [8192, ADMIN.DOORBELL_BUFFER_CONFIG],
    [1024, ADMIN.CREATE_IO_SQ, 0xf_0001],
    [256, ADMIN.CREATE_IO_CQ, 0xf_0001],
    [0, ADMIN.FORMAT_NVM, 1],
    [0, 0xc1, 7],
  ]
  for (const [bytes, opcode, cdw10, cdw11, cdw12] of cases) {
    t.is(adminDataBytes({ opcode, cdw10, cdw11, cdw12 }), bytes, `${opcode} ${cdw10} ${cdw11} ${cdw12}`)
  }
})

test('ioDataBytes is what the specification says', (t) => {
  const cases: [bytes: number, opcode: number, cdw10?: number, cdw11?: number, cdw12?: number][] = [
    [512, NVM.READ],
    [4096, NVM.WRITE, 100, 0, 7],
    // Flags above the count, as a signed number.
    [1024, NVM.COMPARE, 0, 0, -0x8000_0000 + 1],
    [65536 * 512, NVM.READ, 0, 0, 0xffff],
    [1024, 0x7d, 0, 0, 1],
    [16, NVM.DATASET_MANAGEMENT, 0, 4],
    [4096, NVM.DATASET_MANAGEMENT, 255, 4],
    [64, NVM.COPY, 0, 0, 1],
    [80, NVM.COPY, 0, 0, 0x101],
    [0, NVM.COPY, 0, 0, 0xf01],
    [16, NVM.RESERVATION_REGISTER],
    [16, NVM.RESERVATION_ACQUIRE],
    [8, NVM.RESERVATION_RELEASE],
    [64, NVM.RESERVATION_REPORT, 15],
    [64, 0x7a, 0, 0, 15],
    [64, 0x12, 0, 15],
    [0, NVM.FLUSH],
    [0, NVM.WRITE_ZEROES, 0, 0, 7],
    [0, NVM.VERIFY, 0, 0, 7],
    [0, 0x99, 7, 7, 7],
  ]
  for (const [bytes, opcode, cdw10, cdw11, cdw12] of cases) {
    t.is(ioDataBytes({ opcode, cdw10, cdw11, cdw12 }, 512), bytes, `${opcode} ${cdw10} ${cdw11} ${cdw12}`)
  }
})

test('cmd and acmd refuse data that is shorter than the command, and its neighbour stays as it is', async (t) => {
  await using ns = await open('sim:?size=1M')
  await ns.promises.write(Buffer.alloc(4096, 7), 0)
  const all = ns.alloc(8192).fill(1)
  const refused = { code: 'ERR_OUT_OF_RANGE', message: /\d+ bytes of data/ }
  const short = [
    { opcode: NVM.READ, buf: all.subarray(0, 512), cdw12: 7 },
    { opcode: NVM.READ, buf: all.subarray(0, 4095), cdw12: 7 },
    { opcode: NVM.WRITE, buf: all.subarray(0, 511) },
    { opcode: NVM.COMPARE, cdw12: 0 },
    { opcode: NVM.DATASET_MANAGEMENT, buf: all.subarray(0, 16), cdw10: 1, cdw11: 4 },
    // Of another namespace, whose blocks have 512 bytes at least.
    { opcode: NVM.READ, nsid: 2, buf: all.subarray(0, 512), cdw12: 1 },
  ]
  for (const command of short) {
    await t.throwsAsync(ns.promises.cmd(command), refused)
    t.throws(() => ns.cmd(0, command), refused)
    t.throws(() => ns.acmd(0, command), refused)
  }
  t.true(all.every((byte) => byte === 1))
  t.is(ns.stats.inFlight, 0)
  // Exactly as much, and more, is taken.
  await ns.promises.cmd({ opcode: NVM.READ, buf: all.subarray(0, 4096), cdw12: 7 })
  await ns.promises.cmd({ opcode: NVM.READ, buf: all, cdw12: 6 })
  t.is(all[4095], 7)
  t.is(all[4096], 1)
})

test('admin refuses data that is shorter than the command, whoever sends it', async (t) => {
  await using ns = await open('sim:?size=1M')
  await using handle = await openController('sim:?size=1M')
  const all = ns.alloc(8192).fill(1)
  const refused = { code: 'ERR_OUT_OF_RANGE', message: /Identify .* 4096 bytes of data, 512 were given/ }
  const command = { opcode: ADMIN.IDENTIFY, cdw10: 1 }
  await t.throwsAsync(ns.admin({ ...command, data: all.subarray(0, 512) }), refused)
  await t.throwsAsync(ns.controller.admin({ ...command, data: Buffer.alloc(512) }), refused)
  await t.throwsAsync(handle.admin({ ...command, data: new Uint8Array(512) }), refused)
  await t.throwsAsync(handle.admin(command), { message: /0 were given/ })
  await t.throwsAsync(
    handle.admin({
      opcode: ADMIN.GET_LOG_PAGE,
      nsid: 0xffff_ffff,
      cdw10: 0x7f_0002,
      data: Buffer.alloc(508),
    }),
    { message: /Get Log Page .* 512 bytes/ },
  )
  t.true(all.every((byte) => byte === 1))
  const data = new Uint8Array(4096)
  await handle.admin({ ...command, data })
  t.true(data.some((byte) => byte !== 0))
})
