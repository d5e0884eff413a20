// Writes a database on an image until it is killed: rows are committed, then many more are written without a commit.

import { open } from 'unvme'
import { openDatabase } from './sqlite-database.ts'

const [address, journal, synchronous] = process.argv.slice(2)
const ns = await open(address!)
const { exec } = await openDatabase(ns)
await exec(`PRAGMA journal_mode=${journal}; PRAGMA synchronous=${synchronous}; PRAGMA cache_size=10`)
const [last] = await exec('SELECT coalesce(max(n), 0) FROM rows')
const from = Number(last![0])
for (let i = 1; i <= 20; i++) await exec(`INSERT INTO rows VALUES (${from + i}, randomblob(2000))`)
process.stdout.write(`committed ${from + 20}\n`)
await exec('BEGIN; UPDATE rows SET data = zeroblob(3000); DELETE FROM rows WHERE n % 3 = 0')
for (let i = 1; ; i++) {
  await exec(`INSERT INTO rows VALUES (${from + 1000 + i}, zeroblob(5000))`)
  if (i === 50) process.stdout.write('uncommitted\n')
}
