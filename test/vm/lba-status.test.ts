// Get LBA Status by the kernel's driver, in the virtual machine: nvme-cli and `unvme` on a device of a server outside of it,
// which has the command, and on QEMU's controller, which does not. nvme-cli 2.3 gives the kernel no memory for the list (its
// libnvme 1.3 leaves the length 0), so that the list is had by its admin-passthru.

import { runInMachine } from '../../scripts/vm/machine.ts'
import { testFolder } from '../support/folder.ts'
import { forkServer, SERVED_NQN } from '../support/nvme-tcp-server.ts'
import { leftOutWithoutNetwork, registerUnless } from './machine-test.ts'

const script = (port: number) => `
modprobe virtio_net
ifconfig eth0 10.0.2.15 netmask 255.255.255.0 up
modprobe crc32c_generic
modprobe nvme-tcp
unvme="node dist/src/cli/main.js"
nvme get-lba-status /dev/nvme0 -n 1 -a 2 -m 63 2>&1
$unvme get-lba-status /dev/nvme0 -n 1 2>&1
nvme connect -t tcp -a 10.0.2.2 -s ${port} -n ${SERVED_NQN} -i 1 2>&1
d=/dev/nvme1n1
for i in $(seq 40); do [ -b $d ] && break; sleep 0.25; done
dd if=/dev/zero bs=64k count=1 2>/dev/null | tr '\\0' x | dd of=$d bs=64k seek=16 oflag=direct 2>/dev/null
echo theirs
nvme admin-passthru $d -o 0x86 -n 1 --cdw12=11 --cdw13=0x02000000 -l 48 -r -b 2>/dev/null | od -A n -t x1 -v
echo ours
$unvme get-lba-status $d -m 11 -o binary | od -A n -t x1 -v
echo text
$unvme get-lba-status $d 2>&1 | grep DSLBA
$unvme copy /dev/ng1n1 /dev/null 2>&1
nvme disconnect -n ${SERVED_NQN} >/dev/null
`

const missing = leftOutWithoutNetwork('Get LBA Status by the kernel')
const register = registerUnless(missing)
const inFolder = testFolder()

register(
  'get-lba-status by the kernel: as nvme-cli, of a device that has it and of one that has not',
  async (t) => {
    t.timeout(240_000)
    const server = await forkServer([`sim:${inFolder('disk.img')}?size=8M`], [0])
    t.teardown(() => server.kill())
    const { status, stdout, stderr, console } = await runInMachine({
      command: ['bash', '-c', script(server.ports[0]!)],
      shapes: ['lba512'],
      driver: 'nvme',
      qemu: ['-netdev', 'user,id=n0', '-device', 'virtio-net-pci,netdev=n0,addr=1e.0,romfile='],
    })
    t.is(status, 0, `${stderr}\n${console}`)
    const [, refusals = '', theirs = '', ours = '', text = ''] =
      /^(.*)theirs\n(.*)ours\n(.*)text\n(.*)$/s.exec(stdout) ?? []
    t.is(refusals.match(/Invalid Command Opcode/g)?.length, 2, stdout)
    t.is(ours, theirs)
    t.regex(ours, /^ 01 00 00 00 02 00 00 00 00 08 00 00 00 00 00 00\n 7f 00 00 00 00 02 00 00 /)
    t.regex(text, /^\{ DSLBA: 0x0000000000000800, NLB: 0x0000007f, Status: 0x02 \}\n/)
    t.regex(text, /8388608 bytes .*; 65\.54 kB read, /)
  },
)
