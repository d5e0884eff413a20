// Readables as a user would write them: bench/plain/unvme.mjs, a program of ten lines, on 512 MiB in memory, beside the same
// ten lines on a file in tmpfs (bench/plain/fs.mjs). Each run is a process of its own, and they take turns.
// Each process reads them some times over: the first time V8 compiles what it runs, and the memory of the chunks is new.
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
const PASSES = 4
const figuresOf = (pass: string): readonly Column[] => [
  { name: `${pass}: GB/s`, digits: 2 },
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
      // fs takes seconds for the shortest.
      const passes = chunk < 64 * KIB ? 1 : PASSES
      const columns = passes === 1 ? figuresOf('1st') : [...figuresOf('1st'), ...figuresOf(`${passes}th`)]
      for (const way of WAYS) {
        const row = (name: string, program: string, source: string): Row => ({
          name,
          run: () => read(program, [source, way, chunk, passes]),
        })
        yield withRatios(
          await medians(`512 MiB by ${way} in chunks of ${chunk / KIB} KiB`, columns, [
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

/** One run: the figures of its first pass, and of its last where there are more. */
async function read(program: string, options: readonly (string | number)[]): Promise<number[]> {
  const { stdout } = await run(process.execPath, [path.join(PLAIN, program), ...options.map(String)])
  const passes = stdout.trim().split('\n')
  return [...new Set([passes.at(0)!, passes.at(-1)!])].flatMap((line) => {
    const { bytes, ms, before, after } = JSON.parse(line) as Figures
    if (bytes !== BYTES) throw new Error(`${program} read ${bytes} bytes of ${options[0]}`)
    const processor = after.userCPUTime + after.systemCPUTime - before.userCPUTime - before.systemCPUTime
    return [bytes / ms / 1e6, processor / 1000, after.minorPageFault - before.minorPageFault]
  })
}

/** What the programs print for each pass. */
interface Figures {
  bytes: number
  ms: number
  before: NodeJS.ResourceUsage
  after: NodeJS.ResourceUsage
}

/** With the ratio of each rate to the first row's. */
function withRatios({ title, columns, rows }: Table): Table {
  const first = rows[0]!.cells
  const isRate = (at: number) => columns[at]!.name.endsWith('GB/s')
  return {
    title,
    columns: columns.flatMap((column, at) =>
      isRate(at) ? [column, { name: 'ratio', digits: 2 }] : [column],
    ),
    rows: rows.map(({ name, cells }) => ({
      name,
      cells: cells.flatMap((cell, at) => (isRate(at) ? [cell, cell! / first[at]!] : [cell])),
    })),
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
