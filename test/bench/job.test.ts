// Jobs on an engine of memory whose I/Os end in any order: what is sent where, and what verification finds.

import test from 'ava'
import fc from 'fast-check'
import type { Engine, Source } from '../../src/bench/engine.ts'
import { COUNT, createBoard, PHASE, runJob } from '../../src/bench/job.ts'
import { type BenchOptions, type JobPlan, PERCENTILES, planJobs, RW } from '../../src/bench/plan.ts'
import { Random } from '../../src/bench/random.ts'
import { stop } from '../../src/bench/start.ts'
import { check, stamp } from '../../src/bench/verify.ts'

const BS = 64

interface Sent {
  readonly slot: number
  readonly write: boolean
  readonly at: number
}

/** An engine over memory: an I/O takes effect, and ends, when its turn comes by chance. */
function memoryEngine(bytes: number, depth: number, seed: number, onWrite: (at: number) => void = () => {}) {
  const medium = Buffer.alloc(bytes)
  const buffers = Array.from({ length: depth }, () => Buffer.alloc(BS))
  const random = new Random(seed)
  const inFlight: Sent[] = []
  const sent: Sent[] = []
  let deepest = 0
  const engine: Engine = {
    buffers,
    start(slot, write, at) {
      // Now and then there is no space.
      if (random.below(10) === 0) return false
      const io = { slot, write, at }
      inFlight.push(io)
      sent.push(io)
      deepest = Math.max(deepest, inFlight.length)
      return true
    },
    async run(source: Source) {
      const idle = new Set(Array(depth).keys())
      for (;;) {
        for (const slot of idle) if (source.next(slot, performance.now())) idle.delete(slot)
        source.sent()
        const io = inFlight.splice(random.below(inFlight.length), 1)[0]
        if (io === undefined) {
          if (source.exhausted) return
          continue
        }
        if (io.write) {
          buffers[io.slot]!.copy(medium, io.at)
          onWrite(io.at)
        } else {
          medium.copy(buffers[io.slot]!, 0, io.at, io.at + BS)
        }
        source.complete(io.slot, performance.now())
        idle.add(io.slot)
      }
    },
    async close() {},
  }
  return { engine, medium, sent, deepest: () => deepest }
}

const base: BenchOptions = {
  rw: 'randrw',
  bs: BS,
  iodepth: 4,
  numjobs: 1,
  runtime: undefined,
  rampTime: 0,
  size: undefined,
  offset: 0,
  rwmixread: 50,
  verify: 'none',
  gtodReduce: false,
  name: 'bench',
  loops: 1,
  norandommap: false,
  seed: 0,
  percentiles: PERCENTILES,
}

const target = (slots: number) => ({ name: 'memory', bytes: slots * BS, blocksize: BS })
const planOf = (options: Partial<BenchOptions>, slots: number): JobPlan =>
  planJobs({ ...base, ...options }, target(slots))[0]!

test('a job goes over its region once, within it, at the depth asked for', async (t) => {
  const cases = fc.record({
    rw: fc.constantFrom(...RW),
    iodepth: fc.integer({ min: 1, max: 40 }),
    slots: fc.integer({ min: 1, max: 200 }),
    offset: fc.integer({ min: 0, max: 3 }),
    rwmixread: fc.integer({ min: 0, max: 100 }),
    seed: fc.nat(),
  })
  await fc.assert(
    fc.asyncProperty(cases, async ({ rw, iodepth, slots, offset, rwmixread, seed }) => {
      const plan = planOf({ rw, iodepth, rwmixread, offset: offset * BS }, slots + offset)
      const { engine, sent, deepest } = memoryEngine((slots + offset) * BS, iodepth, seed)
      const board = createBoard(1)
      const { read, write, depths } = await runJob(plan, engine, board)
      t.is(read.ios + write.ios, slots)
      t.is(sent.length, slots)
      t.true(deepest() <= iodepth)
      t.is(
        depths.reduce((a, b) => a + b),
        slots,
      )
      t.true(sent.every(({ at }) => at >= offset * BS && at + BS <= (slots + offset) * BS && at % BS === 0))
      if (!rw.startsWith('rand'))
        t.deepEqual(
          sent.map(({ at }) => at / BS - offset),
          [...Array(slots).keys()],
        )
      if (rw === 'read' || rw === 'randread') t.is(write.ios, 0)
      if (rw === 'write' || rw === 'randwrite') t.is(read.ios, 0)
      t.is(read.lat.n, read.ios)
      t.is(board.counts[COUNT.READS]! + board.counts[COUNT.WRITES]!, slots)
      t.is(board.counts[COUNT.PHASE], PHASE.DONE)
    }),
    { numRuns: 60 },
  )
})

test('verification finds everything right that comes back as written, in any order of ends', async (t) => {
  const cases = fc.record({
    rw: fc.constantFrom('write', 'randwrite', 'randrw', 'rw'),
    iodepth: fc.integer({ min: 1, max: 16 }),
    slots: fc.integer({ min: 1, max: 60 }),
    seed: fc.nat(),
  })
  await fc.assert(
    fc.asyncProperty(cases, async ({ rw, iodepth, slots, seed }) => {
      const plan = planOf({ rw: rw as BenchOptions['rw'], iodepth, verify: 'crc32' }, slots)
      const { engine, sent } = memoryEngine(slots * BS, iodepth, seed)
      const { verified, write } = await runJob(plan, engine, createBoard(1))
      const places = new Set(sent.filter((io) => io.write).map(({ at }) => at))
      t.true(verified >= places.size)
      t.true(write.ios >= places.size)
    }),
    { numRuns: 60 },
  )
})

test('verification finds a write that was lost, one that went elsewhere, and a byte that changed', async (t) => {
  const run = async (spoil: (medium: Buffer, at: number) => void) => {
    const plan = planOf({ rw: 'write', verify: 'crc32' }, 20)
    let count = 0
    const memory = memoryEngine(20 * BS, 4, 1, (at) => {
      if (++count === 10) spoil(memory.medium, at)
    })
    const { failure, write, verified, unverified } = await runJob(plan, memory.engine, createBoard(1))
    t.is(failure?.fields.code, 'ERR_UNVME_VERIFY')
    // What was measured is there all the same.
    t.is(write.ios, 20)
    t.is(write.lat.n, 20)
    t.is(verified + unverified, 20)
    return failure!.message
  }
  t.regex(await run((medium, at) => medium.fill(0, at, at + BS)), /no valid header/)
  t.regex(await run((medium, at) => medium.copy(medium, at, at === 0 ? BS : 0)), /belong at|no valid header/)
  t.regex(await run((medium, at) => medium.writeUInt8(medium[at + 40]! ^ 1, at + 40)), /checksum/)
})

test('verification finds a write of an earlier pass that was lost, though a later pass is right', async (t) => {
  for (const [rw, runtime] of [
    ['write', undefined],
    ['randwrite', undefined],
    ['randwrite', 200],
  ] as const) {
    const loops = runtime === undefined ? 3 : Number.POSITIVE_INFINITY
    const plan = planOf({ rw, verify: 'crc32', loops, runtime }, 20)
    let count = 0
    const memory = memoryEngine(20 * BS, 4, 1, (at) => {
      if (++count === 7) memory.medium.fill(0, at, at + BS)
    })
    const { failure, write } = await runJob(plan, memory.engine, createBoard(1))
    t.is(failure?.fields.code, 'ERR_UNVME_VERIFY')
    t.is(write.ios, 20)
  }
})

test('verification reads back every write of every pass, at the end of the time as well', async (t) => {
  for (const runtime of [undefined, 5]) {
    const loops = runtime === undefined ? 5 : Number.POSITIVE_INFINITY
    const plan = planOf({ rw: 'randwrite', verify: 'crc32', loops, runtime, rampTime: 2 }, 30)
    const { engine, sent } = memoryEngine(30 * BS, 4, 1)
    const board = createBoard(1)
    const { failure, write, verified, unverified } = await runJob(plan, engine, board)
    t.is(failure, undefined)
    const all = sent.filter((io) => io.write).length
    // Those of the ramp, too.
    t.is(verified, all)
    t.true(verified >= write.ios)
    t.is(unverified, 0)
    t.is(sent.length - all, verified)
    t.true(board.counts[COUNT.READ_BACKS]! >= 1)
  }
})

test('the time of reading back does not count', async (t) => {
  const plan = planOf({ rw: 'write', verify: 'crc32', loops: 2 }, 10)
  const { engine } = memoryEngine(10 * BS, 4, 1)
  const { run, start } = engine
  let reading = 0
  const slow: Engine = {
    ...engine,
    start: (slot, write, at) => start(slot, write, at),
    async run(source) {
      const from = performance.now()
      // Every second run is a read-back.
      if (++runs % 2 === 0) await new Promise((resolve) => setTimeout(resolve, 50))
      await run(source)
      if (runs % 2 === 0) reading += performance.now() - from
    },
  }
  let runs = 0
  const from = performance.now()
  const { runtime } = await runJob(plan, slow, createBoard(1))
  t.is(runs, 4)
  t.true(runtime <= performance.now() - from - reading)
})

test('a job at random goes to each place once in every pass, and not in order', async (t) => {
  const cases = fc.record({
    rw: fc.constantFrom('randread', 'randwrite', 'randrw'),
    slots: fc.integer({ min: 1, max: 200 }),
    loops: fc.integer({ min: 1, max: 3 }),
    iodepth: fc.integer({ min: 1, max: 16 }),
    seed: fc.nat(),
  })
  await fc.assert(
    fc.asyncProperty(cases, async ({ rw, slots, loops, iodepth, seed }) => {
      const plan = planOf({ rw: rw as BenchOptions['rw'], loops, iodepth, seed }, slots)
      const { engine, sent } = memoryEngine(slots * BS, iodepth, seed)
      await runJob(plan, engine, createBoard(1))
      t.is(sent.length, slots * loops)
      for (let pass = 0; pass < loops; pass++) {
        const places = sent.slice(pass * slots, (pass + 1) * slots).map(({ at }) => at / BS)
        t.is(new Set(places).size, slots)
        if (slots > 50)
          t.notDeepEqual(
            places,
            [...places].sort((a, b) => a - b),
          )
      }
    }),
    { numRuns: 60 },
  )
})

test('a job draws each place by itself with norandommap', async (t) => {
  const { engine, sent } = memoryEngine(200 * BS, 4, 1)
  await runJob(planOf({ rw: 'randread', norandommap: true }, 200), engine, createBoard(1))
  t.is(sent.length, 200)
  const places = new Set(sent.map(({ at }) => at)).size
  t.true(places > 80 && places < 180)
})

test('jobs with another seed go another way, and with the same seed the same', async (t) => {
  const order = async (seed: number) => {
    const { engine, sent } = memoryEngine(100 * BS, 1, 1)
    await runJob(planOf({ rw: 'randread', iodepth: 1, seed }, 100), engine, createBoard(1))
    return sent.map(({ at }) => at / BS)
  }
  t.deepEqual(await order(7), await order(7))
  t.notDeepEqual(await order(7), await order(8))
})

test('a job whose I/O fails ends the others, and says what it has measured', async (t) => {
  const board = createBoard(2)
  const { engine, sent } = memoryEngine(100 * BS, 4, 3)
  const failing: Engine = {
    ...engine,
    start(slot, write, at) {
      if (sent.length === 50) throw new RangeError('no more')
      return engine.start(slot, write, at)
    },
  }
  const { failure, write, read } = await runJob(planOf({ rw: 'write' }, 100), failing, board)
  t.like(failure, { name: 'RangeError', message: 'no more' })
  t.true(write.ios > 40 && write.ios <= 50)
  t.is(read.ios, 0)
  const other = memoryEngine(100 * BS, 4, 3)
  const { write: others } = await runJob({ ...planOf({ rw: 'write' }, 100), index: 1 }, other.engine, board)
  t.true(others.ios < 10)
})

test('a job that is stopped while it ramps has measured nothing', async (t) => {
  const board = createBoard(1)
  const { engine, sent } = memoryEngine(100 * BS, 4, 3, () => {
    if (sent.length > 50) stop(board)
  })
  const { write, depths } = await runJob(planOf({ rw: 'write', rampTime: 60_000 }, 100), engine, board)
  t.is(write.ios, 0)
  t.deepEqual(new Set(depths), new Set([0]))
})

test('a stale block does not pass for a new one', (t) => {
  const buffer = Buffer.alloc(BS, 7)
  stamp(buffer, 128, 5)
  check(buffer, 128, 5)
  check(buffer, 128, undefined)
  t.throws(() => check(buffer, 128, 6), {
    code: 'ERR_UNVME_VERIFY',
    message: /number 5, expected is number 6/,
  })
  t.throws(() => check(buffer, 192, 5), { message: /belong at 128/ })
  t.throws(() => check(buffer.subarray(0, 32), 128, 5), { message: /--bs 64/ })
})

test('any byte that changes is found', (t) => {
  fc.assert(
    fc.property(
      fc.integer({ min: 32, max: 300 }),
      fc.nat(),
      fc.integer({ min: 1, max: 255 }),
      (words, where, flip) => {
        const buffer = Buffer.alloc(words * 4, 3)
        stamp(buffer, 4096, 9)
        const at = where % buffer.length
        // Bytes 28 to 31 of the header are nobody's.
        fc.pre(at < 28 || at > 31)
        buffer[at]! ^= flip
        t.throws(() => check(buffer, 4096, 9), { code: 'ERR_UNVME_VERIFY' })
      },
    ),
  )
})

test('a job that is stopped ends what is in flight, and says what it has', async (t) => {
  const board = createBoard(1)
  const { engine, sent } = memoryEngine(100 * BS, 4, 3, () => {
    if (sent.length > 50) stop(board)
  })
  const { write } = await runJob(
    planOf({ rw: 'write', runtime: 60_000, loops: Number.POSITIVE_INFINITY }, 100),
    engine,
    board,
  )
  t.true(write.ios > 40 && write.ios < 70)
  t.is(write.ios, sent.length)
})

test('what the ramp did does not count', async (t) => {
  const board = createBoard(1)
  const { engine, sent } = memoryEngine(100 * BS, 4, 3)
  const { read, depths, runtime } = await runJob(
    planOf({ rw: 'randread', rampTime: 5, runtime: 5, loops: Number.POSITIVE_INFINITY }, 100),
    engine,
    board,
  )
  t.true(read.ios > 0 && read.ios < sent.length)
  t.is(read.lat.n, read.ios)
  t.true(depths.reduce((a, b) => a + b) < sent.length)
  t.true(runtime >= 5)
  t.is(board.counts[COUNT.READS], sent.length)
})

test('jobs at random share the region; jobs in order and those that verify have parts', (t) => {
  const plans = (options: Partial<BenchOptions>) =>
    planJobs({ ...base, numjobs: 3, ...options }, target(10)).map(({ offset, slots }) => [offset / BS, slots])
  t.deepEqual(plans({ rw: 'randread' }), [
    [0, 10],
    [0, 10],
    [0, 10],
  ])
  const parts = [
    [0, 3],
    [3, 3],
    [6, 4],
  ]
  t.deepEqual(plans({ rw: 'read' }), parts)
  t.deepEqual(plans({ rw: 'randwrite', verify: 'crc32' }), parts)
})

test('what the target can not do is refused', (t) => {
  const refuse = (options: Partial<BenchOptions>, message: RegExp) =>
    t.throws(() => planJobs({ ...base, ...options }, target(10)), { code: 'ERR_OUT_OF_RANGE', message })
  refuse({ bs: 100 }, /--bs 100.*64 bytes/)
  refuse({ offset: 32 }, /--offset 32/)
  refuse({ offset: 640 }, /640 bytes/)
  refuse({ size: 704 }, /704.*640 bytes/)
  refuse({ bs: 1024 }, /holds no I\/O/)
  refuse({ rw: 'read', numjobs: 11 }, /11 jobs/)
})
