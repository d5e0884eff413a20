// A database of wa-sqlite on a namespace.

import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import * as api from '@journeyapps/wa-sqlite'
import factory from '@journeyapps/wa-sqlite/dist/wa-sqlite-async.mjs'
import type { Namespace } from 'unvme'
import { type SqliteVfsOptions, sqliteVfs } from 'unvme/adapters'

const wasm = fileURLToPath(import.meta.resolve('@journeyapps/wa-sqlite/dist/wa-sqlite-async.wasm'))

export async function openDatabase(ns: Namespace, options: SqliteVfsOptions = {}) {
  const module = await factory({ wasmBinary: readFileSync(wasm) })
  const sqlite = api.Factory(module)
  const vfs = await sqliteVfs(ns, module, options)
  sqlite.vfs_register(vfs, true)
  const database = await sqlite.open_v2('main.db')
  /** All rows that the statements give. */
  const exec = async (sql: string) => {
    const rows: unknown[][] = []
    await sqlite.exec(database, sql, (row) => {
      rows.push(row)
    })
    return rows
  }
  const close = async () => {
    await sqlite.close(database)
    await vfs.close()
  }
  return { exec, close, vfs, sqlite }
}
