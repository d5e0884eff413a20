// Options of public calls: names that a call does not have are refused with the nearest one, `undefined` counts as
// absent, and the words of fs mean what they mean there.

import test from 'ava'
import { getFeature, getLogPage, setFeature } from '../../lib/nvme/host/admin-commands.ts'
import {
  compare,
  copy,
  type Namespace,
  open,
  openController,
  type ReadStreamOptions,
  serve,
  spread,
  type WriteStreamOptions,
} from '../../src/index.ts'
import { pattern } from '../support/pattern.ts'

type Call = (ns: Namespace, options: never) => unknown

/** Every public call with options, and a misspelt one with the nearest. */
const CALLS: Record<string, [call: Call, wrong: string, nearest: string]> = {
  open: [(_, options) => open('sim:', options), 'queues', 'qcount'],
  openController: [(_, options) => openController('sim:', options), 'qSize', 'qsize'],
  'ControllerHandle.openNamespace': [
    async (_, options) => {
      await using handle = await openController('sim:')
      await using ns = await handle.openNamespace(1, options)
      return ns.id
    },
    'timeuot',
    'timeout',
  ],
  'ControllerHandle.admin': [
    async (_, options) => {
      await using handle = await openController('sim:')
      return await handle.admin({ opcode: 6, cdw10: 1, data: Buffer.alloc(4096) }, options)
    },
    'singal',
    'signal',
  ],
  'Namespace.openNamespace': [
    async (ns, options) => {
      await using other = await ns.openNamespace(1, options)
      return other.id
    },
    'abortSignal',
    'signal',
  ],
  admin: [
    (ns, options) => ns.admin({ opcode: 6, cdw10: 1, data: Buffer.alloc(4096) }, options),
    'signl',
    'signal',
  ],
  share: [(ns, options) => ns.share(0, options).recall(), 'buffer', 'buffers'],
  spread: [
    (ns, options) => spread(ns, new URL('../threads/spread-task.js', import.meta.url), options),
    'numjobs',
    'jobs',
  ],
  identify: [(ns, options) => ns.controller.identify(1, options), 'nsId', 'nsid'],
  getLogPage: [(ns, options) => getLogPage(ns.controller, 2, 512, options), 'lspp', 'lsp'],
  getFeature: [(ns, options) => getFeature(ns.controller, 7, options), 'sel', 'select'],
  setFeature: [(ns, options) => setFeature(ns.controller, 2, 0, options), 'safe', 'save'],
  copy: [(ns, options) => copy('/dev/null', ns, options), 'dstSlab', 'dstSlba'],
  compare: [(ns, options) => compare('/dev/null', ns, options), 'byte', 'bytes'],
  serve: [(_, options) => serve('vfio-user:/proc/self/nowhere', options), 'doorbell', 'doorbells'],
  createReadStream: [(ns, options) => ns.createReadStream(options).destroy(), 'strat', 'start'],
  createWriteStream: [(ns, options) => ns.createWriteStream(options).destroy(), 'end', 'nlb'],
  readableWebStream: [(ns, options) => ns.readableWebStream(options).cancel(), 'start', 'slba'],
  blocks: [(ns, options) => ns.blocks(options).return?.(), 'highWaterMark', 'chunk'],
  writeBlocks: [(ns, options) => ns.writeBlocks([], options), 'flsuh', 'flush'],
  transferTo: [(ns, options) => ns.transferTo(() => {}, options), 'concurrency', 'parallel'],
  transferFrom: [(ns, options) => ns.transferFrom(() => 0, options), 'length', 'bytes'],
  'promises.read': [(ns, options) => ns.promises.read(Buffer.alloc(512), 0, 1, options), 'queue', 'qid'],
  'promises.write': [(ns, options) => ns.promises.write(Buffer.alloc(512), 0, 1, options), 'qId', 'qid'],
  'promises.compare': [(ns, options) => ns.promises.compare(Buffer.alloc(512), 0, 1, options), 'gid', 'qid'],
  'promises.writeZeroes': [(ns, options) => ns.promises.writeZeroes(0, 1, options), 'queues', 'qid'],
  'promises.verify': [(ns, options) => ns.promises.verify(0, 1, options), 'signla', 'signal'],
  'promises.flush': [(ns, options) => ns.promises.flush(options), 'qdi', 'qid'],
  'promises.deallocate': [
    (ns, options) => ns.promises.deallocate([{ slba: 0, nlb: 1 }], options),
    'qids',
    'qid',
  ],
  'promises.cmd': [(ns, options) => ns.promises.cmd({ opcode: 0 }, options), 'signals', 'signal'],
}

for (const [name, [call, wrong, nearest]] of Object.entries(CALLS)) {
  test(`${name}: an option that it does not have is refused, with the nearest one`, async (t) => {
    await using ns = await open('sim:?size=1M', { threads: name === 'share' })
    const { bytes } = ns.pool
    const refused = await t.throwsAsync(async () => call(ns, { [wrong]: 1 } as never), {
      code: 'ERR_INVALID_ARG_VALUE',
    })
    t.true(
      refused.message.includes(`'${wrong}'`) && refused.message.includes(`'${nearest}'`),
      refused.message,
    )
    // Nothing is near: all are named.
    const far = await t.throwsAsync(async () => call(ns, { zzzzzz: 1 } as never), {
      code: 'ERR_INVALID_ARG_VALUE',
    })
    t.true(far.message.includes(nearest) || far.message.includes('there are'), far.message)
    await t.throwsAsync(async () => call(ns, null as never), { code: 'ERR_INVALID_ARG_TYPE' })
    t.is(ns.stats.inFlight, 0)
    t.is(ns.pool.bytes, bytes, 'nothing was begun')
  })
}

test('options: a name that all objects inherit is no option', async (t) => {
  await using ns = await open('sim:?size=1M')
  for (const name of ['toString', 'constructor', '__proto__x', 'objectMode', 'fd', 'flags']) {
    t.throws(() => ns.createReadStream({ [name]: true } as never), { code: 'ERR_INVALID_ARG_VALUE' }, name)
  }
  const inherited = Object.create({ strat: 0 })
  t.throws(() => ns.createReadStream(inherited), { code: 'ERR_INVALID_ARG_VALUE' })
})

test('options: undefined counts as absent, in types, too', async (t) => {
  const none = {
    nsid: undefined,
    qcount: undefined,
    qsize: undefined,
    timeout: undefined,
    threads: undefined,
  }
  await using ns = await open('sim:?size=1M', {
    ...none,
    faults: undefined,
    signal: undefined,
    noIommu: undefined,
  })
  const range = { slba: undefined, nlb: 2, depth: undefined, qid: undefined, signal: undefined }
  const reading: ReadStreamOptions = {
    ...range,
    start: undefined,
    end: undefined,
    highWaterMark: undefined,
    encoding: undefined,
    emitClose: undefined,
    autoClose: undefined,
    autoDestroy: undefined,
  }
  const writing: WriteStreamOptions = {
    ...range,
    start: undefined,
    encoding: undefined,
    flush: undefined,
    pad: undefined,
  }
  const data = pattern(1024)
  const sink = ns.createWriteStream(writing)
  await new Promise<void>((resolve) => sink.end(data, resolve))
  const parts: Buffer[] = []
  for await (const part of ns.createReadStream(reading)) parts.push(part)
  t.true(Buffer.concat(parts).equals(data))
  for await (const { nlb } of ns.blocks({ ...range, chunk: undefined, copy: undefined })) t.is(nlb, 2)
  t.is(await ns.transferTo(() => {}, { ...range, chunk: undefined, parallel: undefined }), 1024)
  // The length comes of `bytes`.
  t.is(await ns.transferFrom((buffer) => buffer.length, { ...range, nlb: undefined, bytes: 700 }), 700)
  // Not even one that there is not.
  t.notThrows(() => ns.createReadStream({ strat: undefined } as never).destroy())
  await ns.promises.flush({ qid: undefined, signal: undefined })
  t.is((await copy('/dev/null', ns, { bytes: undefined, onProgress: undefined })).bytes, 0)
})

test('createReadStream: start and end are bytes, the last one included, on the boundaries of blocks', async (t) => {
  await using ns = await open('sim:?size=1M')
  const data = pattern(8 * 512)
  await ns.promises.write(data, 0)
  const read = async (options: ReadStreamOptions) => {
    const parts: Buffer[] = []
    for await (const part of ns.createReadStream(options)) parts.push(part)
    return Buffer.concat(parts)
  }
  t.true((await read({ start: 512, end: 2047 })).equals(data.subarray(512, 2048)))
  t.true((await read({ end: 1023 })).equals(data.subarray(0, 1024)))
  t.true((await read({ slba: 2, end: 2047 })).equals(data.subarray(1024, 2048)))
  t.true((await read({ start: 1024, nlb: 3 })).equals(data.subarray(1024, 2560)))
  const rest = await read({ start: 512, end: Number.POSITIVE_INFINITY })
  t.is(rest.length, 2 ** 20 - 512)
  const refused: [options: ReadStreamOptions, code: string, message: RegExp][] = [
    [{ start: 100 }, 'ERR_OUT_OF_RANGE', /start must be the first byte of a block of 512, received 100/],
    [{ end: 1024 }, 'ERR_OUT_OF_RANGE', /end must be the last byte of a block of 512, received 1024/],
    [{ start: -512 }, 'ERR_OUT_OF_RANGE', /start/],
    [{ start: Number.NaN }, 'ERR_OUT_OF_RANGE', /start/],
    [{ start: '0' as never }, 'ERR_INVALID_ARG_TYPE', /start/],
    [{ start: 1024, end: 511 }, 'ERR_OUT_OF_RANGE', /before the start/],
    [{ end: 2 ** 20 + 511 }, 'ERR_OUT_OF_RANGE', /last LBA/],
    [{ start: 0, slba: 0 }, 'ERR_INVALID_ARG_VALUE', /start and slba/],
    [{ end: 511, nlb: 1 }, 'ERR_INVALID_ARG_VALUE', /end and nlb/],
  ]
  for (const [options, code, message] of refused) {
    t.throws(() => ns.createReadStream(options), { code, message }, JSON.stringify(options))
  }
})

test('createWriteStream: start is a byte, and encoding that of strings', async (t) => {
  await using ns = await open('sim:?size=1M')
  const sink = ns.createWriteStream({ start: 1024, encoding: 'hex' })
  await new Promise<void>((resolve) => sink.end('c0ffee', resolve))
  t.is(sink.slba, 2)
  t.is((await ns.promises.read(Buffer.alloc(512), 2)).toString('hex', 0, 4), 'c0ffee00')
  t.throws(() => ns.createWriteStream({ start: 1 }), { code: 'ERR_OUT_OF_RANGE' })
})

test('streams: autoClose and autoDestroy are one, and keep the stream after its end where they are false', async (t) => {
  await using ns = await open('sim:?size=1M')
  const ended = (stream: NodeJS.ReadableStream) =>
    new Promise((resolve) => stream.resume().once('end', () => setImmediate(resolve)))
  for (const name of ['autoClose', 'autoDestroy']) {
    const kept = ns.createReadStream({ [name]: false, nlb: 8 })
    await ended(kept)
    t.false(kept.destroyed, name)
    const closed = ns.createReadStream({ [name]: true, nlb: 8 })
    await ended(closed)
    t.true(closed.destroyed, name)
    const errors: unknown[] = []
    kept.on('error', (error) => errors.push(error))
    await kept[Symbol.asyncDispose]()
    t.deepEqual(errors, [])
  }
  t.throws(() => ns.createReadStream({ autoClose: true, autoDestroy: false }), {
    code: 'ERR_INVALID_ARG_VALUE',
  })
  for (const name of ['autoClose', 'autoDestroy', 'emitClose']) {
    t.throws(() => ns.createWriteStream({ [name]: 1 }), { code: 'ERR_INVALID_ARG_TYPE' }, name)
  }
})
