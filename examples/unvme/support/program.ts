// What the test programs share: words of the command line, opening and closing, the question before data is lost,
// a seed that repeats a run, and exit codes. Arguments, help and errors are those of the `unvme`
// command, from its own modules; what a program does with the device is the public API alone.

import { type Namespace, type OpenOptions, OutOfRangeError, open, UsageError } from 'unvme'
import {
  argument,
  defineCommand,
  type Specs,
  type Values,
  value,
  variadicArgument,
  yesOption,
} from '../../../src/cli/define.ts'
import { bytesText, confirm, print } from '../../../src/cli/output.ts'
import { integer, text } from '../../../src/cli/parse.ts'
import { EXIT_CODES, type ExitCode } from '../../../src/cli/program.ts'
import { runSingle } from '../../../src/cli/run.ts'
import { Random } from './random.ts'

export { flag, value, valueOr } from '../../../src/cli/define.ts'
export { fields, print, table } from '../../../src/cli/output.ts'
export { duration, integer, size } from '../../../src/cli/parse.ts'
export { startProgress } from '../../../src/cli/progress.ts'

const DIFFERS = 3
const exitCodes: readonly ExitCode[] = [
  [0, 'done'],
  [1, 'the device or the system said no'],
  ...EXIT_CODES.filter(([code]) => code === 2),
  [DIFFERS, 'what was read is not what was written'],
  ...EXIT_CODES.filter(([code]) => code === 130),
]

interface Program<O extends Specs> {
  readonly name: string
  /** One line without a full stop. */
  readonly summary: string
  readonly details?: string
  readonly options: O
  /** Words after the program's name, each line with what it does. */
  readonly examples: readonly (readonly [line: string, what: string])[]
  /** How many namespaces it works on, where not on one. */
  readonly devices?: { readonly min: number; readonly max: number }
  /** How they are opened. */
  open?(options: Values<O>): OpenOptions
  /** True where all that the device has will do, if it has fewer queues than asked for. */
  fewerQueues?(options: Values<O>): boolean
  /** Bytes of a namespace that it overwrites: a real device's are asked for before. Default: none. */
  overwrites?(options: Values<O>, ns: Namespace): number
  /** Prints nothing but its result, and chooses nothing at random. */
  readonly quiet?: boolean
  run(run: Run<O>): Promise<void> | void
}

interface Run<O extends Specs> {
  /** The first namespace, and all of them. */
  readonly ns: Namespace
  readonly namespaces: readonly Namespace[]
  readonly options: Values<O>
  /** Repeats the run's random choices; `random` was made with it. */
  readonly seed: number
  readonly random: Random
  /** Aborted by Ctrl-C. */
  readonly signal: AbortSignal
}

const MAX_SEED = 2 ** 31 - 1

/** Runs a program with the words of the command line; sets the exit code. */
export async function program<const O extends Specs>(definition: Program<O>): Promise<void> {
  const { name, summary, details, options, examples } = definition
  const command = defineCommand({
    ...{ name, summary, examples, group: 'Tests and benchmarks' },
    ...(details !== undefined && { details }),
    arguments: addressArguments(definition),
    options: { ...options, ...sharedOptions(definition) },
    run: ({ args, options, signal }) =>
      onDevices(definition, addressesOf(definition, args), options as Values<O> & Shared, signal),
  })
  await runSingle(command, process.argv.slice(2), {
    exitCodes,
    exitCodeOf: { ERR_UNVME_VERIFY: DIFFERS },
  })
}

function addressArguments<O extends Specs>({ devices }: Program<O>): Specs {
  return devices === undefined
    ? { address: argument('ADDR', text, 'address of the device') }
    : { addresses: variadicArgument('ADDR', text, 'addresses of devices and namespaces') }
}

function addressesOf<O extends Specs>({ devices }: Program<O>, args: Values<Specs>): readonly string[] {
  if (devices === undefined) return [args.address as string]
  const addresses = (args.addresses ?? []) as readonly string[]
  const { min, max } = devices
  if (addresses.length >= min && addresses.length <= max) return addresses
  throw new UsageError(`${min} to ${max} addresses are needed, ${addresses.length} given`)
}

/** Only programs that choose at random have a seed, and only those that destroy data ask. */
function sharedOptions<O extends Specs>({ overwrites, quiet = false }: Program<O>): Specs {
  const seed = value('N', integer({ max: MAX_SEED }), 'repeats the random choices of a run that printed it')
  return { ...(!quiet && { seed }), ...(overwrites !== undefined && { yes: yesOption() }) }
}

interface Shared {
  readonly seed?: number | undefined
  readonly yes?: boolean
}

async function onDevices<O extends Specs>(
  definition: Program<O>,
  addresses: readonly string[],
  options: Values<O> & Shared,
  signal: AbortSignal,
): Promise<void> {
  const { name, overwrites, quiet = false, run } = definition
  const { seed = Math.floor(Math.random() * MAX_SEED), yes = false } = options
  const namespaces: Namespace[] = []
  try {
    for (const address of addresses) {
      const ns = await openAs(definition, address, options)
      namespaces.push(ns)
      if (overwrites !== undefined) await confirmOverwrite(ns, overwrites(options, ns), yes)
      if (!quiet) print(`${name}: ${describe(ns)}, seed ${seed}`)
    }
    const started = performance.now()
    await run({ ns: namespaces[0]!, namespaces, options, seed, random: new Random(seed), signal })
    if (!quiet) print(`${name}: passed in ${((performance.now() - started) / 1000).toFixed(2)} s`)
  } finally {
    for (const ns of namespaces.reverse()) await ns.close()
  }
}

async function openAs<O extends Specs>(
  { open: how, fewerQueues }: Program<O>,
  address: string,
  options: Values<O>,
): Promise<Namespace> {
  const wanted = how?.(options) ?? {}
  try {
    return await open(address, wanted)
  } catch (error) {
    if (!(error instanceof OutOfRangeError) || !fewerQueues?.(options)) throw error
    return open(address, { ...wanted, qcount: 0 })
  }
}

async function confirmOverwrite(ns: Namespace, bytes: number, yes: boolean): Promise<void> {
  if (bytes === 0 || ns.controller.transport.emulated) return
  await confirm(
    `Overwrite ${bytesText(bytes)} of ${ns.device}, namespace ${ns.id} (${ns.mn}, ${ns.sn})?`,
    yes,
  )
}

function describe(ns: Namespace): string {
  const { device, id, qcount, qsize, blockcount, blocksize } = ns
  const queues = `${qcount} ${qcount === 1 ? 'queue' : 'queues'} of ${qsize}`
  return `${device}, namespace ${id}, ${blockcount} blocks of ${blocksize} bytes, ${queues}`
}
