// Loops over calls that a controller answers at once: the event loop has its turns beside each of them.

import { getEventListeners } from 'node:events'
import test from 'ava'
import { getFeature, getLogPage } from '../../lib/nvme/host/admin-commands.ts'
import { pacing } from '../../lib/sys/event-loop.ts'
import {
  type ControllerHandle,
  compare,
  copy,
  type Namespace,
  NVM,
  open,
  openController,
} from '../../src/index.ts'

const CALLS = 64
const ignore = () => {}

/** Turns of the event loop while `call` is awaited again and again. */
async function turnsBeside(call: () => Promise<unknown>): Promise<number> {
  let turns = 0
  let over = false
  const count = () => {
    if (over) return
    turns++
    setImmediate(count)
  }
  setImmediate(count)
  for (let i = 0; i < CALLS; i++) await call()
  over = true
  return turns
}

const ADDRESS = 'sim:?size=1M'
let ns: Namespace
let other: Namespace
let closed: Namespace
let handle: ControllerHandle
let dma: Buffer

test.before(async () => {
  // As soon as the clock has moved, so that nothing depends on how fast a machine is.
  pacing.ms = 0
  ns = await open(ADDRESS)
  other = await open(ADDRESS)
  handle = await openController(ADDRESS)
  closed = await open(ADDRESS)
  dma = ns.alloc(4096)
  await closed.close()
})
test.after.always(() => Promise.all([ns.close(), other.close(), handle.close()]))

const plain = Buffer.alloc(4096)
const range = { nlb: 8 }
const ranges = [{ slba: 0, nlb: 8 }]

const kinds: Record<string, () => Promise<unknown>> = {
  'promises.read of a plain buffer': () => ns.promises.read(plain, 0),
  'promises.read of DMA memory': () => ns.promises.read(dma, 0),
  'promises.read of a long buffer': () => ns.promises.read(Buffer.allocUnsafe(2 ** 18), 0),
  'promises.write': () => ns.promises.write(plain, 0),
  'promises.compare': () => ns.promises.compare(plain, 0).catch(ignore),
  'promises.writeZeroes': () => ns.promises.writeZeroes(0, 8),
  'promises.writeZeroes of all': () => ns.promises.writeZeroes(0, ns.blockcount),
  'promises.verify': () => ns.promises.verify(0, 8),
  'promises.flush': () => ns.promises.flush(),
  'promises.deallocate': () => ns.promises.deallocate(ranges),
  'alloc and promises.cmd': async () => {
    const buf = ns.alloc(4096)
    await ns.promises.cmd({ opcode: NVM.READ, buf, cdw12: 7 })
    ns.free(buf)
  },
  'promises.cmd that the controller refuses': () => ns.promises.cmd({ opcode: 0x99 }).catch(ignore),
  'promises.read of wrong arguments': () => ns.promises.read(plain, -1).catch(ignore),
  'promises.cmd of wrong arguments': () => ns.promises.cmd({ opcode: 256 }).catch(ignore),
  'promises.verify of wrong arguments': () => ns.promises.verify(-1, 1).catch(ignore),
  'promises.read of an aborted signal': () =>
    ns.promises.read(plain, 0, 8, { signal: AbortSignal.abort() }).catch(ignore),
  'promises.read of a closed namespace': () => closed.promises.read(plain, 0).catch(ignore),
  'promises.flush of a closed namespace': () => closed.promises.flush().catch(ignore),
  'admin of a closed namespace': () => closed.admin({ opcode: 0x18 }).catch(ignore),
  'blocks of one step': async () => {
    for await (const _ of ns.blocks(range));
  },
  'blocks that is left at once': async () => {
    for await (const _ of ns.blocks({ nlb: 64, chunk: 8 })) break
  },
  createReadStream: async () => {
    for await (const _ of ns.createReadStream(range));
  },
  readableWebStream: async () => {
    for await (const _ of ns.readableWebStream(range));
  },
  writeBlocks: () => ns.writeBlocks([plain], { ...range, flush: false }),
  transferTo: () => ns.transferTo(ignore, range),
  transferFrom: () => ns.transferFrom((buffer) => buffer.length, { ...range, flush: false }),
  'copy between namespaces': () => copy(ns, other, { bytes: 4096 }),
  'compare of namespaces': () => compare(ns, ns, { bytes: 4096 }),
  'admin commands': () => ns.admin({ opcode: 0x18 }).catch(ignore),
  identify: () => ns.controller.identify(1),
  'Get Log Page': () => getLogPage(handle.controller, 2, 512),
  'Get Features': () => getFeature(handle.controller, 7),
  'open and close': async () => (await open(ADDRESS)).close(),
  'openController and close': async () => (await openController(ADDRESS)).close(),
  'openNamespace and close': async () => (await ns.openNamespace(1)).close(),
}

for (const [name, call] of Object.entries(kinds)) {
  test.serial(`a loop over ${name} lets the event loop run`, async (t) => {
    t.true((await turnsBeside(call)) > 1)
  })
}

test.serial('a loop over several kinds of calls counts as one', async (t) => {
  let at = 0
  const several = [kinds.identify!, kinds['promises.verify']!, kinds['blocks of one step']!]
  t.true((await turnsBeside(() => several[at++ % several.length]!())) > 1)
})

test.serial('calls that share a signal have one listener on it, and none when they are done', async (t) => {
  const { signal } = new AbortController()
  const { length } = await Promise.all([
    ...Array.from({ length: 20 }, (_, i) => ns.promises.read(Buffer.alloc(512), i, 1, { signal })),
    ...Array.from({ length: 20 }, () => ns.controller.admin({ opcode: 0x0a, cdw10: 7 }, { signal })),
    // Many pieces.
    ns.promises.read(Buffer.alloc(2 ** 20), 0, undefined, { signal }),
    getEventListeners(signal, 'abort'),
  ]).then((all) => all.at(-1) as unknown[])
  t.is(length, 1)
  t.is(getEventListeners(signal, 'abort').length, 0)
})
