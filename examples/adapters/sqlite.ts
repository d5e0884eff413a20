// A database of SQLite on a namespace: adds its arguments to a table, and prints how often each was given so far.
//
//   node dist/examples/adapters/sqlite.js [ADDRESS [WORD]...]
//
// Needs the package @journeyapps/wa-sqlite. Without arguments three words go to a software controller. What is
// committed is on the medium: the program may be killed at any time, and the next one goes on from the last commit.

import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import * as SQLite from '@journeyapps/wa-sqlite'
import factory from '@journeyapps/wa-sqlite/dist/wa-sqlite-async.mjs'
import { open } from 'unvme'
import { sqliteVfs } from 'unvme/adapters'
import '../support/one-line.ts'

const [address = 'sim:?size=64M', ...given] = process.argv.slice(2)
const words = process.argv.length > 2 ? given : ['raw', 'namespace', 'raw']
const wasm = import.meta.resolve('@journeyapps/wa-sqlite/dist/wa-sqlite-async.wasm')
const module = await factory({ wasmBinary: readFileSync(fileURLToPath(wasm)) })
const sqlite = SQLite.Factory(module)

await using ns = await open(address)
const vfs = await sqliteVfs(ns, module)
sqlite.vfs_register(vfs, true)
const database = await sqlite.open_v2('words.db')
await sqlite.exec(
  database,
  'PRAGMA synchronous=extra; CREATE TABLE IF NOT EXISTS words (word PRIMARY KEY, count)',
)
const add = 'INSERT INTO words VALUES (?, 1) ON CONFLICT (word) DO UPDATE SET count = count + 1'
for await (const statement of sqlite.statements(database, add)) {
  for (const word of words) {
    sqlite.bind_text(statement, 1, word)
    await sqlite.step(statement)
    await sqlite.reset(statement)
  }
}
await sqlite.exec(database, 'SELECT count, word FROM words ORDER BY count DESC, word', (row) => {
  console.log(row.join(' '))
})
await sqlite.close(database)
await vfs.close()
