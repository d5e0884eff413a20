// `unvme discover`: what a discovery service in the network offers, once, or each time that it changes.

import { isDeepStrictEqual } from 'node:util'
import { UsageError } from '../../../lib/errors.ts'
import {
  followReferrals,
  type Portal,
  portalAddress,
  type Referrals,
  readDiscoveryLog,
} from '../../../lib/nvme/tcp/discover.ts'
import { DISCOVERY_LOG, type DiscoveryLog } from '../../../lib/nvme/tcp/fabrics.ts'
import { onAbort } from '../../../lib/sys/abort.ts'
import type { ControllerHandle } from '../../namespace/controller-handle.ts'
import { viewDiscovery } from '../admin/views/discovery.ts'
import { choice, defineCommand, flag, optionalArgument, outputOption, value } from '../define.ts'
import { note, print, printJson, visible } from '../output.ts'
import { text } from '../parse.ts'

const DISCOVERY_NQN = 'nqn.2014-08.org.nvmexpress.discovery'
const DISCOVERY_PORT = 8009
/** Seconds, as Linux has it. */
const PERSISTENT_KATO = 30

interface Where {
  readonly traddr?: string | undefined
  readonly trsvcid?: string | undefined
}

interface How {
  readonly hostnqn?: string | undefined
  readonly hostid?: string | undefined
  readonly hdrDigest: boolean
  readonly dataDigest: boolean
  readonly tls: boolean
}

export const discover = defineCommand({
  name: 'discover',
  group: 'System',
  summary: 'Show what a discovery service offers: NVM subsystems, and other services',
  details: `The service is an address as nvme+tcp://HOST[:PORT], or given by nvme-cli's --traddr and --trsvcid. \
Without a port it is 8009; Linux's target and ours answer at the port of their subsystems.

A service that asks for authentication gets that of UNVME_DHCHAP_SECRET in the environment.

With --persistent the connection stays until Ctrl-C: the log is shown again each time that it changes, in JSON as one \
line. A connection that is lost is made again.

With --referrals the services that it refers to are asked, too, each once: up to 8 referrals deep, and 64 in all.

Nothing is connected: open what is found as nvme+tcp://TRADDR:TRSVCID/SUBNQN, which unvme list prints.`,
  arguments: { address: optionalArgument('ADDR', text, 'the service: nvme+tcp://HOST[:PORT]') },
  options: {
    transport: choice(['tcp'], 'transport of the service', 't'),
    traddr: value('HOST', text, 'its address', 'a'),
    trsvcid: value('PORT', text, 'its port', 's'),
    hostnqn: value('NQN', text, 'who this host is', 'q'),
    hostid: value('UUID', text, 'its id', 'I'),
    hdrDigest: flag('use header digests', 'g'),
    dataDigest: flag('use data digests', 'G'),
    tls: flag('use TLS, with the key of UNVME_TLS_KEY'),
    persistent: flag('stay connected, and show each change', 'p'),
    keepAliveTmo: value(
      'S',
      seconds,
      `with --persistent: Keep Alive Timeout (default: ${PERSISTENT_KATO})`,
      'k',
    ),
    referrals: flag('ask the services that it refers to'),
    output: outputOption(),
  },
  refused: {
    '-S, --dhchap-secret <KEY>': 'others see it: the key is that of UNVME_DHCHAP_SECRET',
    '-C, --dhchap-ctrl-secret <KEY>': 'others see it: the key is that of UNVME_DHCHAP_CTRL_SECRET',
    '-w, --host-traddr <HOST>': 'the system chooses where a connection comes from',
    '-f, --host-iface <NAME>': 'the system chooses where a connection comes from',
    '-r, --raw <FILE>': 'the log is shown as text or JSON',
  },
  examples: [
    ['discover nvme+tcp://10.0.0.5', 'at port 8009'],
    ['discover -t tcp -a 10.0.0.5 -s 4420 -o json', 'the words of nvme-cli, for programs'],
    ['discover nvme+tcp://10.0.0.5 -p', 'and what changes, until Ctrl-C'],
  ],
  async run({ args, options, signal }) {
    const { persistent, keepAliveTmo, referrals, output } = options
    const service = parseService(args.address, options)
    if (keepAliveTmo !== undefined && !persistent) throw new UsageError('-k goes with --persistent')
    if (persistent && referrals) throw new UsageError('--referrals does not go with --persistent')
    const json = output === 'json'
    const show = (log: DiscoveryLog) => {
      const shown = viewDiscovery(log)
      if (!json) print(shown.text(false))
      else if (persistent) print(JSON.stringify(shown.json()))
      else printJson(shown.json())
    }
    if (persistent) {
      const { openController } = await import('../../index.ts')
      const kato = (keepAliveTmo ?? PERSISTENT_KATO) * 1000
      await using handle = await openController(serviceAddress(service, options, kato), { signal })
      await watch(handle, show, signal)
    } else if (referrals) {
      const found = await followReferrals(service, asker(options, signal))
      if (json) printJson(referralsJson(found))
      else print(referralsText(found))
    } else show(await asker(options, signal)(service))
  },
})

/** What reads the log of a service, once. */
export function asker(how: How, signal: AbortSignal): (service: Portal) => Promise<DiscoveryLog> {
  return async (service) => {
    const { openController } = await import('../../index.ts')
    const address = serviceAddress(service, how, 0)
    await using handle = await openController(address, { signal, recovery: 'none' })
    return await readDiscoveryLog(handle.controller)
  }
}

/** Shows the log, and again when it has changed, until `signal`. Rejects when the service is given up. */
async function watch(
  { controller }: ControllerHandle,
  show: (log: DiscoveryLog) => void,
  signal: AbortSignal,
): Promise<void> {
  const { setFeature } = await import('../../../lib/nvme/host/admin-commands.ts')
  let changed = true
  let gone: Error | null = null
  let recoveries = 0
  let wake = () => {}
  const look = () => {
    changed = true
    wake()
  }
  controller.onEvent((result) => {
    if (((result >>> 16) & 0xff) === DISCOVERY_LOG) look()
  })
  controller.onRecovery(({ kind, cause }) => {
    if (kind === 'failed') gone = cause
    else note(`connected again: ${cause.message}`)
    recoveries++
    look()
  })
  controller.onFailure((cause) => {
    gone = cause
    look()
  })
  onAbort(signal, look)
  // What waits for events alone does not keep the process alive.
  const hold = setInterval(() => {}, 2 ** 31 - 1)
  try {
    for (let last: DiscoveryLog | null = null; !signal.aborted; ) {
      if (!changed) await new Promise<void>((resolve) => (wake = resolve))
      if (signal.aborted) return
      if (gone !== null) throw gone
      changed = false
      const before = recoveries
      try {
        // A controller that was connected again does not know of it.
        await setFeature(controller, ASYNC_EVENTS, DISCOVERY_CHANGE)
        const log = await readDiscoveryLog(controller)
        if (isDeepStrictEqual(log, last)) continue
        last = log
        show(log)
      } catch (error) {
        // A lost connection is made again, which calls `look`.
        if (recoveries === before && controller.transport.health() === null) throw error
      }
    }
  } finally {
    clearInterval(hold)
  }
}

/** Asynchronous Event Configuration, and its bit for changes of the discovery log. */
const ASYNC_EVENTS = 0x0b
const DISCOVERY_CHANGE = 0x8000_0000

function referralsText({ services, left }: Referrals): string {
  const all = services.map(({ log, error, ...portal }) => {
    const shown = log === null ? visible(error!.message) : viewDiscovery(log).text(false)
    return `Discovery service ${visible(portalAddress(portal))}\n${shown}`
  })
  if (left > 0) all.push(`${left} more services were referred to, and not asked`)
  return all.join('\n\n')
}

function referralsJson({ services, left }: Referrals) {
  return {
    services: services.map(({ depth, log, error, ...portal }) => ({
      service: portalAddress(portal),
      depth,
      ...(log === null ? { error: error!.message } : (viewDiscovery(log).json() as object)),
    })),
    left,
  }
}

/** The service that is meant. Throws UsageError. */
export function parseService(address: string | undefined, { traddr, trsvcid }: Where = {}): Portal {
  if ((address === undefined) === (traddr === undefined)) {
    throw new UsageError('a service is needed: nvme+tcp://HOST[:PORT], or --traddr and --trsvcid')
  }
  if (address !== undefined && trsvcid !== undefined) {
    throw new UsageError('--trsvcid goes with --traddr: the port stands in the address')
  }
  const base = address ?? portalAddress({ host: traddr!, port: port(trsvcid ?? String(DISCOVERY_PORT)) })
  const match =
    /^nvme\+tcp:\/\/(\[[^\]]*\]|[^/:?#]+)(?::(\d+))?\/?(?:nqn\.2014-08\.org\.nvmexpress\.discovery)?$/.exec(
      base,
    )
  if (match === null) throw new UsageError(`'${base}': nvme+tcp://HOST[:PORT] is needed, without another NQN`)
  const [, host = '', given] = match
  return { host: host.replace(/^\[|\]$/g, ''), port: given === undefined ? DISCOVERY_PORT : port(given) }
}

function port(text: string): number {
  const number = /^\d{1,5}$/.test(text) ? Number(text) : 0
  if (number < 1 || number > 65_535) throw new UsageError(`'${text}': a port from 1 to 65535 is needed`)
  return number
}

function seconds(text: string): number {
  const number = /^\d{1,7}$/.test(text) ? Number(text) : 0
  if (number < 1 || number > 2_000_000) throw new Error('seconds from 1 to 2000000 are needed')
  return number
}

function serviceAddress(service: Portal, how: How, kato: number): string {
  const { hostnqn, hostid, hdrDigest, dataDigest, tls } = how
  const query = [
    `kato=${kato}`,
    ...(hostnqn === undefined ? [] : [`hostnqn=${encodeURIComponent(hostnqn)}`]),
    ...(hostid === undefined ? [] : [`hostid=${hostid}`]),
    ...(hdrDigest ? ['hdgst=1'] : []),
    ...(dataDigest ? ['ddgst=1'] : []),
    ...(tls ? ['tls=1'] : []),
  ]
  return `${portalAddress(service)}/${DISCOVERY_NQN}?${query.join('&')}`
}
