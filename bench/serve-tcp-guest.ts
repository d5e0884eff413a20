// Runs in the virtual machine: Linux's target (nvmet) on a null device, and our server on a software controller, both at the
// loopback; Linux's host has both, and fio reads and writes them in turn. Writes a table of medians as JSON.

import { fork, spawnSync } from 'node:child_process'
import fs from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { medianOf, type Table } from './measure.ts'

const ROUNDS = Number(process.env.UNVME_BENCH_ROUNDS ?? 5)
const FIO_SECONDS = 2
const NVMET_NQN = 'nqn.2024-01.org.example:nvmet'
const OUR_NQN = 'nqn.2024-01.org.example:unvme'

if (process.argv[2] === 'serve') {
  const { open, serveNvmeTcp } = await import('../src/index.ts')
  await serveNvmeTcp([await open('sim:?size=256M&lba=4096')], { nqn: OUR_NQN, listen: '127.0.0.1:4420' })
  process.send!('ready')
} else fs.writeSync(1, JSON.stringify(await measure()))

function sh(script: string): void {
  const { status, stderr } = spawnSync('sh', ['-ec', script], { encoding: 'utf8' })
  if (status !== 0) throw new Error(stderr)
}

async function measure(): Promise<Table> {
  sh(`modprobe crc32c_generic
modprobe null_blk nr_devices=1 gb=1 bs=4096 queue_mode=2 irqmode=0
modprobe nvmet
modprobe nvmet-tcp
modprobe nvme-tcp
mount -t configfs none /sys/kernel/config 2>/dev/null || true
cd /sys/kernel/config/nvmet
mkdir subsystems/${NVMET_NQN}
echo 1 >subsystems/${NVMET_NQN}/attr_allow_any_host
mkdir subsystems/${NVMET_NQN}/namespaces/1
echo -n /dev/nullb0 >subsystems/${NVMET_NQN}/namespaces/1/device_path
echo 1 >subsystems/${NVMET_NQN}/namespaces/1/enable
mkdir ports/1
echo tcp >ports/1/addr_trtype
echo ipv4 >ports/1/addr_adrfam
echo 127.0.0.1 >ports/1/addr_traddr
echo 4421 >ports/1/addr_trsvcid
ln -s /sys/kernel/config/nvmet/subsystems/${NVMET_NQN} ports/1/subsystems/${NVMET_NQN}`)
  const server = fork(fileURLToPath(import.meta.url), ['serve'])
  await new Promise((resolve) => server.once('message', resolve))
  const ours = await connect(4420, OUR_NQN)
  const theirs = await connect(4421, NVMET_NQN)
  const works = [
    ['4 KiB random read, depth 32', 'randread', '4k', 32],
    ['4 KiB random write, depth 32', 'randwrite', '4k', 32],
    ['4 KiB random read, depth 1', 'randread', '4k', 1],
    ['128 KiB sequential read, depth 8', 'read', '128k', 8],
    ['128 KiB sequential write, depth 8', 'write', '128k', 8],
  ] as const
  const taken = works.map(() => [[], []] as [number[], number[]])
  // One round to warm up.
  for (let round = 0; round <= ROUNDS; round++) {
    for (const [i, [, rw, bs, depth]] of works.entries()) {
      for (const [way, device] of [ours, theirs].entries()) {
        const rate = fioRate(device, rw, bs, depth)
        if (round > 0) taken[i]![way]!.push(rate)
      }
    }
  }
  server.kill()
  return {
    title: `Transfers a second of Linux's host by NVMe/TCP within the virtual machine, medians of ${ROUNDS} rounds`,
    columns: ['unvme', 'nvmet', 'ratio'].map((name, i) => ({ name, digits: i < 2 ? 0 : 2 })),
    rows: works.map(([name], i) => {
      const [mine, others] = taken[i]!.map(medianOf)
      return { name, cells: [mine!, others!, mine! / others!] }
    }),
  }
}

/** The block device of a new connection with one queue. */
async function connect(port: number, nqn: string): Promise<string> {
  const file = fs.openSync('/dev/nvme-fabrics', 'r+')
  fs.writeSync(file, `transport=tcp,traddr=127.0.0.1,trsvcid=${port},nqn=${nqn},nr_io_queues=1`)
  fs.closeSync(file)
  for (;;) {
    for (const name of fs.readdirSync('/sys/class/nvme-subsystem')) {
      const at = `/sys/class/nvme-subsystem/${name}`
      if (fs.readFileSync(`${at}/subsysnqn`, 'utf8').trim() !== nqn) continue
      const block = fs.readdirSync(at).find((entry) => /^nvme\d+n\d+$/.test(entry))
      if (block !== undefined && fs.existsSync(`/dev/${block}`)) return `/dev/${block}`
    }
    await delay(50)
  }
}

function fioRate(device: string, rw: string, bs: string, depth: number): number {
  const words = [
    ...['--name=one', `--filename=${device}`, '--ioengine=libaio', '--direct=1', '--thread', `--rw=${rw}`],
    ...[`--bs=${bs}`, `--iodepth=${depth}`, '--norandommap', '--size=256m', '--time_based'],
    ...[`--runtime=${FIO_SECONDS}`, '--output-format=json'],
  ]
  const { status, stdout, stderr } = spawnSync('fio', words, { encoding: 'utf8' })
  if (status !== 0) throw new Error(stderr)
  const [job] = JSON.parse(stdout.slice(stdout.indexOf('{'))).jobs
  return (rw.includes('write') ? job.write : job.read).iops
}
