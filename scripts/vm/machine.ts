// Boots the virtual machine, runs one command in it, and gives back its output and exit status.
// Trade-off: one machine for each command, ended with it. A boot costs about 3 s, and in return no run can
// see what an earlier one left behind, in memory, in a driver or on a disk.

import { spawn } from 'node:child_process'
import fs from 'node:fs'
import net, { type Socket } from 'node:net'
import os from 'node:os'
import path from 'node:path'
import type { Writable } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import { commandScript, settings } from './guest.ts'
import { findParts, type KernelChoice, type Parts } from './parts.ts'
import { qemuArguments } from './qemu.ts'
import { onLine, type Qmp, qmp } from './qmp.ts'
import { isShapeName, plugArguments, type ShapeName, shapes } from './shapes.ts'

export type Driver = 'vfio' | 'nvme' | 'none'

export interface MachineOptions extends KernelChoice {
  /** Program and arguments; no shell in between. */
  command: readonly string[]
  /** The machine's NVMe controllers; none by default. */
  shapes?: readonly ShapeName[]
  /** Image files to use as a shape's first namespace. They are written to. */
  disks?: Partial<Record<ShapeName, string>>
  /** What the controllers are bound to at the start: vfio-pci (default), the kernel's nvme, or nothing. */
  driver?: Driver
  /** A user of the host's passwd file; root by default. */
  user?: string | undefined
  /** Working folder, the same path as outside; by default that of this process. */
  cwd?: string
  /** Environment variables beside those that are passed on anyway. */
  env?: Readonly<Record<string, string>>
  /** False: a machine without an IOMMU. Default true. */
  iommu?: boolean
  /** MiB, default 1024. */
  memory?: number
  /** Default 1: under emulation every further one costs a core of the host. */
  cpus?: number
  /** Seconds until the machine is ended with status 124; default 300. */
  timeLimit?: number
  /** Further arguments of QEMU, for instance `-trace` and `pci_nvme_*`. */
  qemu?: readonly string[]
  /** Where output goes as it comes. Without one it is collected in the result. */
  stdout?: Writable
  stderr?: Writable
  /** Ends the machine early; the result has status 130. */
  signal?: AbortSignal
}

export interface MachineResult {
  /** The command's exit status, 128 + n where signal n ended it, 124 after the time limit, 130 when aborted. */
  status: number
  stdout: string
  stderr: string
  /** What the machine's kernel wrote to its console. */
  console: string
  /** Seconds until the command started, and in all. */
  bootSeconds: number
  seconds: number
}

const STATUS_TIME_LIMIT = 124
const STATUS_ABORTED = 130

/**
 * Runs a command in a machine of its own.
 * @throws Error where a part is missing, or where the machine ended without the command's status
 */
export async function runInMachine(options: MachineOptions): Promise<MachineResult> {
  const found = findParts(options)
  if ('missing' in found) throw new Error(found.missing)
  // Sockets have a path limit of 107 bytes, and the machine must see the folder: short, and no tmpfs of its own.
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'unvme-vm-'))
  const remove = () => fs.rmSync(folder, { recursive: true, force: true })
  process.on('exit', remove)
  try {
    return await boot(options, found.parts, folder)
  } finally {
    process.off('exit', remove)
    remove()
  }
}

async function boot(options: MachineOptions, parts: Parts, folder: string): Promise<MachineResult> {
  const started = performance.now()
  const seconds = () => (performance.now() - started) / 1000
  const stdout: Buffer[] = []
  const stderr: Buffer[] = []
  let bootSeconds = Number.NaN
  let status: number | undefined
  let monitor: Qmp | undefined

  const kill = () => qemu.kill('SIGKILL')
  const end = (value: number) => {
    status ??= value
    // A machine that does not listen is ended all the same.
    monitor?.execute('quit').catch(() => {})
    setTimeout(kill, monitor ? 2000 : 0).unref()
  }
  const onHostLine = async (line: string, socket: Socket) => {
    const [verb, name = ''] = line.trim().split(' ')
    if (verb === 'ready') bootSeconds = seconds()
    else if (verb === 'status') end(Number(name))
    else socket.write(`${await serve(monitor, verb ?? '', name)}\n`)
  }

  const servers = await Promise.all([
    listen(folder, 'stdout', (socket) => receive(socket, options.stdout, stdout)),
    listen(folder, 'stderr', (socket) => receive(socket, options.stderr, stderr)),
    listen(folder, 'host', (socket) => onLine(socket, (line) => void onHostLine(line, socket))),
    listen(folder, 'qmp', (socket) => {
      monitor = qmp(socket)
    }),
  ])

  fs.writeFileSync(path.join(folder, 'settings'), settings(options, parts))
  fs.writeFileSync(path.join(folder, 'command'), commandScript(options))
  const args = qemuArguments(options, parts, folder)
  // The kernel ends QEMU with this process, however that ends.
  const qemu = spawn('setpriv', ['--pdeathsig', 'KILL', parts.qemu, ...args], {
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  const complaints: Buffer[] = []
  qemu.stderr.on('data', (chunk: Buffer) => complaints.push(chunk))
  process.on('exit', kill)
  const abort = () => end(STATUS_ABORTED)
  options.signal?.addEventListener('abort', abort)
  if (options.signal?.aborted) abort()
  const limit = setTimeout(() => end(STATUS_TIME_LIMIT), (options.timeLimit ?? 300) * 1000)

  const ended = await new Promise<string>((resolve) => {
    qemu.on('error', (error) => resolve(error.message))
    qemu.on('close', (code, signal) => resolve(`status ${signal ?? code}`))
  })
  clearTimeout(limit)
  options.signal?.removeEventListener('abort', abort)
  process.off('exit', kill)
  await Promise.all(servers.map((server) => server.drained()))

  const consoleFile = path.join(folder, 'console')
  const console = fs.existsSync(consoleFile) ? fs.readFileSync(consoleFile, 'utf8') : ''
  if (status === undefined) {
    const words = `${Buffer.concat(complaints)}${lastWords(console)}`.trim()
    throw new Error(`the machine ended (${ended}) without the command's status: ${words}`)
  }
  const text = (chunks: Buffer[]) => Buffer.concat(chunks).toString()
  return { status, stdout: text(stdout), stderr: text(stderr), console, bootSeconds, seconds: seconds() }
}

/** The console's last lines, without the stack of a kernel that panicked. */
function lastWords(console: string): string {
  const [before = ''] = console.split(/^.*Call Trace:/m)
  return before.trimEnd().split('\n').slice(-20).join('\n')
}

function receive(socket: Socket, target: Writable | undefined, collected: Buffer[]): void {
  if (target) socket.pipe(target, { end: false })
  else socket.on('data', (chunk: Buffer) => collected.push(chunk))
}

interface Endpoint {
  /** Resolves when all that QEMU sent has been taken. */
  drained(): Promise<void>
}

/** A socket in the folder to which QEMU connects, once. */
async function listen(folder: string, name: string, use: (socket: Socket) => void): Promise<Endpoint> {
  let closed = Promise.resolve()
  const server = net.createServer((socket) => {
    server.close()
    socket.on('error', () => {})
    closed = new Promise((resolve) => void socket.once('close', () => resolve()))
    use(socket)
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(path.join(folder, name), resolve)
  })
  return {
    drained: async () => {
      if (server.listening) server.close()
      await closed
    },
  }
}

/** What the machine asks of the host. The answer is `ok` or says why not. */
async function serve(monitor: Qmp | undefined, verb: string, name: string): Promise<string> {
  if (!isShapeName(name) || !shapes[name].hotplug) return `${name} is no hot-pluggable controller`
  try {
    if (verb === 'unplug') await monitor?.execute('device_del', { id: name })
    else if (verb === 'plug') await plug(monitor, name)
    else if (verb === 'pause') await pause(monitor)
    else return `${verb} is no command: unplug, plug or pause`
    return 'ok'
  } catch (error) {
    return (error as Error).message
  }
}

/** Stops the machine, and lets it go on a moment later. */
async function pause(monitor: Qmp | undefined): Promise<void> {
  await monitor?.execute('stop')
  await delay(1500)
  await monitor?.execute('cont')
}

/** Waits up to 30 s for the machine to let go of the one that was unplugged: until then the name is taken. */
async function plug(monitor: Qmp | undefined, name: ShapeName): Promise<void> {
  for (let tries = 300; ; tries--) {
    try {
      await monitor?.execute('device_add', plugArguments(name))
      return
    } catch (error) {
      if (tries === 0 || !/Duplicate|already|in use/.test((error as Error).message)) throw error
      await delay(100)
    }
  }
}
