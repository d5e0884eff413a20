// Copies and comparisons by several threads.

import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import test from 'ava'
import type { CopyReport } from '../../src/copy/endpoint.ts'
import { openSource, openTarget } from '../../src/copy/endpoint-spec.ts'
import { transferByJobs } from '../../src/copy/jobs.ts'
import { compare, copy, open } from '../../src/index.ts'
import { testFolder } from '../support/folder.ts'
import { pattern } from '../support/pattern.ts'

const file = testFolder()
const MIB = 2 ** 20
const BLOCK = 4096

test('threads copy a file to a device and back, to the byte, and compare', async (t) => {
  await using ns = await open('sim:?size=8M&lba=4096', { qcount: 3, threads: true })
  const path = file('there')
  const back = file('back')
  for (const [bytes, jobs] of [
    [5 * 2 ** 20 + 123, 3],
    [3 * BLOCK, 2],
    // Fewer blocks than threads, and none.
    [1, 3],
    [0, 2],
  ] as const) {
    const content = pattern(bytes, bytes + 1)
    writeFileSync(path, content)
    const blocks = Math.ceil(bytes / BLOCK) + 1
    const before = pattern(blocks * BLOCK, 3)
    await ns.promises.write(before, 7)
    const seen: number[] = []
    const onProgress = (done: number) => seen.push(done)
    const copied = await copy(path, ns, { dstSlba: 7, jobs, chunk: 16384, onProgress })
    t.is(copied.bytes, bytes)
    t.is(seen.at(-1) ?? 0, bytes)
    t.deepEqual(
      seen,
      seen.toSorted((a, b) => a - b),
    )
    const after = await ns.promises.read(Buffer.alloc(before.length), 7)
    t.true(after.equals(Buffer.concat([content, before.subarray(bytes)])), `${bytes}`)
    writeFileSync(back, 'what was there before, and is longer than some of it')
    t.is((await copy(ns, back, { slba: 7, bytes, jobs })).bytes, bytes)
    t.true(readFileSync(back).equals(content))
    const same = await compare(ns, back, { slba: 7, bytes, jobs })
    t.deepEqual([same.bytes, same.difference], [bytes, null])
  }
})

test('threads find the difference that one thread finds', async (t) => {
  await using ns = await open('sim:?size=4M', { qcount: 4, threads: true })
  const content = pattern(2 ** 21, 5)
  await ns.promises.write(content, 0)
  // In the last part and in the second: the first of the range is reported.
  content[2 ** 21 - 700]! ^= 1
  content[600_001]! ^= 1
  writeFileSync(file('differs'), content)
  for (const [a, b] of [
    [ns, file('differs')],
    [file('differs'), ns],
  ] as const) {
    const { seconds: _, ...one } = await compare(a, b, { bytes: content.length })
    const { seconds: __, ...four } = await compare(a, b, { bytes: content.length, jobs: 4 })
    t.is(four.difference?.offset, 600_001)
    t.deepEqual(four, one)
  }
})

test('what threads can not do is refused, and what a thread fails with is reported', async (t) => {
  await using ns = await open('sim:?size=4M&fault=read@3000:status=281h', { qcount: 2, threads: true })
  writeFileSync(file('some'), pattern(2 ** 21, 6))
  await t.throwsAsync(copy(file('some'), file('other'), { jobs: 2 }), { code: 'ERR_UNVME_UNSUPPORTED' })
  await t.throwsAsync(compare(ns, '-', { jobs: 2 }), { code: 'ERR_UNVME_UNSUPPORTED' })
  await t.throwsAsync(copy(file('some'), ns, { jobs: 0 }), { code: 'ERR_OUT_OF_RANGE' })
  await t.throwsAsync(copy(file('some'), ns, { jobs: 3 }), { code: 'ERR_OUT_OF_RANGE', message: /qcount: 3/ })
  const before = readFileSync(file('some'))
  await t.throwsAsync(copy(ns, file('some'), { jobs: 3 }), { code: 'ERR_OUT_OF_RANGE', message: /qcount: 3/ })
  t.true(readFileSync(file('some')).equals(before), 'what was refused leaves the file as it was')
  const noMap = { code: 'ERR_UNVME_UNSUPPORTED', message: /and map does not go with them/ }
  await t.throwsAsync(copy(file('some'), ns, { jobs: 2, map: file('some.map') }), noMap)
  const reports: CopyReport[] = []
  const { bytes } = await copy(file('some'), ns, { jobs: 2, onReport: (report) => reports.push(report) })
  const whole = { read: bytes, written: bytes, skipped: 0, bad: 0 }
  t.deepEqual(reports.at(-1), { bytes, total: bytes, ...whole, targets: [{ name: ns.device, bytes }] })
  const error = await t.throwsAsync(copy(ns, file('copy'), { bytes: 2 ** 21, jobs: 2, chunk: 2 ** 17 }), {
    code: 'ERR_NVME_STATUS',
  })
  // The command that begins there, in the second thread's part.
  t.like(error, { slba: 3000 - (3000 % 256), qid: 2 })
  // The queues are back.
  await ns.promises.read(Buffer.alloc(512), 0, 1, { qid: 1 })
  const gone = new AbortController()
  const aborted = copy(file('some'), ns, { jobs: 2, signal: gone.signal, onProgress: () => gone.abort() })
  await t.throwsAsync(aborted, { code: 'ABORT_ERR' })
})

test('transferByJobs: threads open the file that was checked, whatever its path leads to by then', async (t) => {
  await using ns = await open('sim:?size=4M', { qcount: 2, threads: true })
  const content = pattern(MIB)
  writeFileSync(file('moved'), content)
  const source = await openSource(file('moved'))
  const target = await openTarget(ns)
  rmSync(file('moved'))
  writeFileSync(file('moved'), Buffer.alloc(MIB))
  await transferByJobs(source, target, MIB, { jobs: 2 })
  await source.close()
  t.true((await ns.promises.read(Buffer.alloc(MIB), 0)).equals(content))
})
