// Readables as a user would write them: bench/plain/unvme.mjs, a program of ten lines, on 512 MiB in memory, beside the same
// ten lines on a file in tmpfs (bench/plain/fs.mjs). Each run is a process of its own, and they take turns.
// The controller is in the reader's thread, in a thread beside it, or in another process (vfio-user): in the first its copy is
// the reader's time, too. Processor time is the reading process's.

import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import fs from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { type Column, medians, type Row, type Table } from './measure.ts'
import { PARENT } from './streams.ts'

const run = promisify(execFile)
const MAIN = fileURLToPath(new URL('../src/cli/main.js', import.meta.url))
const PLAIN = fileURLToPath(new URL('../../bench/plain', import.meta.url))
const BYTES = 2 ** 29
const KIB = 1024
// The shortest last: fs takes seconds for them.
const CHUNKS = [128 * KIB, 64 * KIB, 1024 * KIB, 4 * KIB]
const WAYS = ['data', 'for-await']
const SIM = `sim:?size=${BYTES}&lba=4096`
const COLUMNS: readonly Column[] = [
  { name: 'GB/s', digits: 2 },
  { name: 'processor ms', digits: 0 },
  { name: 'page faults', digits: 0 },
]

export async function* readable(): AsyncGenerator<Table> {
  const folder = fs.mkdtempSync(path.join(PARENT, 'unvme-bench-'))
  const file = path.join(folder, 'file')
  const socket = path.join(folder, 'cntrl')
  fs.writeFileSync(file, Buffer.alloc(BYTES, 0x5a))
  const server = await serve(socket)
  try {
    for (const chunk of CHUNKS) {
      for (const way of WAYS) {
        const row = (name: string, program: string, source: string): Row => ({
          name,
          run: () => read(program, source, way, chunk),
        })
        yield withRatio(
          await medians(`512 MiB by ${way} in chunks of ${chunk / KIB} KiB`, COLUMNS, [
            row('fs, tmpfs', 'fs.mjs', file),
            row('sim:, inline', 'unvme.mjs', `${SIM}&populate=1`),
            row('sim:, a thread', 'unvme.mjs', `${SIM}&populate=1&thread=1`),
            row('vfio-user:, a process', 'unvme.mjs', `vfio-user:${socket}`),
          ]),
        )
      }
    }
  } finally {
    server.kill('SIGINT')
    await once(server, 'exit')
    fs.rmSync(folder, { recursive: true })
  }
}

/** One run: the figures of COLUMNS. */
async function read(program: string, source: string, way: string, chunk: number): Promise<number[]> {
  const { stdout } = await run(process.execPath, [path.join(PLAIN, program), source, way, String(chunk)])
  const { bytes, ms, before, after } = JSON.parse(stdout) as Figures
  if (bytes !== BYTES) throw new Error(`${program} read ${bytes} bytes of ${source}`)
  const processor = after.userCPUTime + after.systemCPUTime - before.userCPUTime - before.systemCPUTime
  return [bytes / ms / 1e6, processor / 1000, after.minorPageFault - before.minorPageFault]
}

/** What the programs print. */
interface Figures {
  bytes: number
  ms: number
  before: NodeJS.ResourceUsage
  after: NodeJS.ResourceUsage
}

/** With the ratio of each row's rate to the first row's. */
function withRatio({ title, columns, rows }: Table): Table {
  const first = rows[0]!.cells[0]!
  return {
    title,
    columns: [...columns, { name: 'ratio', digits: 2 }],
    rows: rows.map(({ name, cells }) => ({ name, cells: [...cells, cells[0]! / first] })),
  }
}

async function serve(socket: string): Promise<ChildProcess> {
  const device = `${SIM}&populate=1`
  const server = spawn(process.execPath, [MAIN, 'serve', `vfio-user:${socket}`, '--device', device], {
    stdio: 'ignore',
  })
  while (!fs.existsSync(socket)) {
    if (server.exitCode !== null) throw new Error(`unvme serve ended with ${server.exitCode}`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  return server
}
