import test from 'ava'
import fc from 'fast-check'
import { AbortError, OutOfRangeError, open, ProtocolError, spread } from '../../src/index.ts'
import { partsOf } from '../../src/threads/spread.ts'

const TASK = new URL('./spread-task.js', import.meta.url)

test('parts cover the range in order, start at multiples, and are about equal', (t) => {
  const int = (min: number, max: number) => fc.integer({ min, max })
  fc.assert(
    fc.property(int(0, 1e9), int(1, 1e6), int(1, 40), int(1, 300), (slba, nlb, count, align) => {
      const parts = partsOf({ slba, nlb }, count, align)
      t.is(parts.length, Math.min(count, Math.ceil(nlb / align)))
      let next = slba
      for (const part of parts) {
        t.is(part.slba, next)
        t.true(part.nlb > 0)
        t.is((part.slba - slba) % align, 0)
        next += part.nlb
      }
      t.is(next, slba + nlb)
      const lengths = parts.map((part) => part.nlb)
      t.true(Math.max(...lengths) - Math.min(...lengths.slice(0, -1)) <= align)
    }),
    { numRuns: 200 },
  )
})

test.serial('each thread has a part and a queue; results come in order, messages from each', async (t) => {
  await using ns = await open('sim:?size=1M', { threads: true, qcount: 3 })
  const messages: unknown[] = []
  const results = await spread(ns, TASK, {
    slba: 3,
    nlb: 100,
    align: 10,
    data: 'fill',
    memory: 1 << 20,
    onMessage: (message, index) => messages.push([index, message]),
  })
  t.deepEqual(results, [
    { index: 0, jobs: 3, slba: 3, nlb: 30 },
    { index: 1, jobs: 3, slba: 33, nlb: 30 },
    { index: 2, jobs: 3, slba: 63, nlb: 40 },
  ])
  t.deepEqual(messages.sort(), [
    [0, { written: 30 }],
    [1, { written: 30 }],
    [2, { written: 40 }],
  ])
  const all = await ns.promises.read(Buffer.alloc(104 * 512), 0)
  t.deepEqual(
    [0, 2, 3, 32, 33, 62, 63, 102, 103].map((lba) => all[lba * 512]),
    [0, 0, 1, 1, 2, 2, 3, 3, 0],
  )
})

test.serial('fewer blocks than threads; wrong options are refused before anything begins', async (t) => {
  await using ns = await open('sim:?size=1M', { threads: true, qcount: 3 })
  t.is((await spread(ns, TASK, { nlb: 2, data: 'fill' })).length, 2)
  await t.throwsAsync(spread(ns, TASK, { jobs: 4 }), { instanceOf: OutOfRangeError, message: /qcount: 4/ })
  await t.throwsAsync(spread(ns, TASK, { jobs: 0 }), { instanceOf: OutOfRangeError })
  await t.throwsAsync(spread(ns, TASK, { slba: 2048 }), { instanceOf: OutOfRangeError })
  const signal = AbortSignal.abort()
  await t.throwsAsync(spread(ns, TASK, { signal }), { instanceOf: AbortError })
  for (const qid of [0, 1, 2]) await ns.promises.flush({ qid })
})

test.serial('one thread that fails ends the others, and its error is reported', async (t) => {
  await using ns = await open('sim:?size=1M', { threads: true, qcount: 3 })
  const thrown = await t.throwsAsync(spread(ns, TASK, { data: 'throw' }), { instanceOf: OutOfRangeError })
  t.is(thrown.message, 'part 1 is on purpose')
  await t.throwsAsync(spread(ns, TASK, { data: 'exit' }), {
    instanceOf: ProtocolError,
    message: /part 1.*code 7/,
  })
  for (const qid of [0, 1, 2]) await ns.promises.flush({ qid })
})

test.serial('an abort ends all', async (t) => {
  await using ns = await open('sim:?size=1M', { threads: true, qcount: 2 })
  const controller = new AbortController()
  const running = spread(ns, TASK, { data: 'wait', signal: controller.signal })
  setTimeout(() => controller.abort(new Error('enough')), 20)
  const error = await t.throwsAsync(running, { instanceOf: AbortError })
  t.is((error.cause as Error).message, 'enough')
  for (const qid of [0, 1]) await ns.promises.flush({ qid })
})
