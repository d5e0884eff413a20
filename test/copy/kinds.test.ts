// Sources and targets of every kind, in every pair: interrupted anywhere and resumed, what is read back equals the source and
// nothing else is touched; and what reads back differently is named by its place at both ends.

import { execFileSync, spawn } from 'node:child_process'
import fs, { readFileSync, writeFileSync } from 'node:fs'
import zlib from 'node:zlib'
import test, { type ExecutionContext } from 'ava'
import fc from 'fast-check'
import { prepareCopy } from '../../src/copy/copy.ts'
import type { Endpoint } from '../../src/copy/endpoint.ts'
import { type EndpointSpec, openSource, openTarget } from '../../src/copy/endpoint-spec.ts'
import { parseRescueMap } from '../../src/copy/rescue-map.ts'
import { type CopyOptions, copy, open } from '../../src/index.ts'
import { testFolder } from '../support/folder.ts'
import { startNbd } from '../support/nbd.ts'
import { pattern } from '../support/pattern.ts'
import { withoutTool } from '../support/tools.ts'

const file = testFolder()
let files = 0
/** Tests run beside each other. */
const newFile = () => file(`${++files}`)
const MIB = 1 << 20
const BEFORE = 0xa5
const SPACE = 4 * MIB

const SOURCES = ['file', 'device', 'nbd', 'gzip', 'xz', 'pipe'] as const
const TARGETS = ['file', 'device of 512', 'device of 4096', 'nbd'] as const

// The system's program reads xz.
const kindsHere = SOURCES.filter((kind) => kind !== 'xz' || !withoutTool('xz', 'xz-utils'))

interface Source {
  /** What is read this time; `end` when it has been. */
  begin(): { spec: EndpointSpec; end(): void }
  fill(content: Buffer): Promise<void>
  /** It is longer than what is copied. */
  readonly isLonger: boolean
}

async function sourceOf(t: ExecutionContext, kind: (typeof SOURCES)[number]): Promise<Source> {
  const path = newFile()
  const always = (spec: EndpointSpec) => () => ({ spec, end() {} })
  if (kind === 'nbd' || kind === 'device') {
    const { ns, uri } = await startNbd(t, 'sim:?size=8M')
    const fill = (content: Buffer) =>
      ns.promises.write(Buffer.concat([content, Buffer.alloc(512 - (content.length % 512), 1)]), 0)
    return {
      begin: always(kind === 'nbd' ? uri : ns),
      fill: async (content) => void (await fill(content)),
      isLonger: true,
    }
  }
  const stored = (content: Buffer) => {
    if (kind === 'gzip') return zlib.gzipSync(content, { level: 1 })
    return kind === 'xz' ? execFileSync('xz', ['-0c'], { input: content, maxBuffer: SPACE }) : content
  }
  const fill = async (content: Buffer) => writeFileSync(path, stored(content))
  if (kind !== 'pipe') return { begin: always(path), fill, isLonger: false }
  const fifo = newFile()
  execFileSync('mkfifo', [fifo])
  const begin = () => {
    const writer = spawn('sh', ['-c', 'cat "$0" > "$1"', path, fifo], { stdio: 'ignore', detached: true })
    return {
      spec: fifo,
      end() {
        if (writer.exitCode === null) process.kill(-writer.pid!)
      },
    }
  }
  return { begin, fill, isLonger: false }
}

interface Target {
  readonly spec: EndpointSpec
  readonly blocksize: number
  put(content: Buffer): Promise<void>
  get(bytes: number): Promise<Buffer>
}

async function targetOf(t: ExecutionContext, kind: (typeof TARGETS)[number]): Promise<Target> {
  if (kind === 'file') {
    const path = newFile()
    return {
      ...{ spec: path, blocksize: 1 },
      put: async (content) => writeFileSync(path, content),
      get: async () => readFileSync(path),
    }
  }
  const { ns, uri } = await startNbd(t, `sim:?size=8M&lba=${kind === 'device of 4096' ? 4096 : 512}`)
  return {
    spec: kind === 'nbd' ? uri : ns,
    blocksize: ns.blocksize,
    put: async (content) => void (await ns.promises.write(content, 0)),
    get: (bytes) => ns.promises.read(Buffer.alloc(bytes), 0) as Promise<Buffer>,
  }
}

const parts = fc.array(
  fc.record({
    isData: fc.boolean(),
    bytes: fc.oneof(fc.integer({ min: 1, max: 9000 }), fc.integer({ min: 1, max: 700_000 })),
  }),
  { minLength: 1, maxLength: 5 },
)
const build = (all: readonly { isData: boolean; bytes: number }[]) =>
  Buffer.concat(all.map(({ isData, bytes }, at) => (isData ? pattern(bytes, at + 1) : Buffer.alloc(bytes))))

const how = fc.record({
  sparse: fc.constantFrom('auto' as const, 'always' as const, 'never' as const),
  verify: fc.boolean(),
  chunk: fc.constantFrom(4096, 65536),
  depth: fc.constantFrom(1, 8, 64),
})

for (const from of kindsHere) {
  for (const to of TARGETS) {
    test(`copy: from a ${from} to a ${to}, ended anywhere and resumed, it is equal and nothing else is touched`, async (t) => {
      const source = await sourceOf(t, from)
      const target = await targetOf(t, to)
      const map = newFile()
      const ends = fc.array(fc.nat(2 * MIB), { maxLength: 3 })
      await fc.assert(
        fc.asyncProperty(
          parts,
          how,
          ends,
          fc.nat(5),
          fc.nat(75),
          async (all, options, ends, blocks, left) => {
            const content = build(all)
            const seek = blocks * 4096
            const skip = left * 4096
            await source.fill(Buffer.concat([pattern(skip, 99), content]))
            const before = Buffer.alloc(SPACE + 8 * 4096, BEFORE)
            await target.put(before)
            fs.rmSync(map, { force: true })
            const once = async (end: number) => {
              const ending = new AbortController()
              const { spec, end: endSource } = source.begin()
              const moving: CopyOptions = {
                ...{ ...options, map, skip, seek, signal: ending.signal, resume: fs.existsSync(map) },
                ...(source.isLonger && { bytes: content.length }),
                onProgress: (bytes) => bytes > end && ending.abort(),
              }
              try {
                return await copy(spec, target.spec, moving)
              } catch (error) {
                t.is((error as { code: string }).code, 'ABORT_ERR', String(error))
                return undefined
              } finally {
                endSource()
              }
            }
            for (const end of ends) await once(end)
            const had = fs.existsSync(map) ? parseRescueMap(readFileSync(map, 'utf8'), map).done.bytes : 0
            const last = await once(Number.POSITIVE_INFINITY)
            t.is(last?.bytes, content.length)
            t.true(last!.written <= content.length - had + 4096)
            const wanted = Buffer.from(before)
            content.copy(wanted, seek)
            const found = await target.get(before.length)
            // From its start on, a file is written as a new one.
            t.true(found.equals(to === 'file' && seek === 0 ? content : wanted))
          },
        ),
        { numRuns: 8 },
      )
    })
  }
}

/** The same target, which reads back another byte at `place`. */
function lying(target: Endpoint, place: number): Endpoint {
  return {
    ...target,
    async writer(options) {
      const writer = await target.writer(options)
      return {
        ...writer,
        async read(buffer, at, bytes) {
          await writer.read!(buffer, at, bytes)
          if (place >= at && place < at + bytes) buffer[place - at]! ^= 1
        },
      }
    },
  }
}

for (const from of kindsHere) {
  for (const to of TARGETS) {
    test(`copy: from a ${from} to a ${to}, what reads back differently is named at both ends`, async (t) => {
      const source = await sourceOf(t, from)
      const target = await targetOf(t, to)
      const content = Buffer.concat([pattern(300_000), Buffer.alloc(300_000), pattern(100_001, 5)])
      await source.fill(content)
      for (const at of [0, 70_000, 400_000, content.length - 1]) {
        const seek = 3 * 4096
        const { spec, end } = source.begin()
        const given = await openSource(spec, {})
        const opened = await openTarget(target.spec, {})
        const bytes = source.isLonger ? content.length : undefined
        const planned = await prepareCopy(given, [lying(opened, seek + at)], { bytes, seek, verify: true })
        const { targets } = await planned.run()
        const { offset, a, b } = targets[0]!.difference!
        t.is(offset, at)
        t.like(a, { position: at, ...(given.ns !== null && { lba: Math.floor(at / 512), byte: at % 512 }) })
        const [lba, byte] = [Math.floor((seek + at) / target.blocksize), (seek + at) % target.blocksize]
        t.like(b, { position: seek + at, ...(opened.ns !== null && { lba, byte }) })
        t.is(a.data[a.at]! ^ b.data[b.at]!, 1)
        const place = opened.ns === null ? `byte ${seek + at}` : `LBA ${lba}, byte ${byte}`
        t.true(targets[0]!.error!.message.endsWith(`: ${place}`), targets[0]!.error!.message)
        end()
        await opened.close()
        await planned.source.close()
      }
    })
  }
}

test('copy: a device from another LBA on names the LBA of the namespace where it differs', async (t) => {
  await using a = await open('sim:?size=4M&lba=512')
  await using b = await open('sim:?size=4M&lba=4096')
  const given = await openSource(a, { slba: 16 })
  const opened = await openTarget(b, { slba: 3 })
  const planned = await prepareCopy(given, [lying(opened, 8192 + 5000)], {
    ...{ bytes: 65536, skip: 1024, seek: 8192, verify: true },
  })
  const { difference } = (await planned.run()).targets[0]!
  t.like(difference, {
    offset: 5000,
    a: { lba: 16 + 2 + Math.floor(5000 / 512), byte: 5000 % 512 },
    b: { lba: 3 + 2 + 1, byte: 5000 - 4096 },
  })
})
