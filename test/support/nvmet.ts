// Linux's target in the virtual machine, reached from outside by a port of the loopback: see docs/tcp.md.

import net from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { runInMachine } from '../../scripts/vm/machine.ts'
import { openController } from '../../src/index.ts'
import { HOST } from './tcp-target.ts'

export const NVMET_NQN = 'nqn.2024-01.org.example:nvmet'

/** A namespace in the memory of the machine, behind port 4420 of its card. Modules come one by one: each is a file. */
const SCRIPT = `
set -e
modprobe virtio_net
ifconfig eth0 10.0.2.15 netmask 255.255.255.0 up
modprobe crc32c_generic
modprobe null_blk nr_devices=1 gb=1 bs=512 memory_backed=1 queue_mode=2
modprobe nvmet
modprobe nvmet-tcp
mount -t configfs none /sys/kernel/config 2>/dev/null || mount | grep -q configfs
cd /sys/kernel/config/nvmet
mkdir subsystems/$NQN
echo 1 >subsystems/$NQN/attr_allow_any_host
echo SERIAL01 >subsystems/$NQN/attr_serial
mkdir subsystems/$NQN/namespaces/1
echo -n /dev/nullb0 >subsystems/$NQN/namespaces/1/device_path
echo 1 >subsystems/$NQN/namespaces/1/enable
mkdir ports/1
echo tcp >ports/1/addr_trtype
echo ipv4 >ports/1/addr_adrfam
echo 0.0.0.0 >ports/1/addr_traddr
echo 4420 >ports/1/addr_trsvcid
ln -s /sys/kernel/config/nvmet/subsystems/$NQN ports/1/subsystems/$NQN
$MORE
echo ready >&2
while :; do sleep 1000; done
`

/** Runs what comes by a port of the card as a shell, one caller after the other. */
const SHELL_PORT = 4500
const SHELL = `busybox nc -ll -p ${SHELL_PORT} -e /bin/sh`

/** What the script above is after, with more of it before the port opens. */
const MARK = 'mkdir ports/1\n'

export interface NvmetOptions {
  readonly limitMs?: number
  /** Commands of the shell, in the folder of nvmet: where they fail, there is no target. */
  readonly setUp?: string
  /** The same, once the port is open. */
  readonly more?: string
  /** Ports of the card beside 4420 that lead outside. */
  readonly ports?: readonly number[]
  /** Commands can be run in the machine while the target works. */
  readonly shell?: boolean
  /** Who this host is. */
  readonly host?: string
}

export interface Nvmet {
  /** With more of a query. */
  address(query?: string): string
  /** Where each of `ports` is, outside. */
  readonly ports: readonly number[]
  /** Runs commands of the shell in the folder of nvmet; resolves with what they print. @throws Error where one fails */
  run(script: string): Promise<string>
  end(): Promise<void>
}

/** Boots a machine with the target in it; resolves when it answers. @throws Error with what the machine said */
export async function startNvmet({
  limitMs = 180_000,
  setUp = '',
  more = '',
  ports: inside = [],
  shell = false,
  host = '',
}: NvmetOptions = {}): Promise<Nvmet> {
  const port = await freePort()
  const ports = await Promise.all(inside.map(freePort))
  const shellPort = await freePort()
  const forwards = [[port, 4420], [shellPort, SHELL_PORT], ...inside.map((one, i) => [ports[i], one])]
    .map(([from, to]) => `hostfwd=tcp:127.0.0.1:${from}-10.0.2.15:${to}`)
    .join(',')
  const script = SCRIPT.replace(MARK, `${setUp}\n${MARK}`)
    .replace('$MORE', more)
    .replaceAll('$NQN', NVMET_NQN)
    .replace(/while :.*\n$/, (idle) => (shell ? SHELL : idle))
  const abort = new AbortController()
  let ended = ''
  const machine = runInMachine({
    command: ['sh', '-c', script],
    driver: 'none',
    timeLimit: 1800,
    signal: abort.signal,
    qemu: [
      ...['-netdev', `user,id=n0,restrict=on,${forwards}`],
      ...['-device', 'virtio-net-pci,netdev=n0,addr=1e.0,romfile='],
    ],
  }).then(
    ({ status, stderr, console }) => {
      ended = `the machine ended with ${status}: ${stderr}\n${console.split('\n').slice(-15).join('\n')}`
    },
    (error: Error) => {
      ended = error.message
    },
  )
  const address = (query = '') =>
    `nvme+tcp://127.0.0.1:${port}/${NVMET_NQN}?${HOST.replace(/(?<=hostnqn=)[^&]*/, (own) => host || own)}&kato=120000${query && `&${query}`}`
  const end = async () => {
    abort.abort()
    await machine
  }
  // QEMU takes connections from its start on, which lead nowhere before the machine has its network.
  for (const until = performance.now() + limitMs; ; ) {
    try {
      const handle = await openController(address(), { timeout: 5000, recovery: 'none' })
      await handle.close()
      return { address, ports, run: (commands) => runShell(shellPort, commands), end }
    } catch (error) {
      if (ended === '' && performance.now() < until) {
        await delay(500)
        continue
      }
      await end()
      throw new Error(ended || (error as Error).message, { cause: error })
    }
  }
}

async function runShell(port: number, commands: string): Promise<string> {
  const socket = net.connect(port, '127.0.0.1')
  socket.end(
    `set -e; cd /sys/kernel/config/nvmet; { ${commands.replaceAll('$NQN', NVMET_NQN)}\n} 2>&1; echo done\n`,
  )
  let said = ''
  for await (const chunk of socket) said += chunk
  if (!said.endsWith('done\n')) throw new Error(`in the machine: ${said || 'no answer'}`)
  return said.slice(0, -5)
}

function freePort(): Promise<number> {
  const server = net.createServer()
  return new Promise((resolve) => {
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address() as net.AddressInfo
      server.close(() => resolve(port))
    })
  })
}
