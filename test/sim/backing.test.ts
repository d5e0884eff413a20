// The model in front of a backing, which here ends commands when the test says so: nothing is answered before it has ended,
// and nothing of before a reset, a deletion or a disconnection reaches the host, its memory, or commands of after it.

import test from 'ava'
import fc from 'fast-check'
import {
  decodeCommandEffects,
  decodeErrorLog,
  decodeSmartLog,
  encodeSmartLog,
} from '../../lib/nvme/spec/logs.ts'
import { STATUS } from '../../lib/nvme/spec/status.ts'
import {
  type Backing,
  type BackingDone,
  type HostedSim,
  hostedDoorbellBytes,
  hostSim,
  parseSimAddress,
  type SimFunction,
} from '../../lib/sim/index.ts'
import { newMemory } from '../vfio-user/wire.ts'
import { CC_ENABLE, PAGE, READ, Rig, range, WRITE } from './ring.ts'

const BLOCK = 512
const IOVA = 2 ** 32
const FLUSH = 0
const COMPARE = 5
const AER = 12
const DNR = 0x4000

interface Held {
  readonly sqe: Uint32Array
  readonly block: { readonly bytes: Uint8Array } | null
  readonly qid: number
  readonly done: BackingDone
  /** The device has it. */
  readonly begun: boolean
}

/** A backing that holds what it gets. */
class Holder implements Backing {
  readonly namespaces = [
    { nsid: 1, blocks: 1024, blockBytes: BLOCK },
    { nsid: 3, blocks: 64, blockBytes: 4096 },
  ]
  readonly identity = { sn: 'HELD', mn: 'holder', fr: '1', vwc: 7, oncs: 1, psds: [{}] }
  readonly opcodes = new Set([FLUSH, READ, WRITE, COMPARE])
  readonly held: Held[] = []
  readonly begins: () => boolean
  readonly blocks: number
  taken = 0
  flushes: (() => void)[] = []

  constructor(blocks = 64, begins: () => boolean = () => true) {
    this.blocks = blocks
    this.begins = begins
  }

  identifyNamespace = (nsid: number) => new Uint8Array(4096).fill(nsid)
  describeNamespace = (nsid: number) => new Uint8Array(4096).fill(0x10 + nsid)
  readLog = (lid: number) => (lid === 2 ? Promise.resolve(encodeSmartLog({ temperature: 321 })) : null)

  alloc(bytes: number) {
    if (this.taken === this.blocks) return null
    this.taken++
    return { bytes: new Uint8Array(bytes) }
  }

  free(): void {
    this.taken--
  }

  execute(sqe: Uint32Array, block: Held['block'], qid: number, done: BackingDone): void {
    this.held.push({ sqe: sqe.slice(), block, qid, done, begun: this.begins() })
  }

  end(at = 0, status = 0, result = 0): Held {
    const held = this.held.splice(at, 1)[0]!
    held.done(status, result)
    return held
  }

  withdraw(done: BackingDone): boolean {
    const at = this.held.findIndex((held) => held.done === done && !held.begun)
    if (at >= 0) this.end(at, STATUS.ABORT_REQUESTED)
    return at >= 0
  }

  flush(): Promise<void> {
    return new Promise((resolve) => this.flushes.push(resolve))
  }
}

/** A host by hand, at a controller with a backing. */
function bringUp(holder: Holder, options: { qsize?: number; shadow?: boolean } = {}) {
  const config = {
    ...{ ...parseSimAddress('sim:'), size: 0, qcount: 4, mdts: 1, nsids: [1, 3], qsize: 64 },
    ...options,
  }
  const doorbells = new ArrayBuffer(hostedDoorbellBytes(config))
  let wakes = 0
  const wake = () => {
    wakes++
  }
  const sim: HostedSim = hostSim(config, doorbells, () => {}, { backing: holder, wake })
  const memory = newMemory(2 ** 21)
  const mapDma = (bytes: number) => {
    sim.map(IOVA, bytes, memory.fd, 0)
    return { address: memory.address, iova: IOVA, bytes }
  }
  sim.setBusMaster(true)
  const host = {
    ...{ mapDma, doorbells: new Uint32Array(doorbells), notify: null, step: () => sim.step() },
    readRegister: (offset: number) => sim.readRegister(offset),
    writeRegister: (offset: number, value: number) => sim.writeRegister(offset, value),
    async close() {
      sim.close()
      memory.end()
    },
  }
  const rig = new Rig(host as unknown as SimFunction, 2 ** 21)
  rig.enable()
  return { sim, rig, wakes: () => wakes }
}

const CSTS_READY = 1

test('a command ends when its backing says so, with its data, status and result', async (t) => {
  const holder = new Holder()
  const { rig, wakes } = bringUp(holder)
  await rig.createPair(1, 16)
  const data = rig.alloc(2)
  rig.at(data, 1024).fill(7)
  rig.post(1, { opcode: WRITE, nsid: 1, prp1: data, dw: range(5, 2) })
  rig.post(1, { opcode: READ, nsid: 3, prp1: data + PAGE, dw: range(9, 1) })
  rig.post(1, { opcode: FLUSH, nsid: 0xffff_ffff })
  rig.ringTail(1)
  t.is(rig.take(1), undefined)
  t.deepEqual(
    holder.held.map(({ sqe, block, qid }) => [sqe[0]! & 0xff, sqe[1], sqe[10], block?.bytes.length, qid]),
    [
      [WRITE, 1, 5, 1024, 1],
      [READ, 3, 9, 4096, 1],
      [FLUSH, 0xffff_ffff, 0, undefined, 1],
    ],
  )
  t.true(holder.held[0]!.block!.bytes.every((byte) => byte === 7))
  holder.held[1]!.block!.bytes.fill(9)
  holder.end(1, 0, 0x1234)
  t.is(wakes(), 1)
  t.like(await rig.next(1), { status: 0, sqhd: 3, result: 0x1234, more: false })
  t.true(rig.at(data + PAGE, 4096).every((byte) => byte === 9))
  holder.end(0, 0x281 | DNR)
  t.like(await rig.next(1), { status: 0x281, dnr: true, more: true })
  holder.end(0, STATUS.COMMAND_INTERRUPTED)
  t.like(await rig.next(1), { status: STATUS.COMMAND_INTERRUPTED, dnr: false })
  t.is(holder.taken, 0)
  // Both failures are in this controller's own error log.
  const log = rig.alloc(1)
  await rig.admin({ opcode: 2, prp1: log, dw: [0x1f_0001] })
  const entries = decodeErrorLog(rig.at(log, 128))
  t.deepEqual(
    entries.map(({ sqid, opcode, lba }) => [sqid, opcode, Number(lba)]),
    [
      [1, FLUSH, 0],
      [1, WRITE, 5],
    ],
  )
})

test('what is wrong with a command is said before its backing sees it', async (t) => {
  const holder = new Holder()
  const { rig } = bringUp(holder)
  await rig.createPair(1, 16)
  const data = rig.alloc(4)
  const status = async (command: object) =>
    (await rig.run(1, { nsid: 1, prp1: data, ...command } as never)).status
  t.is(await status({ opcode: 8, dw: range(0, 1) }), STATUS.INVALID_OPCODE)
  t.is(await status({ opcode: READ, nsid: 2, dw: range(0, 1) }), STATUS.INVALID_NAMESPACE_OR_FORMAT)
  t.is(await status({ opcode: READ, flags: 1, dw: range(0, 1) }), STATUS.INVALID_FIELD)
  t.is(await status({ opcode: READ, dw: range(0, 17) }), STATUS.INVALID_FIELD, 'MDTS')
  t.is(await status({ opcode: READ, prp1: data + 2, dw: range(0, 1) }), STATUS.PRP_OFFSET_INVALID)
  t.is(await status({ opcode: WRITE, prp1: 4096, dw: range(0, 1) }), STATUS.DATA_TRANSFER_ERROR)
  for (const opcode of [0x80, 0x84, 0x0d, 0x10, 0x14]) {
    t.is((await rig.admin({ opcode, nsid: 1 })).status, STATUS.INVALID_OPCODE)
  }
  t.is(holder.held.length, 0)
})

test('memory that is unmapped while a read is done: Data Transfer Error, and nothing is written', async (t) => {
  const holder = new Holder()
  const { rig, sim } = bringUp(holder)
  await rig.createPair(1, 16)
  const data = newMemory(65536)
  sim.map(2 ** 33, 65536, data.fd, 0)
  rig.post(1, { opcode: READ, nsid: 1, prp1: 2 ** 33, dw: range(0, 1) })
  rig.ringTail(1)
  t.is(rig.take(1), undefined)
  sim.unmap(2 ** 33)
  const { block } = holder.held[0]!
  block!.bytes.fill(1)
  holder.end()
  t.is((await rig.next(1)).status, STATUS.DATA_TRANSFER_ERROR)
  t.true(data.words.every((word) => word === 0))
  t.is(holder.taken, 0)
  data.end()
})

test('without bus master nothing is written to memory, and nothing is lost', async (t) => {
  const holder = new Holder()
  const { rig, sim } = bringUp(holder)
  await rig.createPair(1, 16)
  const data = rig.alloc(1)
  rig.post(1, { opcode: READ, nsid: 1, prp1: data, dw: range(0, 1) })
  rig.ringTail(1)
  await rig.settle()
  holder.held[0]!.block!.bytes.fill(3)
  sim.setBusMaster(false)
  holder.end()
  await rig.settle()
  t.is(rig.at(data, 1)[0], 0)
  t.is(rig.take(1), undefined)
  sim.setBusMaster(true)
  t.is((await rig.next(1)).status, 0)
  t.is(rig.at(data, 1)[0], 3)
})

test('Delete I/O Submission Queue: what is not begun ends, the rest is answered before the deletion', async (t) => {
  let begins = true
  const holder = new Holder(64, () => begins)
  const { rig } = bringUp(holder)
  await rig.createPair(1, 16)
  const begun = rig.post(1, { opcode: FLUSH, nsid: 1 })
  rig.ringTail(1)
  await rig.settle()
  begins = false
  const waiting = rig.post(1, { opcode: FLUSH, nsid: 1 })
  rig.ringTail(1)
  await rig.settle()
  const deletion = rig.post(0, { opcode: 0, dw: [1] })
  const again = rig.post(0, { opcode: 0, dw: [1] })
  const cqDeletion = rig.post(0, { opcode: 4, dw: [1] })
  rig.ringTail(0)
  t.like(await rig.next(1), { cid: waiting, status: STATUS.ABORT_REQUESTED })
  t.like(await rig.next(0), { cid: again, status: STATUS.INVALID_QUEUE_IDENTIFIER })
  t.like(await rig.next(0), { cid: cqDeletion, status: STATUS.INVALID_QUEUE_DELETION })
  await rig.settle()
  t.is(rig.take(0), undefined)
  holder.end()
  t.like(await rig.next(1), { cid: begun, status: 0 })
  t.like(await rig.next(0), { cid: deletion, status: 0 })
  t.is((await rig.admin({ opcode: 4, dw: [1] })).status, 0)
  await rig.createPair(1, 16)
})

test('Abort ends what is not begun, and says so', async (t) => {
  let begins = false
  const holder = new Holder(64, () => begins)
  const { rig } = bringUp(holder)
  await rig.createPair(1, 16)
  const waiting = rig.post(1, { opcode: FLUSH, nsid: 1 })
  rig.ringTail(1)
  await rig.settle()
  t.like(await rig.admin({ opcode: 8, dw: [(waiting << 16) | 1] }), { status: 0, result: 0 })
  t.like(await rig.next(1), { cid: waiting, status: STATUS.ABORT_REQUESTED })
  begins = true
  const begun = rig.post(1, { opcode: FLUSH, nsid: 1 })
  rig.ringTail(1)
  await rig.settle()
  t.like(await rig.admin({ opcode: 8, dw: [(begun << 16) | 1] }), { status: 0, result: 1 })
  holder.end()
  t.like(await rig.next(1), { cid: begun, status: 0 })
})

test('a reset while commands are done: it is enabled when they have ended, and no answer comes', async (t) => {
  const holder = new Holder()
  const { rig, sim } = bringUp(holder)
  await rig.createPair(1, 16)
  const data = rig.alloc(1)
  rig.post(1, { opcode: READ, nsid: 1, prp1: data, dw: range(0, 1) })
  rig.post(1, { opcode: FLUSH, nsid: 1 })
  rig.ringTail(1)
  await rig.settle()
  // A deletion that waits for them is forgotten, too.
  rig.post(0, { opcode: 0, dw: [1] })
  rig.ringTail(0)
  await rig.settle()
  rig.sim.writeRegister(0x14, 0)
  t.is(rig.csts & CSTS_READY, 0)
  rig.bytes.fill(0)
  rig.enable()
  t.is(rig.csts & CSTS_READY, 0)
  // Disabled and enabled again meanwhile, and reset as a function.
  rig.sim.writeRegister(0x14, 0)
  sim.reset()
  rig.enable()
  holder.held[0]!.block!.bytes.fill(5)
  holder.end()
  await rig.settle()
  t.is(rig.csts & CSTS_READY, 0)
  holder.end()
  await rig.settle()
  t.is(rig.csts & CSTS_READY, CSTS_READY)
  t.is(rig.at(data, 1)[0], 0)
  t.is(holder.taken, 0)
  await rig.createPair(1, 16)
  t.is(rig.take(0), undefined)
  t.is(rig.take(1), undefined)
  // One that was disabled meanwhile stays disabled.
  rig.post(1, { opcode: FLUSH, nsid: 1 })
  rig.ringTail(1)
  await rig.settle()
  rig.sim.writeRegister(0x14, 0)
  rig.sim.writeRegister(0x14, CC_ENABLE)
  rig.sim.writeRegister(0x14, 0)
  holder.end()
  await rig.settle()
  t.is(rig.csts & CSTS_READY, 0)
})

test('shutdown is complete when everything is flushed, and one of before a reset completes nothing', async (t) => {
  const holder = new Holder()
  const { rig } = bringUp(holder)
  const SHST = 0xc
  rig.sim.writeRegister(0x14, CC_ENABLE | 0x4000)
  t.is(rig.csts & SHST, 4)
  rig.sim.writeRegister(0x14, 0)
  rig.enable()
  rig.sim.writeRegister(0x14, CC_ENABLE | 0x4000)
  t.is(rig.csts & SHST, 4)
  holder.flushes[0]!()
  await rig.settle()
  await null
  t.is(rig.csts & SHST, 4)
  holder.flushes[1]!()
  await null
  await null
  t.is(rig.csts & SHST, 8)
})

test('Identify, logs and features are of the device and of this controller, and nothing is kept', async (t) => {
  const holder = new Holder()
  const { rig, sim } = bringUp(holder, { shadow: true })
  const page = rig.alloc(1)
  const identify = async (cns: number, nsid = 0) => {
    rig.at(page, PAGE).fill(0xee)
    return (await rig.admin({ opcode: 6, nsid, prp1: page, dw: [cns] })).status
  }
  t.is(await identify(1), 0)
  const text = (at: number, bytes: number) =>
    Buffer.from(rig.at(page + at, bytes))
      .toString('latin1')
      .trim()
  t.deepEqual([text(4, 20), text(24, 40)], ['HELD', 'holder'])
  t.is(rig.at(page, 4096)[77], 1, 'MDTS')
  t.is(rig.at(page, 4096)[257], 1, 'Doorbell Buffer Config alone')
  t.is(await identify(0, 3), 0)
  t.true(rig.at(page, PAGE).every((byte) => byte === 3))
  t.is(await identify(0, 2), 0)
  t.true(rig.at(page, PAGE).every((byte) => byte === 0))
  t.is(await identify(0, 4), STATUS.INVALID_NAMESPACE_OR_FORMAT)
  t.is(await identify(3, 1), 0)
  t.is(rig.at(page, 1)[0], 0x11)
  t.is(await identify(2), 0)
  t.deepEqual([...rig.wordsAt(page).subarray(0, 3)], [1, 3, 0])
  t.is((await rig.admin({ opcode: 2, prp1: page, dw: [0x7f_0002] })).status, 0)
  t.is(decodeSmartLog(rig.at(page, 512)).temperature, 321)
  t.is((await rig.admin({ opcode: 2, prp1: page, dw: [0x3ff_0005] })).status, 0)
  const effects = [0, 1, 2, 5, 8].map((opcode) => rig.wordsAt(page)[256 + opcode]!)
  t.deepEqual(
    effects.map((dword) => decodeCommandEffects(dword).csupp),
    [true, true, true, true, false],
  )
  for (const lid of [6, 7, 8, 0x81]) {
    t.is((await rig.admin({ opcode: 2, prp1: page, dw: [0x7f_0000 | lid] })).status, STATUS.INVALID_LOG_PAGE)
  }
  const set = async (...dw: number[]) => (await rig.admin({ opcode: 9, dw })).status
  t.is(await set(0x8000_000b, 0x100), STATUS.FEATURE_NOT_SAVEABLE)
  t.is(await set(0x17, 1), STATUS.INVALID_FIELD)
  t.is(await set(4, 200), 0)
  // An event of the namespaces, and none of a temperature that is not the device's.
  const request = rig.post(0, { opcode: AER })
  rig.ringTail(0)
  sim.controls.namespaceChanged(3)
  t.like(await rig.next(0), { cid: request, result: 0x04_0002 })
  t.is((await rig.admin({ opcode: 2, prp1: page, dw: [0x3ff_0004] })).status, 0)
  t.deepEqual([...rig.wordsAt(page).subarray(0, 2)], [3, 0])
})

test('a cache that the host turns off: writes are sent to the medium', async (t) => {
  const holder = new Holder()
  const { rig } = bringUp(holder)
  await rig.createPair(1, 16)
  const data = rig.alloc(1)
  t.is((await rig.admin({ opcode: 9, dw: [6, 0] })).status, 0)
  rig.post(1, { opcode: WRITE, nsid: 1, prp1: data, dw: range(0, 1) })
  rig.post(1, { opcode: READ, nsid: 1, prp1: data, dw: range(0, 1) })
  rig.ringTail(1)
  await rig.settle()
  t.deepEqual(
    holder.held.map(({ sqe }) => sqe[12]! >>> 30),
    [1, 0],
  )
})

type Step =
  | { kind: 'submit'; q: number; opcode: number; seed: number }
  | { kind: 'end'; at: number; fails: boolean }
  | { kind: 'abort'; at: number }
  | { kind: 'delete'; q: number }
  | { kind: 'reset'; how: 'controller' | 'function' }

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      kind: fc.constant('submit' as const),
      q: fc.integer({ min: 1, max: 2 }),
      opcode: fc.constantFrom(FLUSH, READ, WRITE, 0x77),
      seed: fc.integer({ min: 1, max: 255 }),
    }),
  },
  {
    weight: 7,
    arbitrary: fc.record({ kind: fc.constant('end' as const), at: fc.nat(), fails: fc.boolean() }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('abort' as const), at: fc.nat() }) },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant('delete' as const), q: fc.integer({ min: 1, max: 2 }) }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant('reset' as const),
      how: fc.constantFrom('controller' as const, 'function' as const),
    }),
  },
)

interface Sent {
  readonly q: number
  readonly opcode: number
  readonly seed: number
  readonly data: number
  /** With which it has to end; null while it has not. */
  status: number | null
}

test('any order of commands, ends, aborts, deletions and resets: each command is answered once, as it ended', async (t) => {
  const SIZE = 6
  await fc.assert(
    fc.asyncProperty(
      fc.array(step, { maxLength: 80, size: 'max' }),
      fc.infiniteStream(fc.boolean()),
      async (steps, begun) => {
        const holder = new Holder(5, () => begun.next().value)
        const { rig, sim } = bringUp(holder)
        const pages = [0, 1, 2].map(() => rig.alloc(SIZE))
        const rings = [0, 1, 2].map(() => [rig.alloc(1), rig.alloc(1)] as const)
        let sent = new Map<number, Sent>()
        let cid = 100
        const make = async (q: number) => {
          const [cq, sq] = rings[q]!
          rig.at(cq, PAGE).fill(0)
          const dw = ((SIZE - 1) << 16) | q
          if ((await rig.admin({ opcode: 5, prp1: cq, dw: [dw, 1] })).status !== 0) throw new Error('CQ')
          if ((await rig.admin({ opcode: 1, prp1: sq, dw: [dw, 1 | (q << 16)] })).status !== 0)
            throw new Error('SQ')
          rig.addRing(q, SIZE, sq, cq)
        }
        const [asq, acq] = [rig.ring(0).sq, rig.ring(0).cq]
        const check = (ok: boolean, what: string) => {
          if (!ok) throw new Error(what)
        }
        const reap = (q: number) => {
          for (let got = rig.take(q); got !== undefined; got = rig.take(q)) {
            rig.ringHead(q)
            const command = sent.get(got.cid)
            check(command !== undefined, `an answer to ${got.cid}, which is none of this controller's`)
            check(
              command!.status === got.status,
              `${got.cid} ends with ${got.status}, not ${command!.status}`,
            )
            const bytes = rig.at(command!.data, BLOCK)
            const read = command!.opcode === READ && got.status === 0
            if (read)
              check(
                bytes.every((byte) => byte === command!.seed),
                'data of a read',
              )
            sent.delete(got.cid)
          }
        }
        const end = (at: number, status: number) => {
          const { sqe, block } = holder.held[at]!
          const command = sent.get(sqe[0]! >>> 16)
          if (command?.opcode === WRITE)
            check(
              block!.bytes.every((byte) => byte === command.seed),
              'data of a write',
            )
          // One of before a reset would write this.
          if ((sqe[0]! & 0xff) === READ) block!.bytes.fill(command?.seed ?? 0xdd)
          if (command !== undefined) command.status = status
          holder.end(at, status)
        }
        const withdrawn = () => {
          for (const [id, command] of sent) {
            const lives = holder.held.some(({ sqe }) => sqe[0]! >>> 16 === id)
            if (!lives && command.status === null && taken.has(id)) command.status = STATUS.ABORT_REQUESTED
          }
        }
        const taken = new Set<number>()
        const noteTaken = () => {
          for (const { sqe } of holder.held) taken.add(sqe[0]! >>> 16)
        }
        await make(1)
        await make(2)
        for (const one of steps) {
          if (one.kind === 'submit') {
            const { q, opcode, seed } = one
            const ring = rig.ring(q)
            const outstanding = [...sent.values()].filter((command) => command.q === q)
            if (outstanding.length >= SIZE - 1) continue
            const used = new Set(outstanding.map(({ data }) => data))
            const data = [0, 1, 2, 3, 4, 5].map((i) => pages[q]! + i * PAGE).find((iova) => !used.has(iova))!
            rig.at(data, BLOCK).fill(opcode === WRITE ? seed : 0)
            const id = cid++ & 0xffff
            sent.set(id, { q, opcode, seed, data, status: opcode === 0x77 ? STATUS.INVALID_OPCODE : null })
            rig.post(ring.qid, { opcode, cid: id, nsid: 1, prp1: data, dw: range(id % 1000, 1) })
            rig.ringTail(q)
          } else if (one.kind === 'end') {
            if (holder.held.length > 0) end(one.at % holder.held.length, one.fails ? 0x281 : 0)
          } else if (one.kind === 'abort') {
            const held = holder.held[one.at % Math.max(1, holder.held.length)]
            if (held === undefined || !sent.has(held.sqe[0]! >>> 16)) continue
            const { result } = await rig.admin({ opcode: 8, dw: [(held.sqe[0]! & 0xffff_0000) | held.qid] })
            check((result === 0) === !held.begun, 'what Abort says')
          } else if (one.kind === 'delete') {
            const { q } = one
            rig.post(0, { opcode: 0, dw: [q] })
            rig.ringTail(0)
            for (;;) {
              await rig.settle()
              noteTaken()
              withdrawn()
              reap(q)
              const mine = holder.held.findIndex(({ qid, sqe }) => qid === q && sent.has(sqe[0]! >>> 16))
              const answer = rig.take(0)
              if (answer !== undefined) {
                check(mine < 0, 'deleted with commands in flight')
                check(answer.status === 0, 'deletion')
                rig.ringHead(0)
                break
              }
              check(mine >= 0, 'the deletion waits for nothing')
              end(mine, 0)
            }
            check((await rig.admin({ opcode: 4, dw: [q] })).status === 0, 'CQ')
            // What was never taken from the ring is gone with it.
            for (const [id, command] of sent) if (command.q === q) sent.delete(id)
            await make(q)
          } else {
            if (one.how === 'controller') rig.sim.writeRegister(0x14, 0)
            else sim.reset()
            sent = new Map()
            rig.at(asq, PAGE).fill(0)
            rig.at(acq, PAGE).fill(0)
            for (const page of pages) rig.at(page, SIZE * PAGE).fill(0)
            for (const [register, value] of [
              [0x24, 0x1f_001f],
              [0x28, asq >>> 0],
              [0x2c, Math.floor(asq / 2 ** 32)],
              [0x30, acq >>> 0],
              [0x34, Math.floor(acq / 2 ** 32)],
              [0x14, CC_ENABLE],
            ] as const) {
              rig.sim.writeRegister(register, value)
            }
            while (holder.held.length > 0) {
              check((rig.csts & 1) === 0, 'ready with commands of before in flight')
              end(holder.held.length - 1, 0)
              await rig.settle()
            }
            check((rig.csts & 1) === 1, 'not ready')
            check(
              pages.every((page) => rig.at(page, SIZE * PAGE).every((byte) => byte === 0)),
              'memory of before',
            )
            rig.addRing(0, 32, asq, acq)
            await make(1)
            await make(2)
          }
          await rig.settle()
          noteTaken()
          withdrawn()
          reap(1)
          reap(2)
        }
        for (let more = true; more; ) {
          while (holder.held.length > 0) end(0, 0)
          await rig.settle()
          noteTaken()
          reap(1)
          reap(2)
          more = holder.held.length > 0
        }
        check(sent.size === 0, `${sent.size} commands have no answer`)
        check(holder.taken === 0, 'memory is left')
        await rig.sim.close()
      },
    ),
    { numRuns: 60 },
  )
  t.pass()
})
