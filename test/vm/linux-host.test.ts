// Linux's host, in the virtual machine, on our target outside of it: writes in capsules and by R2T, reads, digests, Keep
// Alive, a reset, and the end. One boot.

import { runInMachine } from '../../scripts/vm/machine.ts'
import { NQN, startTarget } from '../support/tcp-target.ts'
import { leftOutWithoutNetwork, registerUnless } from './machine-test.ts'

/** Connects controller N, copies to and fro with it, resets it and lets it go: each success is a line. */
const session = (index: number, port: number, options: string) => `
echo "transport=tcp,traddr=10.0.2.2,trsvcid=${port},nqn=${NQN},nr_io_queues=1,keep_alive_tmo=2${options}" >/dev/nvme-fabrics
c=$(echo /sys/class/nvme/nvme*)
d=/dev/\${c##*/}n1
for i in 1 2 3 4 5 6 7 8 9 10; do [ -b $d ] || sleep 0.5; done
dd if=$data of=$d bs=256k oflag=direct 2>/dev/null
dd if=$d of=/tmp/back bs=64k count=128 iflag=direct 2>/dev/null
cmp $data /tmp/back && echo ${index} large
dd if=$data of=$d bs=4k count=32 oflag=direct,sync seek=4096 2>/dev/null
dd if=$d of=/tmp/back bs=4k count=32 skip=4096 iflag=direct 2>/dev/null
cmp -n 131072 $data /tmp/back && echo ${index} small
sleep 3
echo ${index} $(cat $c/state)
echo 1 >$c/reset_controller
for i in 1 2 3 4 5 6 7 8 9 10; do [ "$(cat $c/state)" = live ] || sleep 0.5; done
dd if=$d of=/tmp/back bs=1M count=8 iflag=direct 2>/dev/null
cmp $data /tmp/back && echo ${index} reset
echo 1 >$c/delete_controller
[ -e $c ] || echo ${index} gone
`

const SCRIPT = (sessions: readonly string[]) => `
modprobe virtio_net
ifconfig eth0 10.0.2.15 netmask 255.255.255.0 up
modprobe crc32c_generic
modprobe nvme-tcp
data=/tmp/data
dd if=/dev/urandom of=$data bs=1M count=8 2>/dev/null
${sessions.join('')}
dmesg | grep -i nvme >&2
`

const missing = leftOutWithoutNetwork('Linux’s NVMe/TCP host')
const register = registerUnless(missing)

register('Linux’s host on our target, with small limits and digests, too', async (t) => {
  t.timeout(300_000)
  const small = { inCapsule: 0, maxH2cData: 4096, maxR2t: 12_288, maxC2hData: 8192, success: true }
  const targets = [await startTarget('sim:?size=64M'), await startTarget('sim:?size=64M&lba=4096', small)]
  t.teardown(async () => {
    for (const target of targets) await target.close()
  })
  const options = ['', ',hdr_digest,data_digest']
  const { status, stdout, stderr, console } = await runInMachine({
    command: ['sh', '-c', SCRIPT(targets.map(({ port }, i) => session(i, port, options[i]!)))],
    driver: 'none',
    qemu: ['-netdev', 'user,id=n0', '-device', 'virtio-net-pci,netdev=n0,addr=1e.0,romfile='],
  })
  t.is(status, 0, stderr)
  const lines = [0, 1].flatMap((i) =>
    ['large', 'small', 'live', 'reset', 'gone'].map((what) => `${i} ${what}`),
  )
  t.deepEqual(stdout.trim().split('\n'), lines, `${stderr}\n${console}`)
})
