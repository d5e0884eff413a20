// What every command for a controller shares: its address, opening and closing it, and consent where data is lost.
// Trade-off: each command is a session of its own, which enables the controller and shuts it down: what a
// controller forgets at a reset does not last from one command to the next.

import { InUseError, UsageError } from '../../../lib/errors.ts'
import { ALL_NAMESPACES, MAX_NSID } from '../../../lib/nvme/spec/opcodes.ts'
import { parseNamespaceName } from '../../../lib/pci/bdf.ts'
import type { ControllerHandle, Namespace } from '../../index.ts'
import type { Machine } from '../../setup/index.ts'
import { withOpen } from '../data.ts'
import {
  argument,
  type CommandDefinition,
  type Context,
  defineCommand,
  flag,
  type Spec,
  type Specs,
  type Values,
  value,
  yesOption,
} from '../define.ts'
import { confirm } from '../output.ts'
import { integer, text } from '../parse.ts'

export interface AdminContext<O extends Specs> {
  /** As the user wrote it. */
  readonly address: string
  readonly handle: ControllerHandle
  /** Of `--namespace-id`, or of the address. */
  readonly nsid: number | undefined
  readonly options: Values<O>
  /** As of every command: who reads it promises to end by it. */
  readonly signal: AbortSignal
}

type Words = 'name' | 'summary' | 'details' | 'refused' | 'ignored' | 'hint' | 'examples'

export interface AdminDefinition<O extends Specs> extends Pick<CommandDefinition, Words> {
  readonly group?: CommandDefinition['group']
  readonly options: O
  /**
   * What is lost, as the beginning of a question: `Format namespace 1`. Undefined where nothing is. The device is
   * added, the user is asked, and a device that the system uses is refused.
   */
  destroys?(context: AdminContext<O>): Promise<string | undefined> | string | undefined
  run(context: AdminContext<O>): Promise<number | void>
}

const FORCE = flag('do not ask, and do it where the system uses the device, too')

/** Gives a definition for a controller its argument, the options of consent, and what opens and closes it. */
export function adminCommand<const O extends Specs>(definition: AdminDefinition<O>): CommandDefinition {
  const { group = 'Admin', destroys, options, run, ...words } = definition
  return defineCommand({
    ...words,
    group,
    arguments: { address: argument('ADDR', text, 'address of the device') },
    options: { ...options, ...(destroys && { yes: yesOption(), force: FORCE }) } as Specs,
    async run(outer) {
      const { openController } = await import('../../index.ts')
      const address = String(outer.args.address)
      const { yes = false, force = false } = destroys ? outer.options : {}
      if (destroys) await refuseUsed(address)
      const how = { ...openOptions(outer.options), force: force === true }
      return withOpen(await openController(address, how), async (handle) => {
        const context = contextOf<O>(outer, address, handle)
        const lost = await destroys?.(context)
        if (lost !== undefined) await consent(context, lost, yes === true || force === true)
        return await run(context)
      })
    },
  })
}

function contextOf<O extends Specs>(
  outer: Context<Specs, Specs>,
  address: string,
  handle: ControllerHandle,
): AdminContext<O> {
  return {
    address,
    handle,
    nsid: (outer.options.namespaceId as number | undefined) ?? handle.nsid,
    options: outer.options as Values<O>,
    // Reading it is a promise: see Context.
    get signal() {
      return outer.signal
    },
  }
}

// An address with a namespace id and another in the option are a contradiction, which the open finds.
function openOptions({ namespaceId, timeout }: Readonly<Record<string, unknown>>) {
  const single = typeof namespaceId === 'number' && namespaceId > 0 && namespaceId <= MAX_NSID
  return {
    ...(single && { nsid: namespaceId }),
    // Of I/O commands; admin commands are given theirs one by one.
    ...(typeof timeout === 'number' && { timeout }),
  }
}

/** `-n, --namespace-id`. */
export const namespaceIdOption = (
  description = 'namespace, where the address names none',
): Spec<number | undefined> =>
  value('NSID', integer({ min: 0, max: ALL_NAMESPACES }), description, { short: 'n', also: ['--namespace'] })

/** `-t, --timeout`. @param byDefault how long it may take without */
export const timeoutOption = (byDefault = '4 hours') =>
  value(
    'MS',
    integer({ min: 1, max: 2 ** 31 - 1 }),
    `milliseconds that it may take (default: ${byDefault})`,
    't',
  )

/** The namespace that is meant: the one named, or the only one that is active. */
export async function chosenNamespace({ nsid, handle, address }: AdminContext<Specs>): Promise<number> {
  if (nsid !== undefined) return nsid
  const [only, ...others] = await handle.namespaces()
  if (only === undefined)
    throw new UsageError(`${address} has no active namespace: --namespace-id says which`)
  if (others.length === 0) return only
  throw new UsageError(`${address} has namespaces ${[only, ...others].join(', ')}: --namespace-id says which`)
}

/**
 * Opens the namespace that is meant, for I/O commands, and closes it after `work`. Where all are meant it is the
 * first one: a queue is a namespace's, and commands for all of them can be sent by any.
 */
export async function withNamespace<T>(
  context: AdminContext<Specs>,
  work: (ns: Namespace, nsid: number) => Promise<T>,
): Promise<T> {
  const nsid = await chosenNamespace(context)
  const [first = nsid] = nsid === ALL_NAMESPACES ? await context.handle.namespaces() : [nsid]
  return withOpen(await context.handle.openNamespace(first), (ns) => work(ns, nsid))
}

async function consent({ handle, address }: AdminContext<Specs>, lost: string, yes: boolean): Promise<void> {
  const { emulated } = handle.controller.transport
  const { mn, sn } = handle.identity
  await confirm(`${lost} of ${address} (${mn}, ${sn})?`, yes || emulated)
}

/** Throws InUseError where the system uses a PCI device: mounted, swap, part of RAID or LVM, open. */
export async function refuseUsed(address: string, machine?: Machine): Promise<void> {
  if (!/^[0-9a-f]{1,8}:/i.test(address)) return
  const { listDevices, thisMachine } = await import('../../setup/index.ts')
  const { pciName } = parseNamespaceName(address)
  const device = listDevices(machine ?? thisMachine()).find(({ name }) => name === pciName)
  if (device === undefined || device.uses.length === 0) return
  throw new InUseError(`${address}: ${device.uses.map((use) => use.text).join('; ')}`)
}
