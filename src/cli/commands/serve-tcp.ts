// `unvme serve ADDR --tcp HOST:PORT`: namespaces for hosts in the network.

import { UsageError } from '../../../lib/errors.ts'
import { onAbort } from '../../../lib/sys/abort.ts'
import { flag, value, values } from '../define.ts'
import { print } from '../output.ts'
import { choiceParser, integer, size, text } from '../parse.ts'

const STATES = ['optimized', 'non-optimized', 'inaccessible', 'change'] as const

/** The options of `serve` that are about NVMe/TCP. */
export const tcpOptions = {
  tcp: values('HOST:PORT', text, 'serve namespaces by NVMe/TCP, here; may be given several times'),
  nqn: value('NQN', text, 'the name of the subsystem'),
  also: values('[NAME=]ADDR', text, 'one more namespace; with --nbd, NAME is that of its export'),
  exclusive: flag('a software controller as a whole, for one host at a time'),
  hostNqn: values('NQN', text, 'a host that may connect; may be given several times'),
  dhchapKey: values('NQN=FILE', keyOf, 'the key of a host that has to prove itself'),
  dhchapCtrlKey: value('FILE', text, 'the key of this server, which hosts may ask for'),
  tlsKey: values('NQN=FILE', keyOf, 'the TLS key of a host'),
  referral: values('HOST:PORT', text, 'a discovery service elsewhere that this one names'),
  ana: values('STATE', choiceParser(STATES), `how good a way each --tcp is: ${STATES.join(', ')}`),
  allowAdmin: flag('hosts may format, sanitize, load firmware and send security commands'),
  queues: value('N', integer({ min: 1, max: 128 }), 'I/O queues of a host, or of a vfio-user client: 16'),
  queueSize: value(
    'N',
    integer({ min: 2, max: 4096 }),
    'entries of each queue: 128, and 256 with --vfio-user',
  ),
  memory: value('SIZE', size({ min: 2 ** 20 }), 'DMA memory of each device for data: 8M'),
  reservations: value('FILE', text, 'where reservations are kept that outlive the server'),
  maxConnections: value('N', integer({ min: 1, max: 65_535 }), 'connections: 256'),
}

function keyOf(word: string): readonly [nqn: string, file: string] {
  const at = word.indexOf('=')
  if (at <= 0 || at === word.length - 1) throw new UsageError(`${word}: NQN=FILE is needed`)
  return [word.slice(0, at), word.slice(at + 1)]
}

interface Given {
  readonly tcp: readonly string[]
  readonly namespaceId: number | undefined
  readonly nqn: string | undefined
  readonly also: readonly string[]
  readonly exclusive: boolean
  readonly hostNqn: readonly string[]
  readonly dhchapKey: readonly (readonly [string, string])[]
  readonly dhchapCtrlKey: string | undefined
  readonly tlsKey: readonly (readonly [string, string])[]
  readonly referral: readonly string[]
  readonly ana: readonly (typeof STATES)[number][]
  readonly readOnly: boolean
  readonly force: boolean
  readonly allowRemote: boolean
  readonly allowAdmin: boolean
  readonly queues: number | undefined
  readonly queueSize: number | undefined
  readonly memory: number | undefined
  readonly reservations: string | undefined
  readonly maxConnections: number | undefined
}

/** Opens what is to be served, serves it until the signal, and closes it. */
export async function serveOverTcp(device: string, given: Given, signal: AbortSignal): Promise<void> {
  const { tcp, nqn, also, exclusive, hostNqn, dhchapKey, tlsKey, referral, ana, readOnly } = given
  const { serveNvmeTcp } = await import('../../servers/nvme-tcp/index.ts')
  const { open } = await import('../../open.ts')
  if (exclusive && also.length > 0)
    throw new UsageError('--exclusive is for one software controller, without --also')
  const namespaces = []
  try {
    if (!exclusive) {
      for (const address of [device, ...also]) {
        const nsid = address === device ? given.namespaceId : undefined
        namespaces.push(
          await open(address, { qcount: 0, force: given.force, signal, ...(nsid !== undefined && { nsid }) }),
        )
      }
    }
    const server = await serveNvmeTcp(exclusive ? device : namespaces, {
      ...{ listen: tcp, nqn, allowRemote: given.allowRemote, referrals: referral, signal },
      ...{ dhchapCtrlKeyFile: given.dhchapCtrlKey, maxConnections: given.maxConnections },
      ...(given.reservations !== undefined && { reservations: given.reservations }),
      ...(hostNqn.length > 0 && { hosts: hostNqn }),
      ...(dhchapKey.length > 0 && { dhchapKeyFiles: Object.fromEntries(dhchapKey) }),
      ...(tlsKey.length > 0 && { tlsKeyFiles: Object.fromEntries(tlsKey) }),
      ...(ana.length > 0 && { ana: ana.length === 1 ? ana[0] : ana }),
      ...(readOnly && { readOnly }),
      ...(given.allowAdmin && { allowAdmin: true }),
      ...(given.queues !== undefined && { queues: given.queues }),
      ...(given.queueSize !== undefined && { queueSize: given.queueSize }),
      ...(given.memory !== undefined && { memory: given.memory }),
    })
    process.stderr.write(`${whoMay(given)}\n`)
    for (const { address } of server.listeners)
      print(`serving ${device} at nvme+tcp://${address}/${server.nqn}`)
    const end = new Promise<void>((resolve) => {
      if (signal.aborted) resolve()
      else onAbort(signal, resolve)
    })
    // A device that is gone ends it as well.
    await Promise.race([end, server.closed])
    await server.close()
  } finally {
    for (const namespace of namespaces) await namespace.close()
  }
}

/** Who may connect, in a sentence. */
function whoMay({ hostNqn, dhchapKey, tlsKey, allowRemote, readOnly }: Given): string {
  const where = allowRemote ? 'this network' : 'this machine'
  const hosts = hostNqn.length > 0 ? `hosts called ${hostNqn.join(', ')}` : 'every host'
  const proven =
    dhchapKey.length > 0 || tlsKey.length > 0
      ? ` that has a key (${[dhchapKey.length > 0 && 'DH-HMAC-CHAP', tlsKey.length > 0 && 'TLS'].filter(Boolean).join(', ')})`
      : ', without a proof of who they are,'
  return `${hosts} in ${where}${proven} may ${readOnly ? 'read' : 'read and write'}`
}
