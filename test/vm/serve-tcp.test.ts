// Linux's host, in the virtual machine, on a server of namespaces outside of it: discovery, a file system, paths that fail
// over, reservations by nvme-cli, and a server that is killed under load. One boot; the machine says when.

import net from 'node:net'
import type { ExecutionContext } from 'ava'
import { runInMachine } from '../../scripts/vm/machine.ts'
import type { AnaState } from '../../src/index.ts'
import { testFolder } from '../support/folder.ts'
import { forkServer, SERVED_NQN, type ServerChild } from '../support/nvme-tcp-server.ts'
import { leftOutWithoutNetwork, registerUnless } from './machine-test.ts'

const script = ([a, b]: readonly number[], control: number) => `
modprobe virtio_net
ifconfig eth0 10.0.2.15 netmask 255.255.255.0 up
modprobe crc32c_generic
modprobe nvme-tcp
modprobe ext4
n=${SERVED_NQN}
d=/dev/nvme0n1
tell() { [ "$(echo "$*" | busybox nc 10.0.2.2 ${control})" = done ] || echo "not done: $*"; }
states() { echo "$1: $(cat /sys/class/nvme/*/nvme*/ana_state | sort | tr '\\n' ' ')"; }
soon() { for i in $(seq 40); do states "$1" >/tmp/states; grep -q "$2" /tmp/states && break; sleep 0.25; done; cat /tmp/states; }
verify() {
  fio --name=v --directory=/mnt --rw=randwrite --bs=4k-64k --size=16M --iodepth=8 --ioengine=libaio --direct=1 \\
    --verify=crc32c --verify_backlog=64 --loops=$1 >/tmp/fio 2>&1 && echo verified $2 || { cat /tmp/fio >&2; echo failed $2; }
}
echo found $(nvme discover -t tcp -a 10.0.2.2 -s ${a} | grep -c "subnqn: *$n")
nvme connect -t tcp -a 10.0.2.2 -s ${a} -n $n -i 1 -g -G -k 5 -c 1
nvme connect -t tcp -a 10.0.2.2 -s ${b} -n $n -i 1 -k 5 -c 1
for i in $(seq 40); do [ -b $d ] && break; sleep 0.25; done
echo paths $(nvme list-subsys | grep -c live)
soon both 'optimized optimized'
tell ana 0 inaccessible
soon first inaccessible
tell ana 0 optimized
tell ana 1 non-optimized
soon second non-optimized
tell ana 1 optimized
nvme id-ctrl /dev/nvme0 | grep -E '^(cmic|nanagrpid|oncs)'
nvme ana-log /dev/nvme0 | grep state
nvme resv-register $d -n 1 --nrkey=0xabc --rrega=0 --cptpl=3
nvme resv-acquire $d -n 1 --crkey=0xabc --rtype=1 --racqa=0
report() { nvme resv-report $d -n 1 -e -d 32 | grep -E 'rtype|ptpls|rcsts|rkey'; }
report
mkfs.ext4 -q $d && mount $d /mnt && echo mounted
verify 4 paths & job=$!
sleep 1
tell ana 0 inaccessible
sleep 0.5
tell ana 0 optimized
tell ana 1 change
sleep 0.5
tell ana 1 optimized
tell reset
tell close-listener 1
wait $job
fstrim -v /mnt | grep -q trimmed && echo trimmed
verify 4 restart & job=$!
sleep 1
tell kill
wait $job
umount /mnt
report
nvme resv-release $d -n 1 --crkey=0xabc --rtype=1 --rrela=0
nvme resv-register $d -n 1 --crkey=0xabc --rrega=1 --cptpl=2
fsck.ext4 -fn $d >&2 && echo clean
nvme disconnect -n $n
dmesg | grep -i nvme >&2
`

/** Does what the machine says, a line for each connection. */
async function control(
  t: ExecutionContext,
  act: (words: readonly string[]) => Promise<void>,
): Promise<number> {
  const server = net.createServer({ allowHalfOpen: true }, (socket) => {
    socket.on('error', () => {})
    socket.once('data', (line) => {
      act(line.toString().trim().split(' ')).then(
        () => socket.end('done\n'),
        (error) => {
          t.log(error)
          socket.end('failed\n')
        },
      )
    })
  })
  t.teardown(() => server.close())
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return (server.address() as net.AddressInfo).port
}

const RESERVED = ['rtype : 1', 'ptpls : 1', 'rcsts : 1', 'rkey : abc']

const missing = leftOutWithoutNetwork('Linux’s NVMe/TCP host')
const register = registerUnless(missing)
const inFolder = testFolder()

register('Linux’s host on two listeners of a server: paths, reservations, a kill under load', async (t) => {
  t.timeout(300_000)
  const device = `sim:${inFolder('disk.img')}?size=96M`
  let server: ServerChild = await forkServer([device], [0, 0])
  t.teardown(() => server.kill())
  const port = await control(t, async ([what, index, state]) => {
    const listener = Number(index)
    if (what === 'ana') await server.tell({ do: 'ana', listener, state: state as AnaState })
    else if (what === 'close-listener') await server.tell({ do: 'close-listener', listener })
    else if (what === 'reset') await server.tell({ do: 'reset' })
    else {
      const { ports } = server
      await server.kill()
      server = await forkServer([device], ports)
    }
  })
  const { status, stdout, stderr, console } = await runInMachine({
    command: ['bash', '-c', script(server.ports, port)],
    driver: 'none',
    qemu: ['-netdev', 'user,id=n0', '-device', 'virtio-net-pci,netdev=n0,addr=1e.0,romfile='],
  })
  t.is(status, 0, stderr)
  const lines = stdout
    .split('\n')
    .map((line) => line.replace(/\s+/g, ' ').trim())
    .filter(Boolean)
  t.deepEqual(
    lines,
    [
      ...['found 2', 'paths 2', 'both: optimized optimized', 'first: inaccessible optimized'],
      ...[
        'second: non-optimized optimized',
        'cmic : 0xa',
        'nanagrpid : 1',
        'oncs : 0xaf',
        'state : optimized',
      ],
      ...['NVME Reservation success', 'NVME Reservation Acquire success', ...RESERVED],
      ...['mounted', 'verified paths', 'trimmed', 'verified restart'],
      // A server that was killed has it still.
      ...[...RESERVED, 'NVME Reservation Release success', 'NVME Reservation success'],
      ...['clean', `NQN:${SERVED_NQN} disconnected 2 controller(s)`],
    ],
    `${stderr}\n${console}`,
  )
  const stats = await server.tell({ do: 'stats' })
  t.is(stats.memoryInUse, 0)
  t.is(stats.inFlight, 0)
})
