// How far streams read ahead of their reader, and with how many commands at once.

import test from 'ava'
import { type OpenOptions, open } from '../../src/index.ts'
import { ReadWindow } from '../../src/streams/window.ts'

const SLOW: NonNullable<OpenOptions['faults']> = [{ action: { kind: 'delay', ms: 20 } }]
const DEPTH = 4

for (const [copy, ahead] of [
  [false, DEPTH],
  [true, DEPTH + DEPTH / 2],
] as const) {
  const what = copy
    ? 'that copies has half as many more chunks than its depth'
    : 'that shows its chunks has as many chunks'
  test(`an iterator ${what}, and no more commands at once`, async (t) => {
    await using ns = await open('sim:?size=4M', { faults: SLOW })
    await using blocks = ns.blocks({ chunk: 8, depth: DEPTH, copy })
    void blocks.next()
    let most = 0
    for (let idle = 0; idle < 20; idle = ns.stats.inFlight === 0 ? idle + 1 : 0) {
      most = Math.max(most, ns.stats.inFlight)
      await new Promise((resolve) => setTimeout(resolve, 1))
    }
    t.is(most, DEPTH)
    t.is(ns.stats.reads, ahead)
  })
}

test('a range that is shorter than the depth takes memory for itself alone', async (t) => {
  await using ns = await open('sim:?size=4M')
  const { bytes } = ns.pool
  await using blocks = ns.blocks({ nlb: 24, chunk: 8, depth: 32, copy: true })
  await blocks.next()
  t.is(ns.pool.bytes - bytes, 3 * 8 * 512)
})

test('a window goes on reading ahead after a chunk whose sending threw', async (t) => {
  await using ns = await open('sim:?size=4M')
  const range = { slba: 0, nlb: 64, chunk: 8, depth: 2, qid: 0 }
  const window = new ReadWindow(ns, range, () => window.close())
  const queue = ns.queue(0, 'test')
  const { requestTransfer } = queue
  let sent = 0
  const next = async () => {
    while (window.peek() === null) await new Promise((resolve) => setImmediate(resolve))
    window.release()
  }
  queue.requestTransfer = (...args) => {
    requestTransfer.apply(queue, args)
    if (++sent === 1) throw new Error('of a wake-up')
  }
  await t.throwsAsync(next(), { message: 'of a wake-up' })
  await next()
  await next()
  t.true(sent >= 3, `${sent} chunks`)
  queue.requestTransfer = requestTransfer
  await window.close()
})
