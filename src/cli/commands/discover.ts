// `unvme discover`: what a discovery service in the network offers.

import { UsageError } from '../../../lib/errors.ts'
import { choice, defineCommand, flag, optionalArgument, outputOption, value } from '../define.ts'
import { print, printJson } from '../output.ts'
import { text } from '../parse.ts'

const DISCOVERY_NQN = 'nqn.2014-08.org.nvmexpress.discovery'
const DISCOVERY_PORT = '8009'

interface Where {
  readonly traddr?: string | undefined
  readonly trsvcid?: string | undefined
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

Nothing is connected: open what is found as nvme+tcp://TRADDR:TRSVCID/SUBNQN.`,
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
    output: outputOption(),
  },
  refused: {
    '-S, --dhchap-secret <KEY>': 'others see it: the key is that of UNVME_DHCHAP_SECRET',
    '-C, --dhchap-ctrl-secret <KEY>': 'others see it: the key is that of UNVME_DHCHAP_CTRL_SECRET',
    '-w, --host-traddr <HOST>': 'the system chooses where a connection comes from',
    '-f, --host-iface <NAME>': 'the system chooses where a connection comes from',
    '-p, --persistent': 'the service is asked once, and no connection stays',
    '-k, --keep-alive-tmo <S>': 'the service is asked once, and no connection stays',
    '-r, --raw <FILE>': 'the log is shown as text or JSON',
  },
  examples: [
    ['discover nvme+tcp://10.0.0.5', 'at port 8009'],
    ['discover -t tcp -a 10.0.0.5 -s 4420 -o json', 'the words of nvme-cli, for programs'],
  ],
  async run({ args, options, signal }) {
    const address = serviceAddress(args.address, options)
    const { openController } = await import('../../index.ts')
    const { readDiscoveryLog } = await import('../../../lib/nvme/tcp/discover.ts')
    const { viewDiscovery } = await import('../admin/views/discovery.ts')
    const handle = await openController(address, { signal, recovery: 'none' })
    try {
      const shown = viewDiscovery(await readDiscoveryLog(handle.controller))
      if (options.output === 'json') printJson(shown.json())
      else print(shown.text(false))
    } finally {
      await handle.close()
    }
  },
})

function serviceAddress(address: string | undefined, where: Where): string {
  const { traddr, trsvcid, hostnqn, hostid, hdrDigest, dataDigest, tls } = where
  if ((address === undefined) === (traddr === undefined)) {
    throw new UsageError('a service is needed: nvme+tcp://HOST[:PORT], or --traddr and --trsvcid')
  }
  if (address !== undefined && trsvcid !== undefined) {
    throw new UsageError('--trsvcid goes with --traddr: the port stands in the address')
  }
  const host = traddr?.includes(':') ? `[${traddr}]` : traddr
  const base = address ?? `nvme+tcp://${host}:${trsvcid ?? DISCOVERY_PORT}`
  const match =
    /^(nvme\+tcp:\/\/(?:\[[^\]]*\]|[^/:?#]+))(:\d+)?\/?(nqn\.2014-08\.org\.nvmexpress\.discovery)?$/.exec(
      base,
    )
  if (match === null) throw new UsageError(`'${base}': nvme+tcp://HOST[:PORT] is needed, without another NQN`)
  const query = [
    'kato=0',
    ...(hostnqn === undefined ? [] : [`hostnqn=${encodeURIComponent(hostnqn)}`]),
    ...(hostid === undefined ? [] : [`hostid=${hostid}`]),
    ...(hdrDigest ? ['hdgst=1'] : []),
    ...(dataDigest ? ['ddgst=1'] : []),
    ...(tls ? ['tls=1'] : []),
  ]
  return `${match[1]}${match[2] ?? `:${DISCOVERY_PORT}`}/${DISCOVERY_NQN}?${query.join('&')}`
}
