// Faults at the edges of the core: memory, state files and threads that end in the wrong way.

import { execFile } from 'node:child_process'
import fs from 'node:fs'
import { promisify } from 'node:util'
import test from 'ava'
import { ADMIN } from '../../lib/nvme/spec/opcodes.ts'
import { open } from '../../src/index.ts'
import { testFolder } from '../support/folder.ts'

const fileAt = testFolder()

test('memory of admin commands that a reset ends comes back', async (t) => {
  await using ns = await open('sim:?size=16M', {
    faults: [{ queue: 'admin', opcode: ADMIN.GET_LOG_PAGE, action: { kind: 'lose' } }],
  })
  const readLog = (data: Buffer) => ns.admin({ opcode: ADMIN.GET_LOG_PAGE, cdw10: 2 | (127 << 16), data })
  const own = ns.alloc(4096)
  for (let i = 0; i < 4; i++) {
    const calls = [readLog(own), readLog(Buffer.alloc(2 ** 20)), readLog(Buffer.alloc(2 ** 20))]
    const ended = calls.map((call) => t.throwsAsync(call, { code: 'ERR_UNVME_CONTROLLER_RESET' }))
    await new Promise(setImmediate)
    await ns.reset()
    await Promise.all(ended)
  }
  t.notThrows(() => ns.free(own))
})

test('a state file that is damaged is an ImageError, and the image is free again', async (t) => {
  const image = fileAt('state.img')
  const file = `${image}.nvme.json`
  const first = await open(`sim:${image}?size=1M`)
  // Write Uncorrectable: the state file has something to hold.
  await first.promises.cmd({ opcode: 4, cdw10: 3 })
  await first.close()
  const good = fs.readFileSync(file, 'utf8')
  const damage: Record<string, unknown>[] = [
    { features: [null] },
    { features: [1] },
    { results: [null] },
    { namespaces: [null] },
    { firmware: { revisions: [null], active: 1, next: 0 } },
    { sanitizeState: 'x' },
    { test: 5 },
  ]
  for (const change of damage) {
    fs.writeFileSync(file, JSON.stringify({ ...JSON.parse(good), ...change }))
    for (const thread of ['', '?thread=1']) {
      await t.throwsAsync(open(`sim:${image}${thread}`), { code: 'ERR_UNVME_IMAGE' }, JSON.stringify(change))
    }
  }
  fs.writeFileSync(file, good)
  const again = await open(`sim:${image}`)
  await t.throwsAsync(again.promises.read(Buffer.alloc(512), 3), { code: 'ERR_NVME_STATUS' })
  await again.close()
})

test('a worker that closes the port of its ticket keeps its views, and the queue comes back', async (t) => {
  const program = `
    import { once } from 'node:events'
    import { Worker } from 'node:worker_threads'
    import { open } from '${new URL('../../src/index.js', import.meta.url)}'
    const ns = await open('sim:?size=16M', { threads: true })
    const share = ns.share(0)
    const worker = new Worker(new URL('data:text/javascript,' + encodeURIComponent(\`
      import { parentPort, workerData } from 'node:worker_threads'
      import { attach } from '${new URL('../../src/index.js', import.meta.url)}'
      const ns = await attach(workerData)
      const buf = ns.alloc(1 << 20).fill(7)
      await ns.promises.write(buf, 0)
      workerData.port.close()
      await new Promise((resolve) => setTimeout(resolve, 200))
      const before = buf[0]
      buf.fill(1)
      let code
      try { ns.read(0, buf, 0, 8) } catch (error) { code = error.code }
      parentPort.postMessage({ before, after: buf[99], code })
    \`)), { workerData: share.ticket, transferList: [share.ticket.port], execArgv: [] })
    // Both at once: a worker that ends at once may have its exit in the same turn as its message.
    const [[message]] = await Promise.all([once(worker, 'message'), once(worker, 'exit')])
    await share.returned
    const back = await ns.promises.read(Buffer.alloc(512), 0)
    await ns.close()
    process.stdout.write(JSON.stringify({ ...message, back: back[0] }))
  `
  const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', program])
  t.deepEqual(JSON.parse(stdout), { before: 7, after: 1, code: 'ERR_UNVME_CLOSED', back: 7 })
})
