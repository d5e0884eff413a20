// Runs in the virtual machine: Linux's target, and over the loopback four ways to it do all works in turn: this driver with its
// calls (polled connections) and its promises (connections of the event loop), and the kernel's driver with fs and with fio's
// io_uring engine. Writes a table of medians as JSON.

import fs from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { open } from '../src/index.ts'
import { linkPort, makePort, makeSubsystem, sh } from '../test/vm/nvmet-guest.ts'
import { medianOf, type Table } from './measure.ts'
import { fioRate, promiseRate, type Rate, rawRate, rawRateOfFile, TCP } from './vm-works.ts'

const NQN = 'nqn.2024-01.org.example:bench'
const BYTES = 2 ** 30
const QUEUE = 256
const ROUNDS = Number(process.env.UNVME_BENCH_ROUNDS ?? 5)
const FIO_SECONDS = 1
const HOST = 'hostnqn=nqn.2024-01.org.example:host&hostid=6f9619ff-8b86-d011-b42d-00cf4fc964ff'

makeSubsystem(NQN, 'gb=1 bs=4096 memory_backed=1')
makePort(1, '127.0.0.1')
linkPort(1, NQN)
sh(`modprobe nvme-tcp
  echo "transport=tcp,traddr=127.0.0.1,trsvcid=4420,nqn=${NQN},nr_io_queues=1,queue_size=${QUEUE}" >/dev/nvme-fabrics`)
const block = () => fs.readdirSync('/sys/block').find((name) => /^nvme\d+n\d+$/.test(name))
while (block() === undefined) await delay(50)
const node = `/dev/${block()}`
while (!fs.existsSync(node)) await delay(50)

const address = (link: string) => `nvme+tcp://127.0.0.1/${NQN}?${HOST}&link=${link}`
const fio = [`--filename=${node}`, '--ioengine=io_uring', '--direct=1', `--size=${BYTES}`]

async function round(): Promise<Rate[][]> {
  const rates: Rate[][] = []
  for (const work of TCP) {
    // One connection at a time: an address is open once in a process.
    const of = async (link: string, how: typeof promiseRate | typeof rawRate) => {
      await using ns = await open(address(link), { qsize: QUEUE })
      return await how(ns, work)
    }
    rates.push([
      await of('raw', rawRate),
      await of('socket', promiseRate),
      await rawRateOfFile({ block: node, size: BYTES }, work),
      fioRate(work, FIO_SECONDS, fio),
    ])
  }
  return rates
}

// One round to warm up.
await round()
const rounds: Rate[][][] = []
for (let i = 0; i < ROUNDS; i++) rounds.push(await round())
const rows = TCP.map(({ name }, i) => {
  const [polled, promises, file, io] = [0, 1, 2, 3].map((way) =>
    medianOf(rounds.map((all) => all[i]![way]!.rate)),
  )
  return {
    name,
    cells: [
      polled!,
      promises!,
      file!,
      io!,
      polled! / file!,
      promises! / file!,
      polled! / io!,
      promises! / io!,
    ],
  }
})
const names = ['aread', 'promises', 'fs', 'fio', 'aread/fs', 'promises/fs', 'aread/fio', 'promises/fio']
const table: Table = {
  title: `Transfers a second over TCP, with Linux's target in the same machine, medians of ${ROUNDS} rounds`,
  columns: names.map((name, i) => ({ name, digits: i < 4 ? 0 : 2 })),
  rows,
}
fs.writeSync(1, JSON.stringify(table))
