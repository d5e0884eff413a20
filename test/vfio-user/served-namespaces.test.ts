// Open namespaces at a vfio-user socket: what a client sees of the devices behind, and what happens to its commands when it,
// the devices or the server come to an end.

import { fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import test, { type ExecutionContext } from 'ava'
import fc from 'fast-check'
import type { PcieTransport } from '../../lib/nvme/pcie/transport.ts'
import { ONCS } from '../../lib/nvme/spec/flags.ts'
import type { SimControls, SimFunction } from '../../lib/sim/index.ts'
import { ADMIN, type Namespace, NVM, open, type ServeOptions, type Server, serve } from '../../src/index.ts'
import { operations } from '../support/model.ts'
import { pattern } from '../support/pattern.ts'
import { newSocketPath } from '../support/server.ts'

const BLOCK = 512

interface Served {
  readonly server: Server
  readonly backs: readonly Namespace[]
  /** Of the device behind the first namespace. */
  readonly controls: SimControls
}

async function serveSims(
  t: ExecutionContext,
  devices: readonly string[] = ['sim:?size=8M'],
  options: Omit<ServeOptions, 'device'> = {},
): Promise<Served> {
  const backs: Namespace[] = []
  for (const device of devices) backs.push(await open(device, { qcount: 2, retries: 0 }))
  const server = await serve(`vfio-user:${newSocketPath()}`, { device: backs, ...options })
  t.teardown(async () => {
    await server.close().catch(() => {})
    for (const back of backs) await back.close()
  })
  return { server, backs, controls: controlsOf(backs[0]!) }
}

const controlsOf = ({ controller }: Namespace) =>
  ((controller.transport as PcieTransport).pci as SimFunction).controls

async function connect(
  t: ExecutionContext,
  { address }: Server,
  nsid = 1,
  options: Parameters<typeof open>[1] = {},
): Promise<Namespace> {
  const ns = await open(`${address}?nsid=${nsid}`, { recovery: 'none', retries: 0, qcount: 2, ...options })
  t.teardown(() => ns.close())
  return ns
}

/** As it is, but for some of its fields. */
function changed<T extends object>(whole: T, fields: Partial<T>): T {
  return new Proxy(whole, {
    get(target, name) {
      if (Object.hasOwn(fields, name)) return fields[name as keyof T]
      const value: unknown = Reflect.get(target, name, target)
      return typeof value === 'function' ? value.bind(target) : value
    },
  })
}

const readOf = (ns: Namespace, slba: number, nlb: number) =>
  ns.promises.read(Buffer.alloc(nlb * ns.blocksize), slba)

/** Resolves when it is so; the test's own limit ends it. */
async function until(so: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await so())) await new Promise((resolve) => setTimeout(resolve, 2))
}

const status = (what: string) => ({ code: 'ERR_NVME_STATUS', message: new RegExp(what) })

test('namespaces of several devices are those of one controller, which is like the first', async (t) => {
  const { server, backs } = await serveSims(t, ['sim:?size=8M&serial=FIRST', 'sim:?size=4M&lba=4096&mdts=2'])
  const ns = await connect(t, server)
  const second = await connect(t, server, 2)
  t.like(ns.controller.identity, { sn: 'FIRST', nn: 2, cmic: 0, oacs: 0 })
  t.deepEqual(await ns.controller.activeNamespaces(), [1, 2])
  t.deepEqual([ns.blocksize, ns.blockcount], [512, 16_384])
  t.deepEqual([second.blocksize, second.blockcount], [4096, 1024])
  t.is(ns.controller.maxTransferBytes, 16_384)
  await ns.promises.write(pattern(65_536, 3), 8)
  await second.promises.write(pattern(65_536, 4), 1)
  t.deepEqual(await readOf(backs[0]!, 8, 128), pattern(65_536, 3))
  t.deepEqual(await readOf(backs[1]!, 1, 16), pattern(65_536, 4))
  await ns.promises.flush()
  t.like(server.stats, { connected: true, clients: 1, failures: 0, bytesWritten: 131_072, memoryInUse: 0 })
  t.is(server.controls, null)
  // Names of its own: who has the device by another way as well does not take the two for one.
  const [mine, own] = [
    await ns.controller.identifyNamespace(1),
    await backs[0]!.controller.identifyNamespace(1),
  ]
  t.not(mine.nguid, own.nguid)
  t.not(ns.controller.identity.subnqn, backs[0]!.controller.identity.subnqn)
})

test('each status of the device is the client’s', async (t) => {
  const { server, controls } = await serveSims(t)
  const ns = await connect(t, server)
  controls.addFault({
    opcode: NVM.READ,
    slba: 64,
    nlb: 8,
    action: { kind: 'status', status: 0x281, dnr: true },
  })
  await t.throwsAsync(readOf(ns, 60, 8), status('Unrecovered Read Error.*slba 60'))
  controls.addFault({ opcode: NVM.WRITE, action: { kind: 'status', status: 0x280, dnr: true } })
  await t.throwsAsync(ns.promises.write(Buffer.alloc(512), 9), status('Write Fault.*slba 9'))
  controls.clearFaults()
  await ns.promises.write(pattern(512, 1), 9)
  const buf = ns.alloc(512)
  pattern(512, 2).copy(buf)
  const io = (command: object) => ns.promises.cmd(command as never)
  await t.throwsAsync(io({ opcode: NVM.COMPARE, buf, cdw10: 9 }), status('Compare Failure'))
  pattern(512, 1).copy(buf)
  await io({ opcode: NVM.COMPARE, buf, cdw10: 9 })
  await t.throwsAsync(io({ opcode: NVM.READ, buf, cdw10: ns.blockcount }), status('LBA Out of Range'))
  await t.throwsAsync(io({ opcode: 0x90 }), status('Invalid Command Opcode'))
  await t.throwsAsync(io({ opcode: NVM.COPY, buf }), status('Invalid Command Opcode'))
  await io({ opcode: NVM.WRITE_UNCORRECTABLE, cdw10: 20, cdw12: 3 })
  await t.throwsAsync(readOf(ns, 22, 1), status('Unrecovered Read Error'))
  await t.throwsAsync(io({ opcode: NVM.VERIFY, cdw10: 20, cdw12: 7 }), status('Unrecovered Read Error'))
  await ns.promises.writeZeroes(16, 16)
  await io({ opcode: NVM.VERIFY, cdw10: 16, cdw12: 7 })
  t.true((await readOf(ns, 16, 16)).every((byte) => byte === 0))
  await t.throwsAsync(ns.admin({ opcode: ADMIN.FORMAT_NVM, nsid: 1 }), status('Invalid Command Opcode'))
  t.is(server.stats.memoryInUse, 0)
  t.is(server.stats.inFlight, 0)
})

test('optional commands that a device behind has not are not offered, and refused', async (t) => {
  const { server, backs } = await serveSims(t)
  const identity = { ...backs[0]!.controller.identity, oncs: 4, vwc: 0, awun: 3 }
  const back = changed(backs[0]!, { controller: changed(backs[0]!.controller, { identity }) })
  const other = await serve(`vfio-user:${newSocketPath()}`, { device: back })
  t.teardown(() => other.close())
  const ns = await connect(t, other)
  t.like(ns.controller.identity, { oncs: 4 | ONCS.TIMESTAMP, vwc: 6, awun: 3 })
  for (const opcode of [NVM.COMPARE, NVM.WRITE_ZEROES, NVM.VERIFY, NVM.WRITE_UNCORRECTABLE]) {
    const buf = opcode === NVM.COMPARE ? { buf: ns.alloc(512) } : {}
    await t.throwsAsync(ns.promises.cmd({ opcode, ...buf }), status('Invalid Command Opcode'))
  }
  await t.throwsAsync(ns.admin({ opcode: ADMIN.GET_FEATURES, cdw10: 6 }), status('Invalid Field'))
  await other.close()
  t.true(server.stats.clients === 0)
})

test('readOnly: nothing is written, and the namespace says so', async (t) => {
  const { server, backs } = await serveSims(t, undefined, { readOnly: true })
  await backs[0]!.promises.write(pattern(512, 5), 3)
  const ns = await connect(t, server)
  t.is((await ns.controller.identifyNamespace(1)).nsattr & 1, 1)
  t.deepEqual(await readOf(ns, 3, 1), pattern(512, 5))
  await t.throwsAsync(ns.promises.write(Buffer.alloc(512), 3), status('Write Protected'))
  await t.throwsAsync(ns.promises.writeZeroes(3, 1), status('Write Protected'))
  t.deepEqual(await readOf(backs[0]!, 3, 1), pattern(512, 5))
})

test('a namespace that the system uses is refused, but for reading', async (t) => {
  const { backs } = await serveSims(t)
  const refusal = new Error('mounted at /')
  const { controller } = backs[0]!
  const transport = changed(controller.transport, { mayWrite: () => refusal })
  const back = changed(backs[0]!, { controller: changed(controller, { transport }) })
  const address = `vfio-user:${newSocketPath()}`
  t.is(await t.throwsAsync(serve(address, { device: back })), refusal)
  const server = await serve(address, { device: back, readOnly: true })
  await server.close()
})

test('two queues at random, against a model: with resets of the client’s controller in between', async (t) => {
  const BLOCKS = 96
  const { server, controls } = await serveSims(t, ['sim:?size=8M'], { memory: 2 ** 20 })
  const ns = await connect(t, server)
  const random = fc.record({
    ops: operations({ blocks: BLOCKS, longest: 40, most: 30 }),
    resets: fc.array(fc.nat(29), { maxLength: 2 }),
  })
  await fc.assert(
    fc.asyncProperty(random, async ({ ops, resets }) => {
      await ns.promises.write(Buffer.alloc(BLOCKS * BLOCK), 0)
      // What each block may hold: what was written last, or since then by writes that a reset has ended.
      const may: Buffer[][] = Array.from({ length: BLOCKS }, () => [Buffer.alloc(BLOCK)])
      const inFlight = new Set<Promise<void>>()
      const settle = () => Promise.all(inFlight)
      const start = (work: Promise<void>) => {
        const whole: Promise<void> = work.finally(() => inFlight.delete(whole))
        inFlight.add(whole)
      }
      const busy: [slba: number, end: number][] = []
      const holds = (slba: number, data: Buffer) => {
        for (let i = 0; i * BLOCK < data.length; i++) {
          const block = data.subarray(i * BLOCK, (i + 1) * BLOCK)
          if (!may[slba + i]!.some((one) => one.equals(block))) throw new Error(`block ${slba + i}`)
        }
      }
      for (const [i, op] of ops.entries()) {
        const { slba, nlb } = op
        if (busy.some(([from, end]) => from < slba + nlb && slba < end) || op.kind === 'settle') {
          await settle()
          busy.length = 0
        }
        busy.push([slba, slba + nlb])
        // What meets a reset outlives it, if it is not waited for.
        if (resets.includes(i)) controls.setLatency(150)
        else controls.setLatency(0.02, 0.8)
        const qid = i % 2
        if (op.kind === 'read' || op.kind === 'promise-read') {
          const data = Buffer.alloc(nlb * BLOCK)
          start(
            ns.promises.read(data, slba, nlb, { qid }).then(
              () => holds(slba, data),
              (error) => void t.is(error.code, 'ERR_UNVME_CONTROLLER_RESET'),
            ),
          )
        } else {
          const data = op.kind === 'zeroes' ? Buffer.alloc(nlb * BLOCK) : pattern(nlb * BLOCK, op.seed)
          const work =
            op.kind === 'zeroes'
              ? ns.promises.writeZeroes(slba, nlb, { qid })
              : ns.promises.write(data, slba, nlb, { qid })
          const blockAt = (at: number) => data.subarray(at * BLOCK, (at + 1) * BLOCK)
          start(
            work.then(
              () => {
                for (let at = 0; at < nlb; at++) may[slba + at] = [blockAt(at)]
              },
              (error) => {
                t.is(error.code, 'ERR_UNVME_CONTROLLER_RESET')
                for (let at = 0; at < nlb; at++) may[slba + at]!.push(blockAt(at))
              },
            ),
          )
        }
        if (resets.includes(i)) {
          await until(() => inFlight.size > 0 && server.stats.inFlight >= inFlight.size)
          controls.setLatency(0)
          await ns.reset()
          await settle()
          busy.length = 0
          // From now on nothing changes by itself: what is read is all that it may hold.
          const now = await readOf(ns, 0, BLOCKS)
          holds(0, now)
          for (let at = 0; at < BLOCKS; at++) may[at] = [now.subarray(at * BLOCK, (at + 1) * BLOCK)]
        }
      }
      await settle()
      await until(() => server.stats.inFlight === 0)
      holds(0, await readOf(ns, 0, BLOCKS))
      return server.stats.memoryInUse === 0
    }),
    { numRuns: 15 },
  )
  t.is(server.stats.inFlight, 0)
})

test('memory is bounded: commands that find none wait, in any sizes', async (t) => {
  const { server } = await serveSims(t, ['sim:?size=32M&latency=100us-300us'], { memory: 2 ** 20 })
  const ns = await connect(t, server, 1, { qsize: 256 })
  let most = 0
  const watch = setInterval(() => {
    most = Math.max(most, server.stats.memoryInUse)
  })
  const sizes = [1, 256, 2048, 8, 700]
  const all = Array.from({ length: 120 }, async (_, i) => {
    const nlb = sizes[i % sizes.length]!
    const slba = (i * 531) % (ns.blockcount - nlb)
    await ns.promises.read(Buffer.alloc(nlb * BLOCK), slba, nlb, { qid: i % 2 })
  })
  await Promise.all(all)
  clearInterval(watch)
  t.true(most > 0 && most <= 2 ** 20, String(most))
  t.is(server.stats.memoryInUse, 0)
})

test('a device that is reset behind the server: its clients do not notice', async (t) => {
  const { server, backs, controls } = await serveSims(t, ['sim:?size=8M&latency=100ms'])
  const ns = await connect(t, server)
  const writes = Array.from({ length: 64 }, (_, i) => ns.promises.write(pattern(4096, i), i * 8))
  await until(() => server.stats.inFlight > 0)
  await backs[0]!.reset()
  controls.setLatency(0)
  await Promise.all(writes)
  for (let i = 0; i < 64; i++) t.deepEqual(await readOf(ns, i * 8, 8), pattern(4096, i))
})

test('a device that is gone ends the server, and its clients know', async (t) => {
  const { server, controls } = await serveSims(t, ['sim:?size=8M&latency=100ms'])
  const ns = await connect(t, server)
  const reads = Array.from({ length: 16 }, (_, i) => readOf(ns, i, 1))
  const outcomes = Promise.allSettled(reads)
  await until(() => server.stats.inFlight > 0)
  controls.vanish({ notify: true })
  await t.throwsAsync(server.closed, { code: 'ERR_UNVME_DEVICE_REMOVED' })
  await outcomes
  await t.throwsAsync(readOf(ns, 0, 1), { code: 'ERR_UNVME_DEVICE_REMOVED' })
})

test('a namespace that is closed ends the server: what is in flight is answered, then its client hears of the end', async (t) => {
  const { server, backs } = await serveSims(t, ['sim:?size=8M&latency=100ms'])
  const ns = await connect(t, server)
  const writes = Array.from({ length: 16 }, (_, i) => ns.promises.write(pattern(512, i), i))
  await until(() => server.stats.inFlight === 16)
  await backs[0]!.close()
  await server.closed
  const { length } = (await Promise.allSettled(writes)).filter((one) => one.status === 'fulfilled')
  t.is(length, 16)
  t.is(server.stats.memoryInUse, 0)
  await until(() =>
    readOf(ns, 0, 1).then(
      () => false,
      (error) => error.code === 'ERR_UNVME_DEVICE_REMOVED',
    ),
  )
})

test('close, dispose and a signal end it once; flushed data and the socket are seen to', async (t) => {
  const ending = new AbortController()
  const { server, backs } = await serveSims(t, undefined, { signal: ending.signal })
  const ns = await connect(t, server)
  await ns.promises.write(pattern(512, 8), 1)
  ending.abort(new Error('enough'))
  await server.closed
  await server.close()
  t.deepEqual(await readOf(backs[0]!, 1, 1), pattern(512, 8))
  await t.throwsAsync(open(server.address), { code: 'ERR_UNVME_ADDRESS' })
  await t.throwsAsync(serve(server.address, { device: backs, signal: AbortSignal.abort() }), {
    code: 'ABORT_ERR',
  })
  const again = await serve(server.address, { device: backs[0]! })
  await again[Symbol.asyncDispose]()
  // The memory of three servers has come back.
  t.false(backs[0]!.closed)
})

test('a client that is killed while it writes: the next one is let in when its commands have ended', async (t) => {
  const { server } = await serveSims(t, ['sim:?size=8M&latency=2ms-20ms'])
  const writer = fork(fileURLToPath(new URL('./writer.js', import.meta.url)), [server.address])
  await once(writer, 'message')
  const ended = once(writer, 'exit')
  writer.kill('SIGKILL')
  await ended
  const ns = await connect(t, server)
  // Nothing of the client before is written over what is new.
  const zeroes = Buffer.alloc(64 * 64 * 1024)
  await ns.promises.write(zeroes, 0)
  t.is(server.stats.clients, 2)
  await new Promise((resolve) => setTimeout(resolve, 50))
  t.true((await ns.promises.read(Buffer.alloc(zeroes.length), 0)).equals(zeroes))
  t.is(server.stats.memoryInUse, 0)
  t.is(server.stats.inFlight, 0)
})

for (const doorbells of ['mapped', 'shadow'] as const) {
  test(`a client that waits for interrupts, and a server that may sleep: doorbells ${doorbells}`, async (t) => {
    const { server } = await serveSims(t, ['sim:?size=8M&latency=5ms-40ms'], { doorbells })
    const ns = await connect(t, server, 1, { interrupts: true })
    const lane = async (i: number) => {
      for (let n = 0; n < 4; n++) {
        await ns.promises.write(pattern(4096, 10 * i + n), i * 8, 8, { qid: i % 2 })
        t.deepEqual(await readOf(ns, i * 8, 8), pattern(4096, 10 * i + n))
        await new Promise((resolve) => setTimeout(resolve, 20))
      }
    }
    await Promise.all([0, 1, 2].map(lane))
  })
}

test('the event loop goes on while a client keeps all queues full', async (t) => {
  const { server } = await serveSims(t, ['sim:?size=8M'])
  const ns = await connect(t, server)
  let turns = 0
  let busy = true
  const turn = () => {
    turns++
    if (busy) setImmediate(turn)
  }
  setImmediate(turn)
  const lane = async (i: number) => {
    const data = Buffer.alloc(4096)
    for (let n = 0; n < 100; n++) await ns.promises.read(data, i * 8, 8, { qid: i % 2 })
  }
  await Promise.all(Array.from({ length: 64 }, (_, i) => lane(i)))
  busy = false
  t.true(turns > 10, String(turns))
})

test('bad arguments each have their error', async (t) => {
  const { backs } = await serveSims(t)
  const address = `vfio-user:${newSocketPath()}`
  const cases: [object, object][] = [
    [{ device: [] }, { code: 'ERR_INVALID_ARG_TYPE' }],
    [{ device: {} }, { code: 'ERR_INVALID_ARG_TYPE' }],
    [{ device: backs, queues: 0 }, { message: /queues/ }],
    [{ device: backs, queueSize: 1 }, { message: /queueSize/ }],
    [{ device: backs, memory: 4096 }, { message: /memory/ }],
    [{ device: backs, readOnly: 1 }, { message: /readOnly/ }],
    [{ device: 'sim:', readOnly: true }, { message: /readOnly is for open namespaces/ }],
    [{ device: backs, doorbells: 'none' }, { message: /doorbells/ }],
    [{ device: backs, depth: 1 }, { message: /depth/ }],
  ]
  for (const [options, expected] of cases) {
    await t.throwsAsync(
      serve(address, options as ServeOptions),
      expected,
      JSON.stringify(Object.keys(options)),
    )
  }
})
