// This driver over TCP beside SPDK's perf, on one target: SPDK's nvmf_tgt, or any other. SPDK is no package: who has built it
// says where its program is, and starts the target with a processor to itself. Each side has a second at a time, and polls.

import { parseTcpPaths } from '../lib/nvme/tcp/address.ts'
import { open } from '../src/index.ts'
import { medians, type Row, type Table } from './measure.ts'
import { promiseRate, rawRate, spdkRate, TCP_SPDK, type Work } from './vm-works.ts'

// As many entries as SPDK's target gives a queue.
const QUEUE = 128

export async function* tcpSpdk(): AsyncGenerator<Table> {
  const { UNVME_SPDK_PERF: program, UNVME_SPDK_TARGET: address } = process.env
  if (!program || !address) {
    console.error(
      'bench: SPDK is left out: UNVME_SPDK_PERF is to be the path of its examples/nvme/perf, and UNVME_SPDK_TARGET ' +
        'a target, as nvme+tcp://127.0.0.1/NQN',
    )
    return
  }
  const { host, port, subnqn } = parseTcpPaths(address)[0]!
  const id = `trtype:TCP adrfam:IPv4 traddr:${host} trsvcid:${port} subnqn:${subnqn}`
  const rate = async (link: string, how: typeof promiseRate | typeof rawRate, work: Work) => {
    await using ns = await open(`${address}${address.includes('?') ? '&' : '?'}link=${link}`, {
      qsize: QUEUE,
    })
    return (await how(ns, work)).rate
  }
  const rows = TCP_SPDK.map(
    (work): Row => ({
      name: work.name,
      run: async () => {
        const [polled, promises] = [await rate('raw', rawRate, work), await rate('socket', promiseRate, work)]
        const theirs = spdkRate(program, id, work)
        return [polled, promises, theirs, polled / theirs, promises / theirs]
      },
    }),
  )
  const names = ['aread', 'promises', 'SPDK', 'aread/SPDK', 'promises/SPDK']
  const columns = names.map((name, i) => ({ name, digits: i < 3 ? 0 : 2 }))
  yield await medians(`Transfers a second over TCP, beside SPDK, on ${address}`, columns, rows)
}
