// transferTo and transferFrom: chunks in DMA memory that the caller fills and empties, several at a time.

import { setTimeout as delay } from 'node:timers/promises'
import { compare, copy } from '../../src/index.ts'
import { deviceTest, pattern } from '../support/devices.ts'

deviceTest('a range goes to a sink and comes back from a source, whatever order they take', async (t) => {
  const ns = await t.context.device.open()
  const nlb = 67
  const data = pattern(nlb * ns.blocksize, 6)
  await ns.promises.write(data, 5)
  for (const options of [{}, { chunk: 4 }, { chunk: 3, parallel: 8, depth: 32 }, { chunk: 1, depth: 1 }]) {
    const copy = Buffer.alloc(data.length)
    const sink = async (part: Buffer, offset: number) => {
      // The first of some takes longest; what it has must stay as it is.
      await delay((offset / ns.blocksize) % 3 === 0 ? 3 : 0)
      part.copy(copy, offset)
    }
    t.is(await ns.transferTo(sink, { slba: 5, nlb, ...options }), data.length)
    t.true(copy.equals(data), JSON.stringify(options))
    const source = async (part: Buffer, offset: number) => {
      await delay((offset / ns.blocksize) % 3 === 0 ? 3 : 0)
      return data.copy(part, 0, offset)
    }
    await ns.promises.writeZeroes(5, nlb)
    t.is(await ns.transferFrom(source, { slba: 5, nlb, ...options }), data.length)
    await ns.promises.read(copy, 5)
    t.true(copy.equals(data), JSON.stringify(options))
  }
})

deviceTest(
  'a source may end anywhere, and the rest of its last block is kept, or filled with zeroes',
  async (t) => {
    const ns = await t.context.device.open()
    const before = pattern(20 * ns.blocksize, 7)
    const data = pattern(20 * ns.blocksize, 8)
    const after = Buffer.alloc(before.length)
    for (const bytes of [0, 1, 4 * ns.blocksize, 9 * ns.blocksize + 5]) {
      for (const [how, options] of [
        ['its length is known', { bytes }],
        ['it falls short', {}],
      ] as const) {
        await ns.promises.write(before, 1)
        const source = (part: Buffer, at: number) => data.copy(part, 0, Math.min(at, bytes), bytes)
        const range = { slba: 1, chunk: 4, ...('bytes' in options ? options : { nlb: 20 }) }
        t.is(await ns.transferFrom(source, range), bytes, how)
        await ns.promises.read(after, 1)
        t.true(after.subarray(0, bytes).equals(data.subarray(0, bytes)), `${how}, ${bytes}`)
        t.true(after.subarray(bytes).equals(before.subarray(bytes)), `${how}, ${bytes}`)
      }
    }
    await ns.promises.write(before, 1)
    await ns.transferFrom((part) => part.fill(9).length, { slba: 1, bytes: ns.blocksize + 1, pad: true })
    await ns.promises.read(after, 1)
    t.true(after.subarray(0, ns.blocksize + 1).every((byte) => byte === 9))
    t.true(after.subarray(ns.blocksize + 1, 2 * ns.blocksize).every((byte) => byte === 0))
    t.true(after.subarray(2 * ns.blocksize).equals(before.subarray(2 * ns.blocksize)))
  },
)

deviceTest('what the other end fails with ends a transfer, after all that it still holds', async (t) => {
  const ns = await t.context.device.open()
  const { bytes } = ns.pool
  let held = 0
  const failing = async (_: Buffer, offset: number) => {
    held++
    await delay(offset === 4 * ns.blocksize ? 0 : 4)
    held--
    if (offset === 4 * ns.blocksize) throw new Error('full')
    return 2 * ns.blocksize
  }
  const range = { nlb: 40, chunk: 2, depth: 32 }
  await t.throwsAsync(ns.transferTo(failing, range), { message: 'full' })
  t.is(held, 0)
  await t.throwsAsync(ns.transferFrom(failing, range), { message: 'full' })
  t.is(held, 0)
  const reason = new Error('enough')
  for (const call of ['transferTo', 'transferFrom'] as const) {
    const controller = new AbortController()
    const slow = async (part: Buffer) => {
      held++
      controller.abort(reason)
      await delay(3)
      held--
      return part.length
    }
    const error = await t.throwsAsync(ns[call](slow, { ...range, signal: controller.signal }), {
      code: 'ABORT_ERR',
    })
    t.is(error?.cause, reason)
    t.is(held, 0)
  }
  while (ns.stats.inFlight > 0) await new Promise(setImmediate)
  t.true(ns.pool.bytes - bytes <= 2 ** 20, 'their memory is given back')
  const late = ns.transferTo(async () => void ns.close(), range)
  await t.throwsAsync(late, { code: 'ERR_UNVME_CLOSED', message: /^transferTo: .* before the end/ })
})

deviceTest('a range is copied within a device, to the byte', async (t) => {
  const ns = await t.context.device.open()
  const bytes = 300 * ns.blocksize + 77
  const before = pattern(2 * ns.blocksize, 4)
  await ns.promises.write(pattern(301 * ns.blocksize, 5), 3)
  for (const options of [{}, { chunk: 8 * ns.blocksize, depth: 5 }]) {
    await ns.promises.write(before, 1300)
    const range = { slba: 3, dstSlba: 1000, bytes, ...options }
    t.is((await copy(ns, ns, range)).bytes, bytes)
    t.is((await compare(ns, ns, range)).difference, null)
    const last = await ns.promises.read(Buffer.alloc(2 * ns.blocksize), 1300)
    t.true(last.subarray(77).equals(before.subarray(77)))
  }
})

deviceTest('transfers refuse what they can not do before anything is sent', async (t) => {
  const ns = await t.context.device.open()
  const none = () => 0
  const before = ns.stats.commands
  for (const start of [
    () => ns.transferTo(7 as never),
    () => ns.transferFrom(null as never),
    () => ns.transferTo(none, { signal: 7 as never }),
  ]) {
    await t.throwsAsync(async () => start(), { code: 'ERR_INVALID_ARG_TYPE' })
  }
  for (const start of [
    () => ns.transferTo(none, { parallel: 0 }),
    () => ns.transferTo(none, { slba: ns.blockcount }),
    () => ns.transferFrom(none, { bytes: -1 }),
    () => ns.transferFrom(none, { bytes: 1.5 }),
    () => ns.transferFrom(none, { nlb: 1, bytes: 2 * ns.blocksize }),
    () => ns.transferFrom(none, { slba: ns.blockcount - 1, bytes: 2 * ns.blocksize }),
  ]) {
    await t.throwsAsync(async () => start(), { code: 'ERR_OUT_OF_RANGE' })
  }
  t.is(ns.stats.commands, before)
  await t.throwsAsync(
    ns.transferFrom((part) => part.length + 1, { nlb: 4 }),
    { code: 'ERR_OUT_OF_RANGE', message: /^transferFrom: bytes filled / },
  )
})
