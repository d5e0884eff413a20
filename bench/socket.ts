// 4 KiB random reads at depth 32 from the software controller in another process, by vfio-user, beside the same
// controller in this one: on a thread of its own (as concurrent as over the socket), and inline.

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { type Namespace, open } from '../src/index.ts'
import { rawReads } from './commands.ts'
import { type Row, rateOf, sideBySide, tableOf } from './measure.ts'
import type { Table } from './table.ts'

const COMMANDS = 500_000
const DEPTH = 32
// Small enough for a cache, as in commands.ts.
const MEDIUM = 2 * 2 ** 20
const DEVICE = `sim:?size=${MEDIUM}&lba=4096`

const ABOUT =
  'The same controller inline, on a thread of this process, and in another process by vfio-user. With a thread or ' +
  'a process of its own it works at the same time, and needs a processor of its own.'

export async function* socket(): AsyncGenerator<Table> {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'unvme-bench-'))
  const servers = new Map<string, ChildProcess>()
  const served = async (doorbells: string) => {
    const address = `vfio-user:${path.join(folder, doorbells)}`
    servers.set(doorbells, await serve(address, doorbells))
    return filled(address)
  }
  const namespaces: [name: string, ns: Namespace][] = [
    ['in this process, inline', await filled(DEVICE)],
    ['in this process, on a thread', await filled(`${DEVICE}&thread=1`)],
    ['over a socket, doorbells mapped', await served('mapped')],
    ['over a socket, doorbells shadow', await served('shadow')],
  ]
  const rows: Row[] = namespaces.map(([name, ns]) => ({
    name,
    run: () => rateOf(COMMANDS / 1e6, () => rawReads(ns, COMMANDS, DEPTH)),
  }))
  const results = await sideBySide(rows)
  for (const [, ns] of namespaces) await ns.close()
  for (const server of servers.values()) {
    server.kill('SIGINT')
    await once(server, 'exit')
  }
  fs.rmSync(folder, { recursive: true })
  const title = `Controllers of other threads and processes: 4 KiB random reads at depth ${DEPTH} by aread and apoll`
  yield tableOf({ title, about: ABOUT, unit: 'M/s', digits: 3 }, results)
}

// A medium that has been written to: what was never written is quicker to read.
async function filled(address: string): Promise<Namespace> {
  const ns = await open(address)
  await ns.promises.write(Buffer.alloc(MEDIUM, 0x5a), 0)
  return ns
}

/** The command, in a process of its own; resolves when clients can come. */
async function serve(address: string, doorbells: string): Promise<ChildProcess> {
  const command = path.resolve(import.meta.dirname, '../src/cli/main.js')
  const words = [command, 'serve', address, '--device', DEVICE, '--doorbells', doorbells]
  const child = spawn(process.execPath, words, { stdio: ['ignore', 'pipe', 'inherit'] })
  await once(child.stdout!, 'data')
  return child
}
