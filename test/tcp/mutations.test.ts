// Mutated PDUs, to the host and to the target. UNVME_TCP_MUTATIONS says how many of each: 300 where it is not set.

import { randomBytes } from 'node:crypto'
import net from 'node:net'
import test from 'ava'
import type { Link, LinkOwner } from '../../lib/nvme/tcp/link.ts'
import { PlainMemory } from '../../lib/nvme/tcp/memory.ts'
import { encodeIcReq, isViolation, PDU } from '../../lib/nvme/tcp/pdu.ts'
import { TcpQueue } from '../../lib/nvme/tcp/queue.ts'
import { Receiver } from '../../lib/nvme/tcp/receiver.ts'
import { open, serveNvmeTcp } from '../../src/index.ts'
import { pattern } from '../support/pattern.ts'
import { capsule } from '../support/raw-host.ts'
import { HOST, NQN, startTarget } from '../support/tcp-target.ts'

const RUNS = Number(process.env.UNVME_TCP_MUTATIONS ?? 300)
const SEED = Number(process.env.UNVME_TCP_SEED ?? randomBytes(4).readUInt32LE())

/** xorshift32. */
function generator(seed: number): (below: number) => number {
  let x = seed || 1
  return (below) => {
    x ^= x << 13
    x ^= x >>> 17
    x ^= x << 5
    return (x >>> 0) % below
  }
}

type Random = ReturnType<typeof generator>

/** What is sent for a PDU: another one, several, or nothing. */
function mutate(pdu: Buffer, random: Random): Buffer[] {
  const copy = Buffer.from(pdu)
  switch (random(8)) {
    case 0:
      copy[random(Math.min(copy.length, 24))]! ^= 1 << random(8)
      return [copy]
    case 1:
      copy[random(copy.length)] = random(256)
      return [copy]
    case 2:
      copy.writeUInt32LE(random(2) === 0 ? random(2 ** 31) : random(256), 4 * random(6))
      return [copy]
    case 3:
      return [copy, pdu]
    case 4:
      return []
    case 5:
      return [copy.subarray(0, random(copy.length))]
    case 6:
      return [Buffer.concat([copy, randomBytes(1 + random(64))])]
    default:
      return [randomBytes(8 + random(120))]
  }
}

const CANARY = 0x5a

test(`${RUNS} mutated PDUs to the host: no byte is written beside the memory of its commands`, (t) => {
  const random = generator(SEED)
  let violations = 0
  for (let run = 0; run < RUNS; run++) {
    const memory = new PlainMemory('test')
    const arena = memory.mapDma(2 ** 20)
    const view = new Uint8Array(memory.map(arena.fd, 0, 2 ** 16).buffer).fill(CANARY)
    const queue = new TcpQueue(memory, { qid: 1, entries: 8, maxBytes: 2 ** 16, timeout: 1000 })
    let receiver: Receiver | undefined
    const link = {
      agreement: { hdgst: false, ddgst: false },
      maxH2cData: 4096,
      alignment: 4,
      own: (owner: LinkOwner) => {
        receiver = new Receiver(owner)
      },
      write: (_: Uint8Array, done?: () => void) => done?.(),
      ...{ cork() {}, flush() {}, keepAlive() {}, close() {} },
    }
    queue.attach(link as unknown as Link, 0)
    // Three reads of a block each, with a block between them, and a write.
    const cids = [0, 1, 2].map((i) => {
      const at = arena.iova + i * 8192 + 4096
      return queue.post(2, 1, at, 0, 4096, i, 0, 7, 0, 0, 0)
    })
    cids.push(queue.post(1, 1, arena.iova + 7 * 8192, 0, 4096, 9, 0, 7, 0, 0, 0))
    queue.ring()
    const stream: Buffer[] = []
    for (const [i, cid] of cids.entries()) {
      const id = queue.idOf(cid)
      if (i < 3) {
        for (const offset of [0, 2048]) stream.push(dataPdu(id, offset, 2048, offset !== 0))
      } else stream.push(headerPdu(PDU.R2T, id, 0, 4096))
      stream.push(responsePdu(id))
    }
    const victim = random(stream.length)
    stream.splice(victim, 1, ...mutate(stream[victim]!, random))
    const bytes = Buffer.concat(stream)
    try {
      for (let at = 0; at < bytes.length; ) {
        const n = Math.min(bytes.length - at, 1 + random(3000))
        receiver!.feed(bytes.subarray(at, at + n), n)
        at += n
      }
    } catch (error) {
      if (!isViolation(error)) throw error
      violations++
    }
    while (queue.reap() >= 0);
    t.true(
      queue.inFlight >= 0 && queue.inFlight + queue.available + queue.lost === 7,
      `seed ${SEED}, run ${run}`,
    )
    for (let i = 0; i < view.length; i++) {
      const inRead = i < 6 * 4096 && ((i >> 12) & 1) === 1
      if (!inRead && view[i] !== CANARY) return t.fail(`byte ${i} was written: seed ${SEED}, run ${run}`)
    }
  }
  t.true(violations > RUNS / 4)
  t.log(`${violations} of ${RUNS} were found to be violations, seed ${SEED}`)
})

function headerPdu(type: number, id: number, offset: number, bytes: number, data = 0): Buffer {
  const pdu = Buffer.alloc(24 + data)
  pdu[0] = type
  pdu[2] = 24
  pdu[3] = data === 0 ? 0 : 24
  pdu.writeUInt32LE(pdu.length, 4)
  pdu.writeUInt32LE(id, 8)
  pdu.writeUInt32LE(offset, 12)
  pdu.writeUInt32LE(bytes, 16)
  return pdu
}

function lastPdu(pdu: Buffer): Buffer {
  pdu[1] = 4
  return pdu
}

function dataPdu(id: number, offset: number, bytes: number, last: boolean): Buffer {
  const pdu = headerPdu(PDU.C2H_DATA, id, offset, bytes, bytes)
  pdu[1] = last ? 4 : 0
  return pdu.fill(0xee, 24)
}

function responsePdu(id: number): Buffer {
  const pdu = headerPdu(PDU.CAPSULE_RESP, 0, 0, 0)
  pdu.writeUInt16LE(id, 20)
  return pdu
}

/** A command with its identifier. */
const numbered = (cid: number, words: Readonly<Record<number, number>>, data?: Buffer) =>
  capsule({ ...words, 0: words[0]! | (cid << 16) }, data)

/** What a host sends to bring a controller up, to write, to read, and to shut it down. */
function session(): Buffer[] {
  const connect = Buffer.alloc(1024)
  connect.fill(1, 0, 16)
  connect.writeUInt16LE(0xffff, 16)
  connect.write(NQN, 256)
  connect.write('nqn.2024-01.org.example:fuzz', 512)
  const write = numbered(9, { 0: 0x09, 8: 4096, 10: 0x81 })
  write.writeUInt32LE(16_384, 40)
  return [
    encodeIcReq({ pfv: 0, hpda: 0, dgst: 0, maxr2t: 0 }),
    numbered(0, { 0: 0x7f, 1: 1, 11: 31, 12: 1000 }, connect),
    numbered(1, { 0: 0x7f, 1: 4, 10: 1 }),
    numbered(2, { 0: 0x7f, 1: 0, 11: 0x14, 12: 0x46_0001 }),
    numbered(3, { 0: 0x06, 8: 4096, 10: 1 }),
    numbered(4, { 0: 0x09, 10: 7, 11: 0x3_0003 }),
    numbered(5, { 0: 0x02, 8: 512, 10: 0x7f_0002 }),
    numbered(6, { 0: 0x18 }),
    numbered(7, { 0: 0x0c }),
    write,
    // What an R2T would ask for.
    lastPdu(headerPdu(PDU.H2C_DATA, 9 | (1 << 16), 0, 16_384, 16_384)),
    numbered(8, { 0: 0x7f, 1: 0, 11: 0x14, 12: 0x46_4001 }),
  ]
}

interface Fuzzed {
  readonly port: number
  readonly connections: number
  address(): string
  close(): Promise<void>
}

async function startSim(): Promise<Fuzzed> {
  const { server, port, address, close } = await startTarget('sim:?size=4M', { maxH2cData: 16_384 })
  return {
    ...{ port, address, close },
    get connections() {
      return server.connections
    },
  }
}

/** Namespaces of a device, for any number of hosts. */
async function startServed(): Promise<Fuzzed> {
  const served = await open('sim:?size=4M')
  const server = await serveNvmeTcp([served], { nqn: NQN, listen: '127.0.0.1:0', stallTimeout: 1000 })
  return {
    port: server.listeners[0]!.port,
    get connections() {
      return server.stats.connections
    },
    address: () => `${server.address}?${HOST}&link=socket`,
    async close() {
      await server.close()
      await served.close()
    },
  }
}

for (const [what, start] of [
  ['a software controller', startSim],
  ['namespaces', startServed],
] as const) {
  test.serial(`${RUNS} mutated PDUs to the target of ${what}: it serves the next host`, async (t) => {
    const random = generator(SEED)
    const target = await start()
    t.teardown(() => target.close())
    const ns = await open(target.address())
    const data = pattern(4096, 5)
    await ns.promises.write(data, 0)
    await ns.close()
    let whole = 0
    for (let run = 0; run <= RUNS; run++) {
      const stream = session()
      const victim = random(stream.length)
      // The first is as it should be.
      if (run > 0) stream.splice(victim, 1, ...mutate(stream[victim]!, random))
      const socket = net.connect({ port: target.port, host: '127.0.0.1' })
      const chunks: Buffer[] = []
      const ended = new Promise<void>((resolve) => {
        socket.on('error', () => {})
        socket.on('close', () => resolve())
      })
      socket.on('data', (chunk) => chunks.push(chunk))
      socket.write(Buffer.concat(stream))
      socket.end()
      await ended
      // ICResp, data of Identify and of the log page, one R2T, and a response for each command but the event request.
      if (Buffer.concat(chunks).length === 128 + (24 + 4096) + (24 + 512) + 24 + 9 * 24) whole++
      else t.not(run, 0, 'a session that is in order')
    }
    while (target.connections > 0) await new Promise((resolve) => setTimeout(resolve, 2))
    const after = await open(target.address())
    t.true((await after.promises.read(Buffer.alloc(4096), 0)).equals(data))
    await after.close()
    t.log(`${whole} of ${RUNS} went on to the end, seed ${SEED}`)
  })
}
