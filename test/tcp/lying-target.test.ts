// A target that lies: whatever it sends, no memory but that of the command is written, the connection ends with an error
// that names the field, and recovery goes on with a new one.

import type { ExecutionContext } from 'ava'
import { PDU } from '../../lib/nvme/tcp/pdu.ts'
import type { OpenOptions } from '../../src/index.ts'
import { pattern } from '../support/pattern.ts'
import { type LinkContext, onEachLink, openByProxy } from '../support/tcp-links.ts'
import type { TcpProxy } from '../support/tcp-proxy.ts'
import type { TargetLimits } from '../support/tcp-target.ts'

const setUp = (
  t: ExecutionContext<LinkContext>,
  options?: OpenOptions,
  limits?: TargetLimits,
  query?: string,
) => openByProxy(t, 'sim:?size=4M', { reconnectDelay: 20, timeout: 5000, ...options }, limits, query)

type Lie = (pdu: Buffer) => readonly Buffer[]

/** Changes the first PDU of a type on an I/O queue. */
function lieOnce(proxy: TcpProxy, type: number, lie: Lie): void {
  let lied = false
  proxy.toHost = (pdu, { index }) => {
    if (lied || index === 0 || pdu[0] !== type) return [pdu]
    lied = true
    return lie(pdu)
  }
}

function changed(pdu: Buffer, change: (copy: Buffer) => void): Buffer {
  const copy = Buffer.from(pdu)
  change(copy)
  return copy
}

/** Moves the data of C2HData to another offset, or says more of it than was asked for. */
const longer = (pdu: Buffer): Buffer => {
  const more = Buffer.concat([pdu, Buffer.alloc(512, 0xee)])
  more.writeUInt32LE(more.length, 4)
  more.writeUInt32LE(pdu.readUInt32LE(16) + 512, 16)
  return more
}

const shorter = (pdu: Buffer): Buffer => {
  const less = Buffer.from(pdu.subarray(0, pdu.length - 512))
  less.writeUInt32LE(less.length, 4)
  less.writeUInt32LE(pdu.readUInt32LE(16) - 512, 16)
  return less
}

const LIES: readonly [what: string, io: 'read' | 'write', type: number, lie: Lie, message: RegExp][] = [
  [
    'a response for a command that is not in flight',
    'read',
    PDU.CAPSULE_RESP,
    (pdu) => [changed(pdu, (copy) => copy.writeUInt16LE(pdu.readUInt16LE(20) ^ 0x8001, 20))],
    /CapsuleResp: CID is [0-9a-f]+h, a command that is not in flight/,
  ],
  [
    'two responses for one command',
    'read',
    PDU.CAPSULE_RESP,
    (pdu) => [pdu, pdu],
    /CapsuleResp: CID is [0-9a-f]+h, a command that (is not in flight|has its answer already)/,
  ],
  [
    'data for a command that is not in flight',
    'read',
    PDU.C2H_DATA,
    (pdu) => [changed(pdu, (copy) => copy.writeUInt16LE(pdu.readUInt16LE(8) ^ 0x4001, 8))],
    /C2HData: CCCID is [0-9a-f]+h/,
  ],
  [
    'data for a write',
    'write',
    PDU.R2T,
    (pdu) => {
      const data = Buffer.alloc(24 + 512, 0xee)
      pdu.copy(data, 0, 0, 24)
      data[0] = PDU.C2H_DATA
      data[3] = 24
      data.writeUInt32LE(data.length, 4)
      data.writeUInt32LE(0, 12)
      data.writeUInt32LE(512, 16)
      return [data]
    },
    /C2HData: CCCID is [0-9a-f]+h, a command that gets no data/,
  ],
  [
    'data before its offset',
    'read',
    PDU.C2H_DATA,
    (pdu) => [changed(pdu, (copy) => copy.writeInt32LE(-512, 12))],
    /C2HData: DATAO is 4294966784, 0 is the next byte/,
  ],
  [
    'data behind its offset',
    'read',
    PDU.C2H_DATA,
    (pdu) => [changed(pdu, (copy) => copy.writeUInt32LE(512, 12))],
    /C2HData: DATAO is 512, 0 is the next byte/,
  ],
  [
    'more data than was asked for',
    'read',
    PDU.C2H_DATA,
    (pdu) => [longer(pdu)],
    /C2HData: DATAL is 2560 at DATAO 0/,
  ],
  [
    'less data than was asked for',
    'read',
    PDU.C2H_DATA,
    (pdu) => [shorter(pdu)],
    /LAST_PDU after 1536 bytes/,
  ],
  ['success without the data', 'read', PDU.C2H_DATA, () => [], /CapsuleResp: success after 0 of 2048 bytes/],
  [
    'the same data twice',
    'read',
    PDU.C2H_DATA,
    (pdu) => [changed(pdu, (copy) => (copy[1]! &= ~4)), pdu],
    /C2HData: DATAO is 0, 2048 is the next byte/,
  ],
  [
    'DATAL that PLEN does not have',
    'read',
    PDU.C2H_DATA,
    (pdu) => [changed(pdu, (copy) => copy.writeUInt32LE(1024, 16))],
    /C2HData: DATAL is 1024, and PLEN leaves 2048/,
  ],
  [
    'SUCCESS before the end',
    'read',
    PDU.C2H_DATA,
    (pdu) => [changed(pdu, (copy) => (copy[1] = (copy[1]! & ~4) | 8))],
    /SUCCESS without LAST_PDU/,
  ],
  [
    'a PDU of a type that does not exist',
    'read',
    PDU.C2H_DATA,
    (pdu) => [changed(pdu, (copy) => (copy[0] = 0x0c))],
    /PDU type ch does not exist/,
  ],
  [
    'a PDU that hosts send',
    'read',
    PDU.C2H_DATA,
    (pdu) => [changed(pdu, (copy) => (copy[0] = PDU.H2C_DATA))],
    /H2CData is not expected here/,
  ],
  [
    'an R2T beyond the data',
    'write',
    PDU.R2T,
    (pdu) => [changed(pdu, (copy) => copy.writeUInt32LE(2 ** 31, 16))],
    /R2T: R2TL is 2147483648 at R2TO 0, the command has 2048 bytes/,
  ],
  [
    'an R2T that begins elsewhere',
    'write',
    PDU.R2T,
    (pdu) => [changed(pdu, (copy) => copy.writeUInt32LE(1024, 12))],
    /R2T: R2TO is 1024, 0 is the next byte/,
  ],
  [
    'an R2T of nothing',
    'write',
    PDU.R2T,
    (pdu) => [changed(pdu, (copy) => copy.writeUInt32LE(0, 16))],
    /R2T: R2TL is 0/,
  ],
  [
    'an R2T for a read',
    'read',
    PDU.C2H_DATA,
    (pdu) => {
      const r2t = Buffer.from(pdu.subarray(0, 24))
      r2t[0] = PDU.R2T
      r2t[1] = r2t[3] = 0
      r2t.writeUInt32LE(24, 4)
      return [r2t]
    },
    /R2T: CCCID is [0-9a-f]+h, a command without data to send/,
  ],
  [
    'success of a write whose data it has not fetched',
    'write',
    PDU.R2T,
    (pdu) => {
      const response = Buffer.alloc(24)
      response[0] = PDU.CAPSULE_RESP
      response[2] = 24
      response.writeUInt32LE(24, 4)
      response.writeUInt16LE(pdu.readUInt16LE(8), 20)
      return [response]
    },
    /CapsuleResp: success after 0 of 2048 bytes/,
  ],
  [
    'a terminate request',
    'read',
    PDU.CAPSULE_RESP,
    () => {
      const term = Buffer.alloc(48)
      term[0] = PDU.C2H_TERM_REQ
      term[2] = 24
      term.writeUInt32LE(48, 4)
      term.writeUInt16LE(5, 8)
      return [term]
    },
    /the target ends the connection: limit of R2Ts/,
  ],
]

for (const [what, io, type, lie, message] of LIES) {
  // Lies about writes are R2Ts.
  const limits = { inCapsule: 0 }
  onEachLink(`${what}: an error that names the field, and no byte beside the command's buffer`, async (t) => {
    const { proxy, ns } = await setUp(t, { recovery: 'none' }, limits)
    const memory = ns.alloc(6 * 2048).fill(0x5a)
    const buf = memory.subarray(2048, 4096)
    lieOnce(proxy, type, lie)
    const iod = io === 'read' ? ns.aread(0, buf, 8, 4) : ns.awrite(0, buf, 8, 4)
    const wait = async () => {
      while (!ns.apoll(iod)) await new Promise(setImmediate)
      // What the first response was believed for comes before the second.
      const next = ns.aread(0, memory.subarray(4096, 6144), 0, 4)
      while (!ns.apoll(next)) await new Promise(setImmediate)
    }
    await t.throwsAsync(wait(), { code: 'ERR_UNVME_PROTOCOL', message })
    const outside = Buffer.concat([memory.subarray(0, 2048), memory.subarray(6144)])
    t.true(outside.every((byte) => byte === 0x5a))
  })

  onEachLink(`${what}: recovery goes on with a new connection`, async (t) => {
    const { proxy, ns } = await setUp(t, {}, limits)
    const causes: string[] = []
    const data = pattern(2048, 5)
    await ns.promises.write(data, 8)
    const controller = ns.controller as unknown as {
      onRecovery(handler: (event: { kind: string; cause: Error }) => void): void
    }
    controller.onRecovery(({ kind, cause }) => causes.push(`${kind}: ${cause.message}`))
    lieOnce(proxy, type, lie)
    for (let i = 0; i < 3; i++) {
      if (io === 'read') t.true((await ns.promises.read(Buffer.alloc(2048), 8)).equals(data))
      else await ns.promises.write(data, 8)
    }
    t.true((await ns.promises.read(Buffer.alloc(2048), 8)).equals(data))
    t.is(ns.stats.resets, 1)
    t.regex(causes.join(), message)
    t.true(causes[0]!.startsWith('reset: '))
  })
}

onEachLink(
  'data with a wrong digest fails its command, which is sent again; a header with one ends the connection',
  async (t) => {
    const { proxy, ns } = await setUp(t, {}, {}, 'hdgst=1&ddgst=1')
    const data = pattern(2048, 6)
    await ns.promises.write(data, 8)
    lieOnce(proxy, PDU.C2H_DATA, (pdu) => [changed(pdu, (copy) => (copy[40]! ^= 1))])
    t.true((await ns.promises.read(Buffer.alloc(2048), 8)).equals(data))
    t.like(ns.stats, { retries: 1, resets: 0 })
    lieOnce(proxy, PDU.C2H_DATA, (pdu) => [changed(pdu, (copy) => (copy[9]! ^= 1))])
    t.true((await ns.promises.read(Buffer.alloc(2048), 8)).equals(data))
    t.is(ns.stats.resets, 1)
  },
)

onEachLink('data with a wrong digest is an error where it is not sent again', async (t) => {
  const { proxy, ns } = await setUp(t, { retries: 0 }, {}, 'ddgst=1')
  lieOnce(proxy, PDU.C2H_DATA, (pdu) => [changed(pdu, (copy) => (copy[40]! ^= 1))])
  await t.throwsAsync(ns.promises.read(Buffer.alloc(2048), 8), {
    code: 'ERR_NVME_STATUS',
    message: /Data Transfer Error/,
  })
})

onEachLink(
  'an answer before all data is sent ends the command, and its memory is its own until the socket has it',
  async (t) => {
    const { proxy, ns } = await setUp(t, { maxTransferBytes: 2 ** 20 }, { inCapsule: 0, maxR2t: 2 ** 20 })
    const data = pattern(2 ** 20, 3)
    let lied = false
    proxy.toHost = (pdu, { index }) => {
      if (lied || index === 0 || pdu[0] !== PDU.R2T) return [pdu]
      lied = true
      const failed = Buffer.alloc(24)
      failed[0] = PDU.CAPSULE_RESP
      failed[2] = 24
      failed.writeUInt32LE(24, 4)
      failed.writeUInt16LE(pdu.readUInt16LE(8), 20)
      // Write Fault, not to be sent again.
      failed.writeUInt16LE((0x280 | 0x4000) << 1, 22)
      return [pdu, failed]
    }
    // The target's own answer to it is one too many: it is swallowed.
    const answers = proxy.toHost
    let swallowed = false
    proxy.toHost = (pdu, connection) => {
      if (lied && !swallowed && connection.index > 0 && pdu[0] === PDU.CAPSULE_RESP) {
        swallowed = true
        return []
      }
      return answers(pdu, connection)
    }
    await t.throwsAsync(ns.promises.write(data, 0), { code: 'ERR_NVME_STATUS', message: /Write Fault/ })
    await ns.promises.write(data, 0)
    t.true((await ns.promises.read(Buffer.alloc(data.length), 0)).equals(data))
    t.is(ns.stats.resets, 0)
  },
)
