// Where data begins in a PDU: at what the peer asks for, with and without header digests.

import net from 'node:net'
import test from 'ava'
import { encodeIcReq, PDU } from '../../lib/nvme/tcp/pdu.ts'
import { open } from '../../src/index.ts'
import { pattern } from '../support/pattern.ts'
import { startProxy } from '../support/tcp-proxy.ts'
import { startTarget } from '../support/tcp-target.ts'

for (const [cpda, query] of [
  [7, ''],
  [7, 'hdgst=1&ddgst=1'],
  [31, 'hdgst=1'],
] as const) {
  test(`a target that asks for CPDA ${cpda} gets its data there, ${query || 'no digests'}`, async (t) => {
    const target = await startTarget('sim:?size=4M', { inCapsule: 4096, maxR2t: 8192, maxH2cData: 4096 })
    const proxy = await startProxy(target.port)
    const unit = (cpda + 1) * 4
    const seen = new Set<number>()
    proxy.toHost = (pdu) => {
      if (pdu[0] === PDU.IC_RESP) pdu[10] = cpda
      return [pdu]
    }
    proxy.toTarget = (pdu) => {
      const header = pdu[2]! + (pdu[1]! & 1) * 4
      if ((pdu[0] === PDU.CAPSULE_CMD && pdu.length > header) || pdu[0] === PDU.H2C_DATA) {
        seen.add(pdu[0]!)
        t.is(pdu[3]! % unit, 0)
        t.true(pdu.subarray(header, pdu[3]).every((byte) => byte === 0))
      }
      return [pdu]
    }
    const ns = await open(target.address(query, proxy.port))
    for (const bytes of [512, 4096, 65_536]) {
      const data = pattern(bytes, bytes)
      await ns.promises.write(data, 8)
      t.true((await ns.promises.read(Buffer.alloc(bytes), 8)).equals(data))
    }
    t.deepEqual([...seen].sort(), [PDU.CAPSULE_CMD, PDU.H2C_DATA])
    await ns.close()
    await proxy.close()
    await target.close()
  })
}

test('a host that asks for HPDA 15 gets its data there', async (t) => {
  const target = await startTarget('sim:?size=4M')
  const proxy = await startProxy(target.port)
  let data = 0
  proxy.toTarget = (pdu) => {
    if (pdu[0] === PDU.IC_REQ) pdu[10] = 15
    return [pdu]
  }
  proxy.toHost = (pdu) => {
    if (pdu[0] === PDU.C2H_DATA) {
      data++
      t.is(pdu[3], 64)
    }
    return [pdu]
  }
  const ns = await open(target.address('hdgst=1&ddgst=1', proxy.port))
  const written = pattern(65_536, 3)
  await ns.promises.write(written, 0)
  t.true((await ns.promises.read(Buffer.alloc(written.length), 0)).equals(written))
  t.true(data > 2)
  await ns.close()
  await proxy.close()
  await target.close()
})

test('a host that connects and says nothing keeps no one from the target', async (t) => {
  const target = await startTarget('sim:?size=4M')
  const silent = net.connect({ port: target.port, host: '127.0.0.1' })
  const half = net.connect({ port: target.port, host: '127.0.0.1' })
  half.write(encodeIcReq({ pfv: 0, hpda: 0, dgst: 0, maxr2t: 0 }).subarray(0, 60))
  const ns = await open(target.address())
  t.is((await ns.promises.read(Buffer.alloc(512), 0)).length, 512)
  await ns.close()
  silent.destroy()
  half.destroy()
  await target.close()
})
