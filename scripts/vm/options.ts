// The options that the machine's commands (run and test) have in common, and how these commands end.
// Statuses for trouble (2 usage, 69 missing parts, 70 the machine failed) can be those of the
// command in the machine too; the message on stderr tells them apart.

import { type ParseArgsConfig, parseArgs } from 'node:util'
import { parseDuration, parseSize } from '../../lib/sys/units.ts'
import { type Driver, type MachineOptions, type MachineResult, runInMachine } from './machine.ts'
import { findParts } from './parts.ts'
import { isShapeName, type ShapeName, shapeNames } from './shapes.ts'

// Timers take no longer: 2^31 - 1 ms.
const MAX_TIMER_SECONDS = 2147483
const EXIT_USAGE = 2
const EXIT_MISSING = 69
const EXIT_FAILED = 70

export const machineUsage = `  --shape NAME        a controller of this shape; can be repeated; "all" for every one
  --disk NAME=FILE    an image file as the first namespace of shape NAME (which it adds); it is written to
  --no-iommu          a machine without an IOMMU, for VFIO's no-IOMMU mode
  --driver DRIVER     what the controllers are bound to: vfio (default), nvme or none
  --user NAME         run as this user instead of root
  --env NAME=VALUE    an environment variable more; can be repeated
  --memory SIZE       default 1G; MiB without a unit, as for QEMU
  --cpus N            default 1
  --kernel IMAGE      another kernel: an image, or the name of one in the cache
  --modules FOLDER    its modules; by default "modules" beside the image
  --time-limit TIME   until the machine is ended with status 124; seconds without a unit; default 300
  --qemu ARGUMENT     one more argument of QEMU; can be repeated
  --console           show what the machine's kernel printed, at the end, on stderr
  --times             show the times of boot and run, at the end, on stderr
`

const options = {
  shape: { type: 'string', multiple: true },
  disk: { type: 'string', multiple: true },
  'no-iommu': { type: 'boolean' },
  driver: { type: 'string' },
  user: { type: 'string' },
  env: { type: 'string', multiple: true },
  memory: { type: 'string' },
  cpus: { type: 'string' },
  kernel: { type: 'string' },
  modules: { type: 'string' },
  'time-limit': { type: 'string' },
  qemu: { type: 'string', multiple: true },
  console: { type: 'boolean' },
  times: { type: 'boolean' },
  shapes: { type: 'boolean' },
  check: { type: 'boolean' },
  help: { type: 'boolean', short: 'h' },
} as const satisfies ParseArgsConfig['options']

export class UsageError extends Error {}

export function parse() {
  try {
    return parseArgs({ options, allowPositionals: true })
  } catch (error) {
    throw new UsageError((error as Error).message)
  }
}

type Values = ReturnType<typeof parse>['values']

/** The machine that the options describe. @throws UsageError */
export function machineOptions(values: Values): Omit<MachineOptions, 'command' | 'shapes'> & {
  shapes: ShapeName[]
} {
  const disks: Partial<Record<ShapeName, string>> = {}
  for (const [name, file] of (values.disk ?? []).map(assignment)) disks[shapeName(name)] = file
  const chosen = (values.shape ?? []).flatMap((name) => (name === 'all' ? shapeNames : [shapeName(name)]))
  return {
    shapes: shapeNames.filter((name) => chosen.includes(name) || name in disks),
    disks,
    iommu: !values['no-iommu'],
    driver: driver(values.driver ?? 'vfio'),
    user: values.user,
    env: Object.fromEntries((values.env ?? []).map(assignment)),
    memory: mebibytes(values.memory ?? '1024'),
    cpus: count('--cpus', values.cpus ?? '1'),
    kernel: values.kernel,
    modules: values.modules,
    timeLimit: seconds(values['time-limit'] ?? '300'),
    qemu: values.qemu ?? [],
  }
}

function shapeName(name: string): ShapeName {
  if (!isShapeName(name)) throw new UsageError(`no shape ${name}: one of ${shapeNames.join(', ')}`)
  return name
}

function driver(name: string): Driver {
  if (name === 'vfio' || name === 'nvme' || name === 'none') return name
  throw new UsageError(`--driver ${name}: one of vfio, nvme, none`)
}

function count(option: string, text: string): number {
  const value = Number(text)
  if (!Number.isSafeInteger(value) || value < 1) throw new UsageError(`${option} ${text}: a number from 1 on`)
  return value
}

function mebibytes(text: string): number {
  const value = /^\d+$/.test(text) ? Number(text) : read('--memory', text, parseSize) / 2 ** 20
  if (Number.isSafeInteger(value) && value >= 1) return value
  throw new UsageError(`--memory ${text}: a whole number of MiB is needed, such as 1024, 1024M or 2G`)
}

function seconds(text: string): number {
  const value = read('--time-limit', text, parseDuration) / 1000
  if (value > 0 && value <= MAX_TIMER_SECONDS) return value
  throw new UsageError(`--time-limit ${text}: more than 0 and at most 24 days are needed`)
}

function read(option: string, text: string, parse: (text: string) => number): number {
  try {
    return parse(text)
  } catch (error) {
    throw new UsageError(`${option}: ${(error as Error).message}`)
  }
}

function assignment(text: string): [string, string] {
  const at = text.indexOf('=')
  if (at < 1) throw new UsageError(`${text}: NAME=VALUE expected`)
  return [text.slice(0, at), text.slice(at + 1)]
}

/** Runs the machine with its output on this process's, ended by the signals that end this process. */
export async function runAndReport(values: Values, machine: MachineOptions): Promise<number> {
  const interrupt = new AbortController()
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => interrupt.abort())
  const { stdout, stderr } = process
  const result = await runInMachine({ ...machine, stdout, stderr, signal: interrupt.signal })
  if (values.console) stderr.write(result.console)
  if (values.times) stderr.write(times(result))
  return result.status
}

function times({ bootSeconds, seconds }: MachineResult): string {
  return `boot ${bootSeconds.toFixed(2)} s, in all ${seconds.toFixed(2)} s\n`
}

/** Says what is missing, or with --check that nothing is; the exit status then, else undefined. */
export function checkParts(values: Values): number | undefined {
  const found = findParts({ kernel: values.kernel, modules: values.modules })
  if ('missing' in found) {
    process.stderr.write(`${found.missing}\n`)
    return EXIT_MISSING
  }
  if (!values.check) return undefined
  process.stdout.write(`the virtual machine is ready: ${found.parts.qemu}, ${found.parts.kernel}\n`)
  return 0
}

/** Ends this process with the status of `main`, or with the one of its error. */
export async function endWith(name: string, main: () => Promise<number>): Promise<void> {
  try {
    process.exitCode = await main()
  } catch (error) {
    process.stderr.write(`${name}: ${(error as Error).message}\n`)
    process.exitCode = error instanceof UsageError ? EXIT_USAGE : EXIT_FAILED
  }
}
