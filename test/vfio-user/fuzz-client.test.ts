// 10 000 mutated replies of a server: the client throws typed errors, leaks nothing, lives.

import test from 'ava'
import { OutOfRangeError, UnvmeError } from '../../lib/errors.ts'
import { openVfioUser, type VfioUserFunction } from '../../lib/vfio-user/index.ts'
import { startFake } from './fake-server.ts'
import { descriptorsOf } from './wire.ts'

const MUTATIONS = 10_000
const SEED = 20_261
// A mutation that makes the client wait costs this long.
const TIMEOUT = 10

test(`${MUTATIONS} mutated replies`, async (t) => {
  const fake = await startFake({ seed: SEED })
  const outcomes = new Map<string, number>()
  const count = (what: string) => outcomes.set(what, (outcomes.get(what) ?? 0) + 1)
  // One session without a count: whatever is made once is there then.
  await session(fake.path).catch(() => {})
  const before = descriptorsOf()
  while (fake.mutations < MUTATIONS) {
    try {
      count(await session(fake.path))
    } catch (error) {
      if (!(error instanceof UnvmeError)) throw error
      if (error.message.length > 500) t.fail(`a message of ${error.message.length} characters`)
      count(error.code)
    }
  }
  await fake.stop()
  t.deepEqual(
    descriptorsOf().filter((link) => !before.includes(link)),
    [],
  )
  t.true(descriptorsOf().length <= before.length, 'descriptors were leaked')
  // It went wrong in every way, and well in between.
  for (const what of ['fine', 'ERR_UNVME_PROTOCOL', 'ERR_UNVME_DEVICE_REMOVED', 'ERR_UNVME_UNSUPPORTED']) {
    t.true((outcomes.get(what) ?? 0) > 0, `${what}: ${outcomes.get(what)}`)
  }
  t.log([...outcomes].map(([what, n]) => `${what} ${n}`).join(', '))
})

async function session(path: string): Promise<string> {
  const fn = await openVfioUser(path, { timeout: TIMEOUT })
  try {
    await use(fn)
    await fn.reset()
  } finally {
    await fn.close()
  }
  return fn.removal === null ? 'fine' : 'removed'
}

/** Whatever a driver does. */
async function use(fn: VfioUserFunction): Promise<void> {
  fn.writeRegister(0x14, 1)
  fn.readRegister(0x1c)
  const arena = fn.mapDma(8192)
  try {
    if (fn.vectors > 0) await fn.enableInterrupts(Math.min(10, fn.vectors), () => {})
  } catch (error) {
    // What the server says of its vectors may be anything.
    if (error instanceof OutOfRangeError) throw new Error('vectors that are not there', { cause: error })
    throw error
  }
  for (let i = 0; i < 64; i++) fn.doorbells[i] = i
  if (fn.notify !== null) fn.notify()
  fn.checkRemoved()
  fn.unmapDma(arena)
}
