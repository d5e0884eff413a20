// Commands, copies and benches by several paths, as processes: on a server in another one, whose listeners change meanwhile.

import fs from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import test from 'ava'
import { copy, open } from '../../src/index.ts'
import { testFolder } from '../support/folder.ts'
import { forkServer, SERVED_NQN, type ServerChild } from '../support/nvme-tcp-server.ts'
import { PATH_QUERY } from '../support/path-server.ts'
import { pattern } from '../support/pattern.ts'
import { run } from '../support/run.ts'

const CLI = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url))
const BYTES = 2 * 2 ** 20
const inFolder = testFolder()
let server: ServerChild

test.before(async () => {
  server = await forkServer(['sim:?size=8M'], [0, 0])
})
test.after.always(() => server.kill())

const addressOf = (query = '') =>
  `nvme+tcp://${server.ports.map((port) => `127.0.0.1:${port}`).join(',')}/${SERVED_NQN}?${PATH_QUERY}${query}`

for (const link of ['socket', 'raw']) {
  test.serial(`link=${link}: write, read, copy and verify, a path less each time`, async (t) => {
    const address = addressOf(`&link=${link}`)
    const image = inFolder(`${link}.img`)
    const back = inFolder(`${link}-back.img`)
    const data = pattern(BYTES, link.length)
    fs.writeFileSync(image, data)
    const command = async (...words: string[]) => {
      const { code, stderr } = await run(CLI, words)
      t.is(code, 0, stderr)
    }
    await command('write', address, image, '--yes')
    await server.tell({ do: 'ana', listener: 0, state: 'inaccessible' })
    await command('read', address, back, '--nlb', String(BYTES / 512))
    t.true(fs.readFileSync(back).equals(data))
    await server.tell({ do: 'ana', listener: 0, state: 'optimized' })
    await server.tell({ do: 'ana', listener: 1, state: 'inaccessible' })
    await command('verify', image, address)
    await server.tell({ do: 'ana', listener: 1, state: 'non-optimized' })
    fs.rmSync(back)
    await command('copy', address, back, '--nlb', String(BYTES / 512), '--verify')
    t.true(fs.readFileSync(back).equals(data))
    await server.tell({ do: 'ana', listener: 1, state: 'optimized' })
  })

  test.serial(`link=${link}: bench verifies what it writes, by both paths`, async (t) => {
    const words = [
      '--rw',
      'randwrite',
      '--verify',
      'crc32c',
      '--size',
      '1M',
      '--iodepth',
      '16',
      '--yes',
      '-o',
      'json',
    ]
    const { code, stdout, stderr } = await run(CLI, ['bench', addressOf(`&link=${link}`), ...words])
    t.is(code, 0, stderr)
    t.is(JSON.parse(stdout).jobs[0].write.total_ios, 256)
  })
}

test.serial('copy goes on while paths change, and every byte arrives', async (t) => {
  await using ns = await open(addressOf())
  const data = pattern(BYTES, 77)
  const image = inFolder('changing.img')
  fs.writeFileSync(image, data)
  const copied = copy(image, ns)
  let over = false
  const changes = (async () => {
    for (let i = 0; !over || i < 4; i++) {
      for (const state of ['inaccessible', 'optimized'] as const) {
        await server.tell({ do: 'ana', listener: i % 2, state })
        while (ns.paths[i % 2]!.ana !== state) await delay(2)
      }
    }
  })()
  await copied
  over = true
  await changes
  t.true((await ns.promises.read(Buffer.alloc(BYTES), 0)).equals(data))
  t.is(ns.stats.failed, 0)
  t.true(ns.paths.every(({ commands, changes: seen }) => commands > 0 && seen > 0))
})
