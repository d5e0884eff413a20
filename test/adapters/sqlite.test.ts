// A database of SQLite on a namespace: what is committed stays, whenever the process is killed, and what is not is gone.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import test from 'ava'
import { open } from 'unvme'
import { bytes } from 'unvme/adapters'
import { testFolder } from '../support/folder.ts'
import { openDatabase } from './sqlite-database.ts'

const file = testFolder()
const child = fileURLToPath(new URL('sqlite-child.js', import.meta.url))
const SCHEMA =
  'CREATE TABLE rows (n INTEGER PRIMARY KEY, data BLOB); CREATE INDEX lengths ON rows (length(data))'

for (const [i, [journal, synchronous, lba]] of (
  [
    ['delete', 'full', 4096],
    ['truncate', 'normal', 512],
    ['persist', 'full', 512],
    ['delete', 'off', 4096],
  ] as const
).entries()) {
  test(`sqliteVfs: a process killed in a transaction leaves what was committed (${journal}, ${synchronous})`, async (t) => {
    const address = `sim:${file(`kill-${i}.img`)}?size=32M&lba=${lba}`
    {
      await using ns = await open(address)
      const { exec, close } = await openDatabase(ns)
      await exec(SCHEMA)
      await close()
    }
    for (let round = 1; round <= 2; round++) {
      const writer = spawn(process.execPath, [child, address, journal, synchronous], {
        stdio: ['ignore', 'pipe', 'inherit'],
      })
      const lines: string[] = []
      for await (const line of createInterface({ input: writer.stdout })) {
        if (lines.push(line) === 2) writer.kill('SIGKILL')
      }
      if (writer.signalCode === null && writer.exitCode === null) await once(writer, 'exit')
      t.is(writer.signalCode, 'SIGKILL')
      t.deepEqual(lines.slice(0, 2), [`committed ${round * 20}`, 'uncommitted'])
      await using ns = await open(address)
      const { exec, close } = await openDatabase(ns)
      t.deepEqual(await exec('PRAGMA integrity_check'), [['ok']])
      t.deepEqual(await exec('SELECT count(*), max(n), min(length(data)), max(length(data)) FROM rows'), [
        [round * 20, round * 20, 2000, 2000],
      ])
      await close()
    }
  })
}

test('sqliteVfs: a device that is gone after any command leaves what was committed', async (t) => {
  for (const [journal, step] of [
    ['delete', 3],
    ['truncate', 9],
    ['persist', 9],
  ] as const) {
    const path = file(`gone-${journal}.img`)
    {
      await using ns = await open(`sim:${path}?size=4M&lba=512`)
      const { exec, close } = await openDatabase(ns)
      await exec('CREATE TABLE rows (n INTEGER PRIMARY KEY, version, data BLOB)')
      for (let n = 0; n < 8; n++) await exec(`INSERT INTO rows VALUES (${n}, 0, zeroblob(700))`)
      await close()
    }
    let committed = 0
    let whole = false
    for (let k = 2; !whole && k < 400; k += step) {
      const dying = await open(`sim:${path}?lba=512&fault=any#${k}*1000000:status=281h`, { retries: 0 })
      try {
        const { exec, close } = await openDatabase(dying)
        await exec(`PRAGMA journal_mode=${journal}; PRAGMA cache_size=2`)
        for (const version of [committed + 1, committed + 2]) {
          await exec(`UPDATE rows SET version = ${version}, data = zeroblob(${400 + (version % 5) * 200})`)
          committed = version
        }
        await close()
        whole = true
      } catch {
        // From that command on, everything has failed.
      }
      // The last flush fails, too.
      await dying.close().catch(() => {})
      await using ns = await open(`sim:${path}?lba=512`)
      const { exec, close } = await openDatabase(ns)
      t.deepEqual(await exec('PRAGMA integrity_check'), [['ok']], `${journal}, command ${k}`)
      const [row] = await exec('SELECT count(*), min(version), max(version), min(length(data)) FROM rows')
      const version = row![2] as number
      t.deepEqual(row, [8, version, version, version === 0 ? 700 : 400 + (version % 5) * 200])
      // The commit that was reported as failed may be there, in whole.
      const there = version === committed || (!whole && version === committed + 1)
      t.true(there, `${journal}, command ${k}: version ${version}, ${committed} was committed`)
      committed = version
      await close()
    }
    t.true(whole)
  }
})

test('sqliteVfs: a power cut at any command leaves what was committed', async (t) => {
  for (const [journal, synchronous, cut, step] of [
    ['delete', 'extra', 'cut', 3],
    ['delete', 'full', 'cut=50%', 5],
    ['truncate', 'full', 'cut=50%', 5],
    ['persist', 'full', 'cut=50%', 5],
  ] as const) {
    const path = file(`cut-${journal}-${synchronous}.img`)
    // As on a file, where the folder of a journal that was deleted is flushed in `extra` alone.
    const mayLose = journal === 'delete' && synchronous === 'full' ? 1 : 0
    {
      await using ns = await open(`sim:${path}?size=4M&lba=512`)
      const { exec, close } = await openDatabase(ns)
      await exec('CREATE TABLE rows (n INTEGER PRIMARY KEY, version, data BLOB)')
      for (let n = 0; n < 8; n++) await exec(`INSERT INTO rows VALUES (${n}, 0, zeroblob(700))`)
      await close()
    }
    let committed = 0
    let whole = false
    for (let k = 2; !whole && k < 400; k += step) {
      const dying = await open(`sim:${path}?lba=512&fault=any#${k}*1:${cut}`)
      try {
        const { exec, close } = await openDatabase(dying)
        await exec(`PRAGMA journal_mode=${journal}; PRAGMA cache_size=2; PRAGMA synchronous=${synchronous}`)
        for (const version of [committed + 1, committed + 2]) {
          await exec(`UPDATE rows SET version = ${version}, data = zeroblob(${400 + (version % 5) * 200})`)
          committed = version
        }
        await close()
        whole = true
      } catch {
        // There is no device any more.
      }
      await dying.close().catch(() => {})
      await using ns = await open(`sim:${path}?lba=512`)
      const { exec, close } = await openDatabase(ns)
      t.deepEqual(await exec('PRAGMA integrity_check'), [['ok']], `${journal}, command ${k}`)
      const [row] = await exec('SELECT count(*), min(version), max(version), min(length(data)) FROM rows')
      const version = row![2] as number
      t.deepEqual(row, [8, version, version, version === 0 ? 700 : 400 + (version % 5) * 200])
      const there = version >= committed - mayLose && version <= committed + (whole ? 0 : 1)
      t.true(there, `${journal}, command ${k}: version ${version}, ${committed} was committed`)
      committed = version
      await close()
    }
    t.true(whole)
  }
})

test('sqliteVfs: what is read after a command that failed is what the next process finds', async (t) => {
  for (const journal of ['delete', 'truncate', 'persist']) {
    const path = file(`failed-${journal}.img`)
    {
      await using ns = await open(`sim:${path}?size=4M&lba=512`)
      const { exec, close } = await openDatabase(ns)
      await exec('CREATE TABLE rows (version, data BLOB); INSERT INTO rows VALUES (0, zeroblob(700))')
      await close()
    }
    let failures = 0
    for (let k = 2, version = 1, quiet = 0; quiet < 3; k++, version++) {
      const ns = await open(`sim:${path}?lba=512&fault=any#${k}*1:status=281h`, { retries: 0 })
      let seen: unknown[][] | undefined
      let failed = false
      try {
        const { exec } = await openDatabase(ns)
        await exec(`PRAGMA journal_mode=${journal}`)
        await exec(`UPDATE rows SET version = ${version}`).catch(() => {
          failed = true
        })
        seen = await exec('SELECT version FROM rows')
        if (!failed) t.deepEqual(seen, [[version]])
      } catch {
        // What is not read is not looked for.
      }
      if (failed) failures++
      quiet = failed ? 0 : quiet + 1
      // Its database is not closed, as where the process is killed.
      await ns.close().catch(() => {})
      await using next = await open(`sim:${path}?lba=512`)
      const { exec, close } = await openDatabase(next)
      t.deepEqual(await exec('PRAGMA integrity_check'), [['ok']])
      const found = await exec('SELECT version FROM rows')
      if (seen !== undefined) t.deepEqual(found, seen, `${journal}, command ${k}`)
      await close()
    }
    t.true(failures > 3, `${failures}`)
  }
})

test('sqliteVfs: commits are flushed, and a database goes on where it was', async (t) => {
  await using ns = await open('sim:?size=16M&lba=4096')
  const { exec, close } = await openDatabase(ns)
  await exec(SCHEMA)
  await exec('BEGIN')
  for (let i = 0; i < 500; i++) await exec(`INSERT INTO rows VALUES (${i}, 'text ${i}')`)
  await exec('COMMIT; DELETE FROM rows WHERE n % 2; VACUUM')
  await close()
  const again = await openDatabase(ns)
  t.deepEqual(await again.exec('SELECT count(*), sum(n) FROM rows'), [[250, 62_250]])
  t.deepEqual(await again.exec('PRAGMA integrity_check'), [['ok']])
  // Larger than SQLite's cache, so that a temporary file is used.
  t.is((await again.exec('SELECT a.n FROM rows a, rows b ORDER BY a.data, b.data')).length, 62_500)
  await again.close()
})

test('sqliteVfs: refuses journals that keep nothing, a second connection, and a namespace with other data', async (t) => {
  await using ns = await open('sim:?size=16M&lba=512')
  await bytes(ns).write(Buffer.from('other'), 600)
  await t.throwsAsync(openDatabase(ns), { code: 'ERR_UNVME_SETUP', message: /other data/ })
  const { exec, close, sqlite } = await openDatabase(ns, { format: true, journalBytes: 65_536 })
  await t.throwsAsync(openDatabase(ns), { code: 'ERR_UNVME_IN_USE' })
  const same = await ns.openNamespace(ns.id)
  await t.throwsAsync(openDatabase(same), { code: 'ERR_UNVME_IN_USE' })
  await same.close()
  await exec(SCHEMA)
  for (const mode of ['wal', 'memory', 'OFF']) {
    await t.throwsAsync(exec(`PRAGMA journal_mode=${mode}`), {
      message: /a database on a namespace has delete/,
    })
  }
  t.deepEqual(await exec('PRAGMA journal_mode'), [['delete']])
  await t.throwsAsync(sqlite.open_v2('main.db'), { message: /unable to open/ })
  // What does not fit in the journal is rolled back.
  await exec(
    'WITH RECURSIVE i(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM i WHERE n < 15) INSERT INTO rows SELECT n, zeroblob(4000) FROM i',
  )
  for (let n = 20; n < 60; n++) await exec(`INSERT INTO rows VALUES (${n}, zeroblob(3900))`)
  await t.throwsAsync(exec('UPDATE rows SET data = zeroblob(3999)'), { message: /full/ })
  t.deepEqual(await exec('PRAGMA integrity_check'), [['ok']])
  t.deepEqual(await exec('SELECT count(*), min(length(data)) FROM rows'), [[55, 3900]])
  await close()
})

test('sqliteVfs: a failure of the device is an error of SQLite, and its cause is kept', async (t) => {
  await using ns = await open('sim:?size=16M&lba=4096&fault=flush#20*1:status=281h', { retries: 0 })
  const { exec, close, vfs } = await openDatabase(ns)
  await exec(SCHEMA)
  const failed: Error[] = []
  for (let n = 0; n < 10; n++) {
    await exec(`INSERT INTO rows VALUES (${n}, 'x')`).catch((error) => failed.push(error))
  }
  t.is(failed.length, 1)
  t.regex(failed[0]!.message, /disk I\/O error/)
  t.regex(vfs.lastError!.message, /Flush failed/)
  t.deepEqual(await exec('PRAGMA integrity_check'), [['ok']])
  await close()
})

test('sqliteVfs: a temporary table larger than its cache is written to its file in any order', async (t) => {
  await using ns = await open('sim:?size=16M&lba=4096')
  const { exec, close, vfs } = await openDatabase(ns)
  await exec('PRAGMA temp_store = file; CREATE TEMP TABLE many (n INTEGER PRIMARY KEY, data BLOB)')
  await exec('PRAGMA temp.cache_size = 10; PRAGMA temp.cache_spill = 10')
  await exec(
    'WITH RECURSIVE i(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM i WHERE n < 1000) INSERT INTO many SELECT n, zeroblob(3000) FROM i',
  )
  t.deepEqual(await exec('SELECT count(*), sum(length(data)) FROM many'), [[1000, 3_000_000]])
  t.is(vfs.lastError, null)
  await close()
})
