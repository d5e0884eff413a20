// NBD by fio over a Unix socket: this server on a software controller in memory, beside nbdkit's memory plugin, in turn.
// Both are processes of their own; fio is the third, on what processors there are.

import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { compare, type Table } from './measure.ts'

const run = promisify(execFile)
const MAIN = fileURLToPath(new URL('../src/cli/main.js', import.meta.url))
const SECONDS = 2

const JOBS = [
  { title: '4 KiB random reads at depth 32', unit: 'IOPS', rw: 'randread', bs: '4k', depth: 32 },
  { title: '4 KiB random writes at depth 32', unit: 'IOPS', rw: 'randwrite', bs: '4k', depth: 32 },
  { title: '128 KiB reads at depth 8', unit: 'MB/s', rw: 'read', bs: '128k', depth: 8 },
  { title: '128 KiB writes at depth 8', unit: 'MB/s', rw: 'write', bs: '128k', depth: 8 },
  { title: '4 KiB random reads, one at a time', unit: 'IOPS', rw: 'randread', bs: '4k', depth: 1 },
] as const

export async function* nbd(): AsyncGenerator<Table> {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'unvme-bench-'))
  const servers: ChildProcess[] = []
  const start = async (name: string, command: string, words: (socket: string) => string[]) => {
    const socket = path.join(folder, name)
    const child = spawn(command, words(socket), { stdio: 'ignore' })
    servers.push(child)
    while (!fs.existsSync(socket)) {
      if (child.exitCode !== null) throw new Error(`${command} ended with ${child.exitCode}`)
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
    return socket
  }
  try {
    const yardstick = await start('nbdkit', 'nbdkit', (socket) => ['-f', '-U', socket, 'memory', '1G'])
    const ours = await start('unvme', process.execPath, (socket) => [
      ...[MAIN, 'serve', 'sim:?size=1G', '--nbd', `unix:${socket}`],
    ])
    for (const { title, unit, rw, bs, depth } of JOBS) {
      const row = (name: string, socket: string) => ({
        name,
        run: async () => [await fio(folder, socket, rw, bs, depth, unit)],
      })
      yield await compare(`NBD by fio, ${title}`, { name: unit, digits: 0 }, [
        row('nbdkit, memory plugin', yardstick),
        row("unvme serve 'sim:' --nbd", ours),
      ])
    }
  } finally {
    for (const child of servers) {
      if (child.exitCode !== null) continue
      child.kill('SIGINT')
      await once(child, 'exit')
    }
    fs.rmSync(folder, { recursive: true })
  }
}

async function fio(
  folder: string,
  socket: string,
  rw: string,
  bs: string,
  depth: number,
  unit: string,
): Promise<number> {
  const output = path.join(folder, 'fio.json')
  await run('fio', [
    ...['--name=nbd', '--ioengine=nbd', `--uri=nbd+unix:///?socket=${socket}`, `--rw=${rw}`, `--bs=${bs}`],
    ...[`--iodepth=${depth}`, '--size=512M', '--time_based', `--runtime=${SECONDS}`],
    ...['--output-format=json', `--output=${output}`],
  ])
  const [job] = JSON.parse(fs.readFileSync(output, 'utf8')).jobs
  const { iops, bw_bytes: bytes } = rw.includes('read') ? job.read : job.write
  return unit === 'IOPS' ? iops : bytes / 1e6
}
