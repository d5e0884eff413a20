// A host of another make: PDUs byte by byte.

import net from 'node:net'
import type { ExecutionContext } from 'ava'
import { encodeIcReq, PDU } from '../../lib/nvme/tcp/pdu.ts'
import { NQN } from './tcp-target.ts'

/** A host of few lines. */
export async function connectRaw(
  t: ExecutionContext,
  port: number,
  socket: net.Socket = net.connect({ port, host: '127.0.0.1' }),
) {
  t.teardown(() => void socket.destroy())
  const waiting: ((pdu: Buffer | null) => void)[] = []
  const came: (Buffer | null)[] = []
  let rest = Buffer.alloc(0)
  const give = (pdu: Buffer | null) => {
    const next = waiting.shift()
    if (next === undefined) came.push(pdu)
    else next(pdu)
  }
  socket.on('data', (chunk) => {
    rest = Buffer.concat([rest, chunk])
    while (rest.length >= 8 && rest.length >= rest.readUInt32LE(4)) {
      const bytes = rest.readUInt32LE(4)
      give(rest.subarray(0, bytes))
      rest = rest.subarray(bytes)
    }
  })
  socket.on('error', () => {})
  socket.on('close', () => give(null))
  return {
    send: (pdu: Buffer) => void socket.write(pdu),
    close: () => void socket.destroy(),
    /** Null once the connection is closed. */
    next: () =>
      new Promise<Buffer | null>((resolve) => {
        const pdu = came.shift()
        if (pdu === undefined) waiting.push(resolve)
        else resolve(pdu)
      }),
  }
}

/** A command of dwords; in dword 0, the identifier stands in the upper half. */
export function capsule(words: Readonly<Record<number, number>>, data: Buffer | null = null): Buffer {
  const pdu = Buffer.alloc(72 + (data?.length ?? 0))
  pdu[0] = PDU.CAPSULE_CMD
  pdu[2] = 72
  pdu[3] = data === null ? 0 : 72
  pdu.writeUInt32LE(pdu.length, 4)
  for (const [at, value] of Object.entries(words)) pdu.writeUInt32LE(value >>> 0, 8 + 4 * Number(at))
  pdu[9] = 0x40
  if (data !== null) {
    pdu.writeUInt32LE(data.length, 40)
    pdu[47] = 1
    pdu.set(data, 72)
  } else if (pdu[47] === 0) pdu[47] = 0x5a
  return pdu
}

/** Data of Connect. */
export function connectData({
  subnqn = NQN,
  hostnqn = 'nqn.2024-01.org.example:other',
  cntlid = 0xffff,
  host = 1,
} = {}) {
  const data = Buffer.alloc(1024)
  data.fill(host, 0, 16)
  data.writeUInt16LE(cntlid, 16)
  data.write(subnqn, 256)
  data.write(hostnqn, 512)
  return data
}

/** Connect of an admin queue. */
export const CONNECT = { 0: 0x7f, 1: 1, 11: 31, 12: 5000 }
/** Of a response: SCT and SC. */
export const statusOf = (pdu: Buffer | null) => (pdu!.readUInt16LE(22) >> 1) & 0x7ff

/** A host that has greeted. */
export async function greeted(t: ExecutionContext, port: number, socket?: net.Socket) {
  const host = await connectRaw(t, port, socket)
  host.send(encodeIcReq({ pfv: 0, hpda: 0, dgst: 0, maxr2t: 0 }))
  const reply = await host.next()
  t.is(reply![0], PDU.IC_RESP)
  return host
}

/**
 * A host whose controller is enabled, with I/O queue 1: both connections.
 * @param sqsize of the queue, zero-based; @param kato milliseconds
 */
export async function broughtUp(
  t: ExecutionContext,
  port: number,
  {
    sqsize = 31,
    kato = 0,
    ...data
  }: { sqsize?: number; kato?: number } & Parameters<typeof connectData>[0] = {},
) {
  const admin = await greeted(t, port)
  admin.send(capsule({ ...CONNECT, 12: kato }, connectData(data)))
  const cntlid = (await admin.next())!.readUInt32LE(8) & 0xffff
  for (const words of [
    { 0: 0x7f, 1: 0, 11: 0x14, 12: 0x46_0001 },
    { 0: 0x09, 10: 0x07, 11: 0 },
  ]) {
    admin.send(capsule(words))
    t.is(statusOf(await admin.next()), 0)
  }
  const queue = await greeted(t, port)
  queue.send(capsule({ ...CONNECT, 10: 1 << 16, 11: sqsize }, connectData({ ...data, cntlid })))
  t.is(statusOf(await queue.next()), 0)
  return { admin, queue, cntlid }
}
