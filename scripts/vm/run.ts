// The command line of the virtual machine: scripts/vm/run [options] -- command [arguments].
// Trade-off: its own exit statuses for trouble (2 usage, 69 missing parts, 70 the machine failed) can be
// those of the command too; the message on stderr tells them apart.

import { parseArgs } from 'node:util'
import { type Driver, type MachineOptions, runInMachine } from './machine.ts'
import { findParts } from './parts.ts'
import { isShapeName, type ShapeName, shapeNames, shapes } from './shapes.ts'

const EXIT_USAGE = 2
const EXIT_MISSING = 69
const EXIT_FAILED = 70

const usage = `usage: scripts/vm/run [options] -- command [arguments]
Runs a command in a virtual machine that has VFIO, an IOMMU and NVMe controllers.

  --shape NAME        a controller of this shape; can be repeated; "all" for every one
  --disk NAME=FILE    an image file as the first namespace of shape NAME (which it adds); it is written to
  --driver DRIVER     what the controllers are bound to: vfio (default), nvme or none
  --user NAME         run the command as this user instead of root
  --env NAME=VALUE    an environment variable more; can be repeated
  --no-iommu          a machine without an IOMMU
  --memory MIB        default 1024
  --cpus N            default 1
  --kernel IMAGE      another kernel: an image, or the name of one in the cache
  --modules FOLDER    its modules; by default "modules" beside the image
  --time-limit S      seconds until the machine is ended with status 124; default 300
  --qemu ARGUMENT     one more argument of QEMU; can be repeated
  --console           show what the machine's kernel printed, at the end, on stderr
  --times             show the times of boot and run, at the end, on stderr
  --shapes            list the shapes and end
  --check             say what is missing, if anything, and end

In the machine, "vm-host unplug hot" and "vm-host plug hot" take a controller away and bring it back.
`

const options = {
  shape: { type: 'string', multiple: true },
  disk: { type: 'string', multiple: true },
  driver: { type: 'string' },
  user: { type: 'string' },
  env: { type: 'string', multiple: true },
  'no-iommu': { type: 'boolean' },
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
} as const

class UsageError extends Error {}

async function main(): Promise<number> {
  const { values, positionals } = parse()
  if (values.help) {
    process.stdout.write(usage)
    return 0
  }
  if (values.shapes) {
    for (const name of shapeNames) {
      process.stdout.write(`${name.padEnd(10)} ${shapes[name].address}  ${shapes[name].about}\n`)
    }
    return 0
  }
  const found = findParts({ kernel: values.kernel, modules: values.modules })
  if ('missing' in found) {
    process.stderr.write(`${found.missing}\n`)
    return EXIT_MISSING
  }
  if (values.check) {
    process.stdout.write(`the virtual machine is ready: ${found.parts.qemu}, ${found.parts.kernel}\n`)
    return 0
  }
  if (positionals.length === 0) throw new UsageError('no command given')

  const machine = machineOptions(values, positionals)
  const interrupt = new AbortController()
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => interrupt.abort())
  const result = await runInMachine({
    ...machine,
    stdout: process.stdout,
    stderr: process.stderr,
    signal: interrupt.signal,
  })
  if (values.console) process.stderr.write(result.console)
  if (values.times) {
    const { bootSeconds, seconds } = result
    process.stderr.write(`boot ${bootSeconds.toFixed(2)} s, in all ${seconds.toFixed(2)} s\n`)
  }
  return result.status
}

function parse() {
  try {
    return parseArgs({ options, allowPositionals: true })
  } catch (error) {
    throw new UsageError((error as Error).message)
  }
}

type Values = ReturnType<typeof parse>['values']

function machineOptions(values: Values, command: string[]): MachineOptions {
  const disks: Partial<Record<ShapeName, string>> = {}
  for (const [name, file] of (values.disk ?? []).map(assignment)) disks[shapeName(name)] = file
  const chosen = (values.shape ?? []).flatMap((name) => (name === 'all' ? shapeNames : [shapeName(name)]))
  return {
    command,
    shapes: shapeNames.filter((name) => chosen.includes(name) || name in disks),
    disks,
    driver: driver(values.driver ?? 'vfio'),
    user: values.user,
    env: Object.fromEntries((values.env ?? []).map(assignment)),
    iommu: values['no-iommu'] !== true,
    memory: count('--memory', values.memory ?? '1024'),
    cpus: count('--cpus', values.cpus ?? '1'),
    kernel: values.kernel,
    modules: values.modules,
    timeLimit: count('--time-limit', values['time-limit'] ?? '300'),
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

function assignment(text: string): [string, string] {
  const at = text.indexOf('=')
  if (at < 1) throw new UsageError(`${text}: NAME=VALUE expected`)
  return [text.slice(0, at), text.slice(at + 1)]
}

try {
  process.exitCode = await main()
} catch (error) {
  process.stderr.write(`scripts/vm/run: ${(error as Error).message}\n`)
  process.exitCode = error instanceof UsageError ? EXIT_USAGE : EXIT_FAILED
}
