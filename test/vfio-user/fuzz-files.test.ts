// Sessions in which either side sends wrong descriptors, takes its files away right after, and breaks messages off:
// nobody crashes, hangs or keeps anything, and the next session is as it should be.

import fs from 'node:fs'
import v8 from 'node:v8'
import vm from 'node:vm'
import test from 'ava'
import { UnvmeError } from '../../lib/errors.ts'
import { encodeIrqSet, REGION } from '../../lib/vfio-abi/device.ts'
import { COMMAND } from '../../lib/vfio-user/constants.ts'
import { openVfioUser } from '../../lib/vfio-user/index.ts'
import { closeDescriptors } from '../../lib/vfio-user/socket.ts'
import { encodeDmaMap, encodeMessage, encodeRegionAccess } from '../../lib/vfio-user/structs.ts'
import { open } from '../../src/index.ts'
import { startServer } from '../support/server.ts'
import { startFake } from './fake-server.ts'
import { createRandom, type Random, WRONG_KINDS, type WrongFile, wrongFile } from './mutations.ts'
import { descriptorsOf, descriptorsOfServer, newEventfd, newMemory, u16, u32, Wire } from './wire.ts'

const SESSIONS = Number(process.env.UNVME_FUZZ_SESSIONS ?? 1000)
const BYTES = 65536
/** No session takes longer: a peer that is slow or silent is given up before. */
const LONGEST_MS = 8000

v8.setFlagsFromString('--expose-gc')
const gc = vm.runInNewContext('gc') as () => void

const mappingsOf = (pid: number | 'self') => fs.readFileSync(`/proc/${pid}/maps`, 'utf8').split('\n').length

/** Gives views that are no longer used back to the system. */
async function collect(): Promise<void> {
  for (let i = 0; i < 4; i++) {
    gc()
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

test.serial(`${SESSIONS} sessions with a server that sends wrong descriptors`, async (t) => {
  const fake = await startFake({ seed: 77, files: true })
  const outcomes = new Map<string, number>()
  const run = async () => {
    const from = performance.now()
    const outcome = await session(fake.path).catch((error) => {
      if (!(error instanceof UnvmeError)) throw error
      return error.code
    })
    outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1)
    if (performance.now() - from > LONGEST_MS) t.fail(`a session of ${performance.now() - from} ms`)
  }
  for (let i = 0; i < 40; i++) await run()
  await collect()
  const before = { descriptors: descriptorsOf(), mappings: mappingsOf('self') }
  for (let i = 40; i < SESSIONS; i++) await run()
  await fake.stop()
  await collect()
  const after = descriptorsOf()
  t.true(after.length <= before.descriptors.length, `descriptors: ${after}, before ${before.descriptors}`)
  const mappings = mappingsOf('self')
  t.true(mappings < before.mappings + 100, `${mappings} mappings, before ${before.mappings}`)
  t.true((outcomes.get('fine') ?? 0) >= SESSIONS / 8 - 1, 'sessions that are as they should be')
  for (const what of ['ERR_UNVME_PROTOCOL', 'ERR_UNVME_DEVICE_REMOVED', 'back']) {
    t.true((outcomes.get(what) ?? 0) > 0, what)
  }
  t.log([...outcomes].map(([what, n]) => `${what} ${n}`).join(', '))
})

/** Opens the function, rings every doorbell, goes on with the next server where this one leaves, and closes it. */
async function session(path: string): Promise<string> {
  const fn = await openVfioUser(path, { timeout: 2000, returns: true })
  try {
    const arena = fn.mapDma(8192)
    if (fn.vectors > 0) await fn.enableInterrupts(2, () => {})
    fn.arm(1)
    for (let i = 0; i < fn.doorbells.length; i++) fn.doorbells[i] = i
    fn.notify?.()
    fn.readRegister(0x1c)
    for (let i = 0; i < fn.doorbells.length; i++) if (fn.doorbells[i] === 1) break
    fn.disarm(1)
    fn.checkRemoved()
    const { away } = fn
    // The next one is likely to send wrong descriptors, too.
    if (away) await fn.reconnect!(300, new AbortController().signal)
    fn.doorbells.fill(1)
    fn.readRegister(0x1c)
    fn.unmapDma(arena)
    if (away && !fn.away) return 'back'
  } finally {
    await fn.close()
  }
  return fn.removal === null ? 'fine' : 'removed'
}

for (const doorbells of ['mapped', 'shadow'] as const) {
  test.serial(`${SESSIONS} sessions with a client that sends wrong descriptors (${doorbells})`, async (t) => {
    const server = await startServer({ device: 'sim:?size=4M', doorbells })
    const pid = server.child.pid!
    const random = createRandom(doorbells === 'mapped' ? 21 : 22)
    const memory = newMemory(BYTES)
    let longest = 0
    const run = (i: number) => {
      const from = performance.now()
      attack(server.socket, memory.fd, random, WRONG_KINDS[i % WRONG_KINDS.length]!)
      // The next client is served right after.
      Wire.connect(server.socket).negotiate().close()
      longest = Math.max(longest, performance.now() - from)
    }
    for (let i = 0; i < 40; i++) run(i)
    const before = {
      descriptors: descriptorsOfServer(pid, server.socket).length,
      mappings: mappingsOf(pid),
    }
    for (let i = 40; i < SESSIONS; i++) run(i)
    t.is(server.child.exitCode, null)
    t.true(longest < LONGEST_MS, `${longest} ms`)
    const after = descriptorsOfServer(pid, server.socket)
    t.true(after.length <= before.descriptors, `descriptors were leaked: ${after}`)
    const mappings = mappingsOf(pid)
    t.true(mappings < before.mappings + 200, `${mappings} mappings, before ${before.mappings}`)

    const ns = await open(server.address)
    const data = Buffer.alloc(8192, 'after all that')
    await ns.promises.write(data, 3)
    t.true((await ns.promises.read(Buffer.alloc(8192), 3)).equals(data))
    await ns.close()
    await server.stop()
    memory.end()
  })
}

/**
 * Shows the server right and wrong files, lets its controller use them as queues, and leaves, some of the time within
 * a message.
 */
function attack(socket: string, right: number, random: Random, kind: string): void {
  const wire = Wire.connect(socket).negotiate()
  const files: WrongFile[] = []
  const own: number[] = []
  const wrong = (which?: string) => {
    const file = wrongFile(BYTES, random, which)
    files.push(file)
    return file.fd
  }
  const after = () => {
    for (const file of files) file.after()
  }
  const map = (fds: number[], at: number) =>
    wire.errno(COMMAND.DMA_MAP, encodeDmaMap({ flags: 3, offset: 0, iova: at * BYTES, size: BYTES }), fds)
  const setIrqs = (fds: number[], count = fds.length) =>
    wire.errno(COMMAND.SET_IRQS, encodeIrqSet({ flags: 0x24, index: 2, start: 0, count }), fds)
  const register = (offset: number, value: number) =>
    wire.raw(
      encodeMessage(
        { id: 9, command: COMMAND.REGION_WRITE, flags: 0x10 },
        encodeRegionAccess({ region: REGION.BAR0, offset, count: 4 }, u32(value)),
      ),
    )
  try {
    map([wrong(kind)], 1)
    after()
    // Missing, too many, swapped with an eventfd.
    if (random(3) === 0) map([], 2)
    if (random(3) === 0) map([wrong(), right], 3)
    map([right], 4)
    const eventfd = newEventfd()
    own.push(eventfd)
    switch (random(5)) {
      case 0:
        setIrqs([right])
        break
      case 1:
        setIrqs([eventfd], 2)
        break
      case 2:
        setIrqs([wrong(kind), eventfd])
        break
      default:
        setIrqs([wrong('eventfd that is full and blocks'), eventfd])
    }
    after()
    // MSI-X on, memory and bus master on; queues in whatever is mapped, and the controller enabled.
    wire.write(REGION.CONFIG, 4, u16(0x0406))
    const at = [1, 2, 3, 4][random(4)]! * BYTES
    register(0x24, 0x000f_000f)
    register(0x28, at)
    register(0x2c, 0)
    register(0x30, at + 4096)
    register(0x34, 0)
    register(0x14, 0x0046_0001)
    register(0x1000, 8)
    // Interrupts by hand: none of them may hold the server up.
    for (let i = 0; i < 2; i++) {
      wire.errno(COMMAND.SET_IRQS, encodeIrqSet({ flags: 0x21, index: 2, start: 0, count: 1 }))
    }
    const last = encodeMessage(
      { id: 60, command: COMMAND.DMA_MAP, flags: 0 },
      encodeDmaMap({ flags: 3, offset: 0, iova: 9 * BYTES, size: BYTES }),
    )
    if (random(2) === 0) wire.raw(last.subarray(0, 1 + random(last.length - 1)), [right, wrong()])
  } finally {
    wire.close()
    closeDescriptors([...own, ...files.map(({ fd }) => fd)])
  }
}
