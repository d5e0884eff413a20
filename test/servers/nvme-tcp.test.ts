// The NVMe/TCP server of open namespaces: several hosts at once, reservations, states of listeners, limits, and ends.

import { once } from 'node:events'
import fs from 'node:fs'
import net from 'node:net'
import test, { type ExecutionContext } from 'ava'
import fc from 'fast-check'
import { ANA_STATE, anaLogBytes, decodeAnaLog } from '../../lib/nvme/spec/ana.ts'
import { ALL_NAMESPACES } from '../../lib/nvme/spec/opcodes.ts'
import { DISCOVERY_NQN, decodeDiscoveryLog } from '../../lib/nvme/tcp/fabrics.ts'
import { encodeIcReq } from '../../lib/nvme/tcp/pdu.ts'
import { DHCHAP_KEY, formatKey } from '../../lib/nvme/tcp/security/keys.ts'
import {
  ADMIN,
  type Namespace,
  NVM,
  type NvmeTcpServer,
  type NvmeTcpServerOptions,
  open,
  openController,
  serveNvmeTcp,
} from '../../src/index.ts'
import { Reservations } from '../../src/servers/nvme-tcp/reservations.ts'
import { endAt } from '../support/early-end.ts'
import { testFolder } from '../support/folder.ts'
import { forkServer, SERVED_NQN } from '../support/nvme-tcp-server.ts'
import { pattern } from '../support/pattern.ts'
import { broughtUp, capsule } from '../support/raw-host.ts'

const inFolder = testFolder()
const BLOCK = 512

// A process has one controller of a subsystem at an address: hosts of one process go by different ones.
const WAYS: Readonly<Record<string, string>> = { a: '127.0.0.1', b: 'localhost', c: '[::ffff:127.0.0.1]' }

/** Host NAME, by a listener of a server. */
function addressOf(port: number, name = 'a', nqn = SERVED_NQN, query = ''): string {
  const hostid = `00000000-0000-4000-8000-0000000000${name.charCodeAt(0).toString(16)}`
  return `nvme+tcp://${WAYS[name]}:${port}/${nqn}?link=socket&hostnqn=nqn.2024-01.org.example:${name}&hostid=${hostid}${query}`
}

async function serveSims(
  t: ExecutionContext,
  devices: readonly string[] = ['sim:?size=8M'],
  options: NvmeTcpServerOptions = {},
): Promise<{ server: NvmeTcpServer; namespaces: Namespace[] }> {
  const namespaces: Namespace[] = []
  for (const device of devices) namespaces.push(await open(device))
  const server = await serveNvmeTcp(namespaces, { nqn: SERVED_NQN, listen: '127.0.0.1:0', ...options })
  t.teardown(async () => {
    await server.close()
    for (const namespace of namespaces) await namespace.close()
  })
  return { server, namespaces }
}

async function connect(
  t: ExecutionContext,
  server: NvmeTcpServer,
  name = 'a',
  { listener = 0, query = '' } = {},
): Promise<Namespace> {
  const ns = await open(addressOf(server.listeners[listener]!.port, name, server.nqn, query), {
    recovery: 'none',
  })
  t.teardown(() => ns.close())
  return ns
}

const readOf = (ns: Namespace, slba: number, nlb: number) =>
  ns.promises.read(Buffer.alloc(nlb * ns.blocksize), slba)

/** Resolves when it is so; the test's own limit ends it. */
async function until(so: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await so())) await new Promise((resolve) => setTimeout(resolve, 2))
}

test('hosts have a controller each, and see one medium and two namespaces of different devices', async (t) => {
  const { server } = await serveSims(t, ['sim:?size=8M', 'sim:?size=4M&lba=4096'])
  const [a, b] = [await connect(t, server, 'a'), await connect(t, server, 'b')]
  const cntlids = [a, b].map(({ controller }) => controller.identity.cntlid)
  t.not(cntlids[0], cntlids[1])
  t.deepEqual(server.stats.hosts, ['nqn.2024-01.org.example:a', 'nqn.2024-01.org.example:b'])
  const second = await b.openNamespace(2)
  t.teardown(() => second.close())
  t.is(second.blocksize, 4096)
  await a.promises.write(pattern(4096, 3), 8)
  await second.promises.write(pattern(4096, 4), 1)
  t.deepEqual(await readOf(b, 8, 8), pattern(4096, 3))
  t.deepEqual(await readOf(second, 1, 1), pattern(4096, 4))
  t.is(server.stats.bytesWritten, 8192)
  t.is(server.stats.memoryInUse, 0)
  // What one host sets is its own.
  const feature = { opcode: ADMIN.SET_FEATURES, cdw10: 0x0b, cdw11: 0x100 }
  await a.admin(feature)
  t.is((await b.admin({ opcode: ADMIN.GET_FEATURES, cdw10: 0x0b })).result & 0x100, 0)
})

test('two hosts at once against a model: each reads what was written last, by whomever', async (t) => {
  const { server } = await serveSims(t, ['sim:?size=8M'], { memory: 2 ** 20 })
  const hosts = [await connect(t, server, 'a'), await connect(t, server, 'b', { query: '&hdgst=1&ddgst=1' })]
  const LANES = 16
  const LANE_BLOCKS = 256
  let seed = 1
  // Each lane has one operation in flight, by either host: of 512 bytes to 128 KiB.
  const lane = async (index: number) => {
    const model = Buffer.alloc(LANE_BLOCKS * BLOCK)
    for (let i = 0; i < 24; i++) {
      const host = hosts[(i + index) % 2]!
      const nlb = 1 + ((index * 37 + i * 61) % LANE_BLOCKS)
      const at = (i * 29) % (LANE_BLOCKS - nlb + 1)
      const slba = index * LANE_BLOCKS + at
      const place = model.subarray(at * BLOCK, (at + nlb) * BLOCK)
      if (i % 3 === 2) t.true(place.equals(await readOf(host, slba, nlb)))
      else if (i % 7 === 6) {
        await host.promises.writeZeroes(slba, nlb)
        place.fill(0)
      } else {
        const data = pattern(nlb * BLOCK, seed++)
        await host.promises.write(data, slba)
        data.copy(place)
      }
    }
    t.true(model.equals(await readOf(hosts[index % 2]!, index * LANE_BLOCKS, LANE_BLOCKS)))
  }
  await Promise.all(Array.from({ length: LANES }, (_, index) => lane(index)))
  t.is(server.stats.failures, 0)
  t.is(server.stats.memoryInUse, 0)
})

const status = (code: string) => ({ code: 'ERR_NVME_STATUS', message: new RegExp(code) })

test('commands that a device or the server lacks are refused, never answered wrongly', async (t) => {
  const { server } = await serveSims(t)
  const ns = await connect(t, server)
  const refused = (command: object, what: string) => t.throwsAsync(ns.admin(command as never), status(what))
  await refused({ opcode: ADMIN.FORMAT_NVM, nsid: 1 }, 'Invalid Command Opcode')
  await refused({ opcode: ADMIN.SANITIZE, cdw10: 2 }, 'Invalid Command Opcode')
  await refused({ opcode: ADMIN.NAMESPACE_MANAGEMENT, nsid: 1, cdw10: 1 }, 'Invalid Command Opcode')
  await refused({ opcode: ADMIN.FIRMWARE_COMMIT, cdw10: 9 }, 'Invalid Command Opcode')
  await refused({ opcode: ADMIN.GET_LOG_PAGE, cdw10: 0x7f_0007, data: Buffer.alloc(512) }, 'Invalid Log Page')
  await refused({ opcode: ADMIN.SET_FEATURES, cdw10: 0x8000_000b }, 'Not Saveable')
  await refused({ opcode: ADMIN.SET_FEATURES, cdw10: 0x06, cdw11: 0 }, 'Not Changeable')
  const io = (command: object, what: string) => t.throwsAsync(ns.promises.cmd(command as never), status(what))
  await io({ opcode: NVM.FLUSH, nsid: 7 }, 'Invalid Namespace')
  await io({ opcode: 0x90 }, 'Invalid Command Opcode')
  const buf = ns.alloc(1024)
  await io({ opcode: NVM.COPY, buf: buf.subarray(0, 32) }, 'Invalid Command Opcode')
  await io({ opcode: NVM.WRITE, buf: buf.subarray(0, 512), cdw12: 2 << 20 }, 'Invalid Field')
  await t.throwsAsync(
    ns.promises.cmd({ opcode: NVM.READ, buf, cdw10: ns.blockcount - 1, cdw12: 1 }),
    status('LBA Out of Range'),
  )
  ns.free(buf)
  await t.notThrowsAsync(ns.promises.cmd({ opcode: NVM.FLUSH, nsid: 0xffff_ffff }))
})

test('with allowAdmin a host formats, and hosts hear of what has changed', async (t) => {
  const { server } = await serveSims(t, ['sim:?size=4M'], { allowAdmin: true })
  const [a, b] = [await connect(t, server, 'a'), await connect(t, server, 'b')]
  await a.promises.write(pattern(BLOCK, 3), 0)
  await a.admin({ opcode: ADMIN.FORMAT_NVM, nsid: 1 })
  t.deepEqual(await readOf(b, 0, 1), Buffer.alloc(BLOCK))
  const events: number[] = []
  b.controller.onEvent((dword) => events.push(dword))
  await b.admin({ opcode: ADMIN.SET_FEATURES, cdw10: 0x0b, cdw11: 0x900 })
  // Blocks of 4096 bytes: no host's commands fit them.
  await a.admin({ opcode: ADMIN.FORMAT_NVM, nsid: 1, cdw10: 1 })
  await until(() => events.includes(0x04_0002))
  const changed = Buffer.alloc(4096)
  await b.admin({ opcode: ADMIN.GET_LOG_PAGE, cdw10: (1023 << 16) | 4, data: changed })
  t.deepEqual([changed.readUInt32LE(0), changed.readUInt32LE(4)], [1, 0])
  await b.admin({ opcode: ADMIN.GET_LOG_PAGE, cdw10: (1023 << 16) | 4, data: changed })
  t.is(changed.readUInt32LE(0), 0)
  await t.throwsAsync(readOf(b, 0, 1), status('Namespace Not Ready'))
})

test('readOnly: hosts see a namespace that is write-protected, and nothing of it changes', async (t) => {
  const { server, namespaces } = await serveSims(t, ['sim:?size=4M'], { readOnly: true })
  await namespaces[0]!.promises.write(pattern(BLOCK, 9), 0)
  const ns = await connect(t, server)
  for (const call of [
    () => ns.promises.write(Buffer.alloc(BLOCK), 0),
    () => ns.promises.writeZeroes(0, 1),
    () => ns.promises.deallocate([{ slba: 0, nlb: 1 }]),
  ]) {
    await t.throwsAsync(call(), status('Write Protected'))
  }
  t.deepEqual(await readOf(ns, 0, 1), pattern(BLOCK, 9))
  t.is((await ns.controller.identifyNamespace(1)).nsattr, 1)
})

test('I/O commands of any dwords end with a status, and change nothing beyond their namespace', async (t) => {
  const { server, namespaces } = await serveSims(t, ['sim:?size=1M', 'sim:?size=1M'])
  const ns = await connect(t, server)
  const canary = pattern(2 ** 20, 5)
  await namespaces[1]!.promises.write(canary, 0)
  const buf = ns.alloc(8192)
  const dword = fc.oneof(
    fc.nat(20),
    fc.nat(0xffff_ffff),
    fc.constantFrom(0, 2047, 2048, 0xffff_ffff, 0x8000_0000),
  )
  const opcode = fc.constantFrom(0, 1, 2, 4, 5, 8, 9, 12, 13, 14, 17, 21, 25, 0x80, 0x7d)
  const command = fc.record({
    ...{ opcode, cdw10: dword, cdw11: dword, cdw12: dword, cdw13: dword, cdw14: dword, cdw15: dword },
    bytes: fc.constantFrom(0, 4, 8, 16, 64, 512, 4096, 8192),
  })
  await fc.assert(
    fc.asyncProperty(command, async ({ bytes, ...dwords }) => {
      const data = bytes === 0 ? {} : { buf: buf.subarray(0, bytes) }
      await ns.promises.cmd({ ...dwords, ...data }, { retry: false }).catch((error) => {
        // What this driver itself refuses is not sent.
        if (!['ERR_NVME_STATUS', 'ERR_OUT_OF_RANGE', 'ERR_INVALID_ARG_TYPE'].includes(error.code)) throw error
      })
    }),
    { numRuns: 150 },
  )
  t.true(canary.equals(await readOf(namespaces[1]!, 0, 2048)))
  t.is(server.stats.memoryInUse, 0)
  ns.free(buf)
})

// Reservations

const keys = (current: number, other: number) => {
  const data = Buffer.alloc(16)
  data.writeBigUInt64LE(BigInt(current), 0)
  data.writeBigUInt64LE(BigInt(other), 8)
  return data
}

function reserver(ns: Namespace) {
  const send = async (opcode: number, cdw10: number, data: Buffer) => {
    const buf = ns.alloc(data.length)
    data.copy(buf)
    try {
      await ns.promises.cmd({ opcode, cdw10, buf })
    } finally {
      ns.free(buf)
    }
  }
  return {
    register: (key: number, current = 0, action = 0) =>
      send(NVM.RESERVATION_REGISTER, action, keys(current, key)),
    acquire: (key: number, type: number, preempt = 0, action = 0) =>
      send(NVM.RESERVATION_ACQUIRE, action | (type << 8), keys(key, preempt)),
    release: (key: number, type: number, action = 0) =>
      send(NVM.RESERVATION_RELEASE, action | (type << 8), keys(key, 0).subarray(0, 8)),
    async report() {
      const buf = ns.alloc(512)
      await ns.promises.cmd({ opcode: NVM.RESERVATION_REPORT, cdw10: 127, cdw11: 1, buf })
      const count = buf.readUInt16LE(5)
      const all = Array.from({ length: count }, (_, i) => {
        const at = 64 + 64 * i
        return { holder: buf[at + 2] === 1, key: Number(buf.readBigUInt64LE(at + 8)), host: buf[at + 31]! }
      })
      const report = { generation: buf.readUInt32LE(0), type: buf[4]!, all }
      ns.free(buf)
      return report
    },
  }
}

test('reservations hold between hosts: who may read, who may write, and whom a preemption shuts out', async (t) => {
  const { server } = await serveSims(t)
  const hosts = [await connect(t, server, 'a'), await connect(t, server, 'b'), await connect(t, server, 'c')]
  const [a, b] = hosts.map(reserver)
  const CONFLICT = status('Reservation Conflict')
  const may = async () => {
    const tried = hosts.flatMap((ns) => [
      readOf(ns, 0, 1).then(
        () => 'r',
        () => '-',
      ),
      ns.promises.write(Buffer.alloc(BLOCK), 0).then(
        () => 'w',
        () => '-',
      ),
    ])
    return (await Promise.all(tried)).join('')
  }
  await t.throwsAsync(a!.acquire(1, 1), CONFLICT)
  await a!.register(1)
  await b!.register(2)
  await t.throwsAsync(b!.register(3), CONFLICT)
  await t.throwsAsync(b!.acquire(9, 1), CONFLICT)
  // Who may what, for each type that A has: A holds it, B is registered, C is not.
  for (const [type, right] of [
    [1, 'rwr-r-'],
    [2, 'rw----'],
    [3, 'rwrwr-'],
    [4, 'rwrw--'],
    [5, 'rwrwr-'],
    [6, 'rwrw--'],
  ] as const) {
    await a!.acquire(1, type)
    t.is(await may(), right, `type ${type}`)
    if (type < 5) {
      await t.throwsAsync(b!.acquire(2, type), CONFLICT)
      await b!.release(2, type)
      t.is((await b!.report()).type, type)
    }
    await a!.release(1, type)
    t.is(await may(), 'rwrwrw')
  }
  await a!.acquire(1, 1)
  const before = await b!.report()
  t.deepEqual(
    before.all.map(({ holder, key, host }) => [holder, key, host]),
    [
      [true, 1, 0x61],
      [false, 2, 0x62],
    ],
  )
  await b!.acquire(2, 2, 1, 2)
  t.is(await may(), '--rw--')
  const after = await b!.report()
  t.is(after.generation, before.generation + 1)
  t.deepEqual(after.all, [{ holder: true, key: 2, host: 0x62 }])
  await t.throwsAsync(a!.release(1, 1), CONFLICT)
  await b!.register(0, 2, 1)
  t.is(await may(), 'rwrwrw')
  // Nothing outlives the server, and it does not say so.
  await t.throwsAsync(a!.register(5, 0, 0xc000_0000 | 0), status('Invalid Field'))
})

test('reservations outlive the server where a host asks for it, until it asks no more', async (t) => {
  const device = `sim:${inFolder('reserved.img')}?size=4M`
  const [ON, OFF] = [0xc000_0000 | 0, 0x8000_0002 | 0]
  const persistence = { opcode: ADMIN.GET_FEATURES, nsid: 1, cdw10: 0x83 }
  const restarted = async (check: (a: Namespace, b: Namespace) => Promise<void>) => {
    const namespace = await open(device)
    const server = await serveNvmeTcp([namespace], { nqn: SERVED_NQN, listen: '127.0.0.1:0' })
    const [a, b] = [await connect(t, server, 'a'), await connect(t, server, 'b')]
    try {
      t.is((await a.controller.identifyNamespace(1)).rescap & 1, 1)
      await check(a, b)
    } finally {
      await Promise.all([a.close(), b.close()])
      await server.close()
      await namespace.close()
    }
  }
  await restarted(async (a, b) => {
    await reserver(b).register(2)
    await reserver(a).register(5, 0, ON)
    await reserver(a).acquire(5, 1)
    t.is((await a.admin(persistence)).result, 1)
  })
  await restarted(async (a, b) => {
    await t.throwsAsync(b.promises.write(Buffer.alloc(BLOCK), 0), status('Reservation Conflict'))
    await a.promises.write(Buffer.alloc(BLOCK), 0)
    const { type, all } = await reserver(b).report()
    t.is(type, 1)
    t.deepEqual(
      all.map(({ holder, key, host }) => [holder, key, host]),
      [
        [false, 2, 0x62],
        [true, 5, 0x61],
      ],
    )
    await reserver(a).register(6, 5, OFF)
    t.is((await a.admin(persistence)).result, 0)
    await t.throwsAsync(b.promises.write(Buffer.alloc(BLOCK), 0), status('Reservation Conflict'))
  })
  await restarted(async (a, b) => {
    await b.promises.write(Buffer.alloc(BLOCK), 0)
    t.deepEqual((await reserver(a).report()).all, [])
    // By the feature, as well.
    await a.admin({ ...persistence, opcode: ADMIN.SET_FEATURES, cdw11: 1 })
    await reserver(a).register(7)
  })
  await restarted(async (a) => {
    t.deepEqual(
      (await reserver(a).report()).all.map(({ key }) => key),
      [7],
    )
  })
})

test('a reservation that can not be kept is not made, and a file of something else is not taken', async (t) => {
  const folder = inFolder('kept')
  fs.mkdirSync(folder)
  const file = `${folder}/state.json`
  const { server } = await serveSims(t, ['sim:?size=4M'], { reservations: file })
  const a = reserver(await connect(t, server))
  await a.register(1, 0, 0xc000_0000 | 0)
  const before = fs.readFileSync(file, 'utf8')
  fs.mkdirSync(`${file}.new`)
  await t.throwsAsync(a.acquire(1, 1), status('Internal Error'))
  t.is((await a.report()).type, 0)
  fs.rmdirSync(`${file}.new`)
  await a.acquire(1, 1)
  t.not(fs.readFileSync(file, 'utf8'), before)
  const namespace = await open('sim:?size=4M')
  t.teardown(() => namespace.close())
  for (const content of [
    '',
    '[]',
    before.replace('"type": 0', '"type": 1'),
    before.replace('0001"', '000x"'),
  ]) {
    fs.writeFileSync(file, content)
    const refused = serveNvmeTcp([namespace], { listen: '127.0.0.1:0', reservations: file })
    await t.throwsAsync(refused, { code: 'ERR_UNVME_SETUP' })
  }
})

test('a namespace has so many registrants and no more, and their count does not grow by new names', (t) => {
  const reservations = new Reservations(null)
  const register = (i: number) =>
    reservations.execute(
      NVM.RESERVATION_REGISTER,
      { hostid: i.toString(16).padStart(32, '0'), cntlid: 1 },
      0,
      keys(0, i + 1),
    ).status
  for (let i = 0; i < 256; i++) t.is(register(i), 0)
  t.not(register(256), 0)
  t.is(reservations.report().readUInt16LE(5), 256)
})

test('a host whose registration was preempted gets an event, with a log that says of what', async (t) => {
  const { server } = await serveSims(t)
  const [first, second] = [await connect(t, server, 'a'), await connect(t, server, 'b')]
  const [a, b] = [reserver(first), reserver(second)]
  await a.register(1)
  await b.register(2)
  const events: number[] = []
  first.controller.onEvent((dword) => {
    events.push(dword)
  })
  await b.acquire(2, 1, 1, 1)
  await until(() => events.length > 0)
  t.is(events[0], 0x80_0006)
  const data = Buffer.alloc(64)
  await first.admin({ opcode: ADMIN.GET_LOG_PAGE, cdw10: (15 << 16) | 0x80, data })
  t.is(data[8], 1)
  t.is(data.readUInt32LE(12), 1)
})

// Listeners

test('a listener’s state is what its hosts see, hear of, and are refused by', async (t) => {
  const { server } = await serveSims(t, ['sim:?size=4M'], {
    listen: ['127.0.0.1:0', '127.0.0.1:0'],
    ana: ['optimized', 'non-optimized'],
  })
  const ways = [await connect(t, server, 'a'), await connect(t, server, 'a', { listener: 1 })]
  const log = async (ns: Namespace) => {
    const data = Buffer.alloc(52)
    await ns.admin({ opcode: ADMIN.GET_LOG_PAGE, cdw10: (12 << 16) | 0x0c, data })
    return [data.readUInt16LE(8), data.readUInt32LE(20), data[32], data.readUInt32LE(48)]
  }
  t.deepEqual(await log(ways[0]!), [1, 1, 1, 1])
  t.deepEqual(await log(ways[1]!), [1, 1, 2, 1])
  const events: number[] = []
  const { controller } = ways[0]!
  controller.onEvent((dword) => events.push(dword))
  await ways[0]!.admin({ opcode: ADMIN.SET_FEATURES, cdw10: 0x0b, cdw11: 0x900 })
  server.setAnaState(0, 'inaccessible')
  await until(() => events.includes(0x0c_0302))
  await t.throwsAsync(
    ways[0]!.promises.cmd({ opcode: NVM.FLUSH, retry: false }, { retry: false }),
    status('Inaccessible'),
  )
  await ways[1]!.promises.write(pattern(BLOCK, 2), 0)
  server.setAnaState(server.listeners[0]!, 'optimized')
  t.is(server.listeners[0]!.anaState, 'optimized')
  t.deepEqual(await readOf(ways[0]!, 0, 1), pattern(BLOCK, 2))
  t.throws(() => server.setAnaState(2, 'optimized'), { code: 'ERR_INVALID_ARG_VALUE' })
  await server.listeners[1]!.close()
  t.true(server.listeners[1]!.closed)
  await t.throwsAsync(readOf(ways[1]!, 0, 1), { code: 'ERR_UNVME_DEVICE_REMOVED' })
  await readOf(ways[0]!, 0, 1)
})

test('a listener’s state of one namespace is that of no other', async (t) => {
  const { server } = await serveSims(t, ['sim:?size=4M', 'sim:?size=8M'])
  const one = await connect(t, server)
  const two = await one.openNamespace(2)
  t.teardown(() => two.close())
  const events: number[] = []
  one.controller.onEvent((dword) => events.push(dword))
  await one.admin({ opcode: ADMIN.SET_FEATURES, cdw10: 0x0b, cdw11: 0x900 })
  server.setAnaState(0, 'inaccessible', 2)
  await until(() => events.includes(0x0c_0302))
  t.deepEqual(server.listeners[0]!.anaStates, ['optimized', 'inaccessible'])
  const data = Buffer.alloc(anaLogBytes(2, 2))
  await one.admin({ opcode: ADMIN.GET_LOG_PAGE, cdw10: ((data.length / 4 - 1) << 16) | 0x0c, data })
  t.like(decodeAnaLog(data), {
    chgcnt: 2n,
    groups: [
      { grpid: 1, state: ANA_STATE.OPTIMIZED, chgcnt: 1n, nsids: [1] },
      { grpid: 2, state: ANA_STATE.INACCESSIBLE, chgcnt: 2n, nsids: [2] },
    ],
  })
  t.is((await two.controller.identifyNamespace(2)).anagrpid, 2)
  await one.promises.write(pattern(BLOCK, 1), 0)
  for (const refused of [two, one]) {
    const nsid = refused === two ? 2 : ALL_NAMESPACES
    const flush = refused.promises.cmd({ opcode: NVM.FLUSH, nsid }, { retry: false })
    await t.throwsAsync(flush, status('Inaccessible'))
  }
  server.setAnaState(0, 'non-optimized')
  t.deepEqual(server.listeners[0]!.anaStates, ['non-optimized', 'non-optimized'])
  await two.promises.flush()
  t.throws(() => server.setAnaState(0, 'optimized', 3), { code: 'ERR_OUT_OF_RANGE' })
})

test('the discovery log has every listener and referral, and its readers hear of changes', async (t) => {
  const { server } = await serveSims(t, ['sim:?size=4M'], {
    listen: ['127.0.0.1:0', '127.0.0.1:0'],
    referrals: ['192.0.2.1:8009'],
  })
  const { port } = server.listeners[0]!
  const reader = await openController(addressOf(port, 'a', DISCOVERY_NQN))
  t.teardown(() => reader.close())
  const read = async () => {
    const data = Buffer.alloc(1024 * 6)
    await reader.admin({
      opcode: ADMIN.GET_LOG_PAGE,
      cdw10: 0xffff_0070 & ((data.length / 4 - 1) * 0x1_0000 + 0xffff),
      data,
    })
    const { genctr, records } = decodeDiscoveryLog(data)
    return { genctr, records: records.map(({ subtype, trsvcid }) => [subtype, trsvcid]) }
  }
  const [a, b] = server.listeners.map((listener) => String(listener.port))
  const before = await read()
  t.deepEqual(before.records, [
    [3, a],
    [2, a],
    [2, b],
    [1, '8009'],
  ])
  const events: number[] = []
  reader.controller.onEvent((dword) => events.push(dword))
  await reader.admin({ opcode: ADMIN.SET_FEATURES, cdw10: 0x0b, cdw11: 0x8000_0000 })
  await server.listeners[1]!.close()
  await until(() => events.includes(0x70_f002))
  const after = await read()
  t.true(after.genctr > before.genctr)
  t.deepEqual(after.records, [
    [3, a],
    [2, a],
    [1, '8009'],
  ])
})

test('a namespace of another target is served on', async (t) => {
  const { server } = await serveSims(t)
  const between = await connect(t, server, 'a')
  const next = await serveNvmeTcp([between], { nqn: 'nqn.2024-01.org.example:next', listen: '127.0.0.1:0' })
  t.teardown(() => next.close())
  const ns = await connect(t, next, 'b')
  await ns.promises.write(pattern(65_536, 8), 16)
  await ns.promises.flush()
  t.true(pattern(65_536, 8).equals(await readOf(between, 16, 128)))
  t.not(
    (await ns.controller.identifyNamespace(1)).nguid,
    (await between.controller.identifyNamespace(1)).nguid,
  )
  await t.throwsAsync(
    readOf(ns, 0, 1).then(() => ns.promises.compare(pattern(BLOCK, 1), 0)),
    status('Compare Failure'),
  )
})

// Who may connect, and how much of it

test('only hosts that are allowed connect, and addresses of other machines need a word', async (t) => {
  const { server, namespaces } = await serveSims(t, ['sim:?size=4M'], {
    hosts: ['nqn.2024-01.org.example:a'],
  })
  await connect(t, server, 'a')
  await t.throwsAsync(connect(t, server, 'b'), { message: /Connect Invalid Host/ })
  for (const listen of ['0.0.0.0:0', '[::]:0', 'example.org:0', '192.0.2.1:0']) {
    await t.throwsAsync(serveNvmeTcp(namespaces, { listen }), {
      code: 'ERR_INVALID_ARG_VALUE',
      message: /allowRemote: true, or --allow-remote/,
    })
  }
  const key = inFolder('key')
  fs.writeFileSync(key, formatKey(DHCHAP_KEY, 0, pattern(32, 3)))
  const proven = await serveNvmeTcp(namespaces, {
    listen: '127.0.0.1:0',
    dhchapKeyFiles: { 'nqn.2024-01.org.example:a': key },
  })
  t.teardown(() => proven.close())
  await t.throwsAsync(connect(t, proven, 'a'), { code: 'ERR_UNVME_AUTHENTICATION' })
  await connect(t, proven, 'a', { query: `&dhchap=${encodeURIComponent(key)}` })
})

async function rawHost(t: ExecutionContext, port: number) {
  const socket = net.connect({ port, host: '127.0.0.1' })
  socket.on('error', () => {})
  t.teardown(() => void socket.destroy())
  const closed = new Promise((resolve) => socket.once('close', resolve))
  await once(socket, 'connect')
  return { socket, closed }
}

test('clients that say nothing are ended, greeting or not, and those above the limit are not taken', async (t) => {
  const { server } = await serveSims(t, ['sim:?size=4M'], { connectTimeout: 1000, maxConnections: 3 })
  const { port } = server.listeners[0]!
  const hosts = [await rawHost(t, port), await rawHost(t, port), await rawHost(t, port)]
  hosts[0]!.socket.write(encodeIcReq({ pfv: 0, hpda: 0, dgst: 0, maxr2t: 0 }))
  const further = await rawHost(t, port)
  hosts.push(further)
  for (const { socket } of hosts) socket.resume()
  await further.closed
  t.is(server.stats.refusedConnections, 1)
  await Promise.all(hosts.map(({ closed }) => closed))
  await until(() => server.stats.connections === 0)
  const ns = await connect(t, server)
  await readOf(ns, 0, 1)
})

test('a host that asks and does not read holds no more than its share, and is ended; others go on', async (t) => {
  const { server } = await serveSims(t, ['sim:?size=32M'], { memory: 2 ** 20, stallTimeout: 300 })
  const good = await connect(t, server, 'b')
  const bad = await connect(t, server, 'a')
  const deaf = await deafHost(t, server.listeners[0]!.port)
  let most = 0
  for (let i = 0; i < 200; i++) {
    await good.promises.write(pattern(4096, i), 8 * i)
    most = Math.max(most, server.stats.memoryInUse)
  }
  t.true(most <= 2 ** 20)
  await until(() => deaf.destroyed)
  await until(() => server.stats.memoryInUse === 0)
  t.deepEqual(await readOf(good, 8, 8), pattern(4096, 1))
  await readOf(bad, 0, 1)
})

test('a host that stops in the middle of a capsule’s data is ended, and its memory is free', async (t) => {
  const { server } = await serveSims(t, ['sim:?size=4M'], { stallTimeout: 100 })
  const { queue } = await broughtUp(t, server.listeners[0]!.port, { subnqn: SERVED_NQN })
  const write = capsule({ 0: 1, 1: 1, 12: 7 }, Buffer.alloc(4096))
  queue.send(write.subarray(0, 1000))
  await until(() => server.stats.memoryInUse > 0)
  t.is(await queue.next(), null)
  await until(() => server.stats.memoryInUse === 0)
  t.is(server.stats.writes, 0)
})

test('the last block, 256 ranges, and LBAs beyond 32 bits are what hosts mean by them', async (t) => {
  const { server, namespaces } = await serveSims(t)
  const ns = await connect(t, server)
  const blocks = ns.geometry.blockcount
  await ns.promises.write(pattern(BLOCK, 1), blocks - 1)
  t.deepEqual(await readOf(namespaces[0]!, blocks - 1, 1), pattern(BLOCK, 1))
  const buf = ns.alloc(4096)
  const read = (cdw10: number, cdw11: number, nlb: number) =>
    ns.promises.cmd({ opcode: NVM.READ, buf: buf.subarray(0, nlb * BLOCK), cdw10, cdw11, cdw12: nlb - 1 })
  await read(blocks - 1, 0, 1)
  await t.throwsAsync(read(blocks - 1, 0, 2), status('LBA Out of Range'))
  // Not block 0.
  await t.throwsAsync(read(0, 1, 1), status('LBA Out of Range'))
  const ranges = Array.from({ length: 256 }, (_, i) => ({ slba: 16 * i, nlb: 8 }))
  for (const i of [0, 255]) await ns.promises.write(pattern(16 * BLOCK, i + 2), 16 * i)
  await ns.promises.deallocate(ranges)
  for (const i of [0, 255]) {
    const found = await readOf(namespaces[0]!, 16 * i, 16)
    t.deepEqual(found.subarray(0, 8 * BLOCK), Buffer.alloc(8 * BLOCK))
    t.deepEqual(found.subarray(8 * BLOCK), pattern(16 * BLOCK, i + 2).subarray(8 * BLOCK))
  }
  ns.free(buf)
})

/** A host that brings a controller up, asks for much by Identify, and takes nothing of it. */
async function deafHost(t: ExecutionContext, port: number): Promise<net.Socket> {
  const { socket } = await rawHost(t, port)
  socket.write(encodeIcReq({ pfv: 0, hpda: 0, dgst: 0, maxr2t: 0 }))
  const data = Buffer.alloc(1024)
  data.fill(7, 0, 16)
  data.writeUInt16LE(0xffff, 16)
  data.write(SERVED_NQN, 256)
  data.write('nqn.2024-01.org.example:deaf', 512)
  socket.write(capsule({ 0: 0x7f, 1: 1, 11: 31, 12: 60_000 }, data))
  socket.write(capsule({ 0: 0x1_007f, 1: 0, 11: 0x14, 12: 0x46_0001 }))
  for (let i = 0; i < 20; i++)
    await once(socket, 'data', { signal: AbortSignal.timeout(5000) }).then(() => (i = 20))
  socket.pause()
  // Until the system's buffers are full, and the server does not take any more.
  let cid = 2
  const more = () => {
    for (let i = 0; i < 200 && !socket.destroyed; i++) {
      cid = cid === 0xfff ? 2 : cid + 1
      const identify = capsule({ 0: 0x06 | (cid << 16), 8: 4096, 10: 1 })
      if (!socket.write(identify)) return
    }
    if (!socket.destroyed) setImmediate(more)
  }
  more()
  socket.on('drain', more)
  return socket
}

// Ends

test('a command without an answer keeps its memory, whatever other queues of the device answer', async (t) => {
  const faults = [{ opcode: 2, slba: 8, times: 1, action: { kind: 'lose' } }] as const
  const device = await open('sim:?size=1M', { recovery: 'none', timeout: 50, qcount: 2, faults })
  const server = await serveNvmeTcp([device], { nqn: SERVED_NQN, listen: '127.0.0.1:0' })
  const { port } = server.listeners[0]!
  const ns = await open(addressOf(port, 'a', server.nqn), { recovery: 'none', qcount: 2 })
  let answered = false
  const lost = ns.promises.read(Buffer.alloc(4096), 8, 8, { qid: 0 }).finally(() => {
    answered = true
  })
  const ended = t.throwsAsync(lost, { code: 'ERR_UNVME_CLOSED' })
  await until(() => device.stats.lost === 1)
  for (let i = 0; i < 3; i++) await ns.promises.read(Buffer.alloc(4096), 0, 8, { qid: 1 })
  t.false(answered)
  t.true(server.stats.memoryInUse >= 4096)
  await ns.close()
  await ended
  await server.close()
  await device.close()
})

for (const end of ['reset', 'close'] as const) {
  test(`${end} of a device ends what it gave no answer to, though no other command follows`, async (t) => {
    const faults = [{ opcode: 2, slba: 8, times: 1, action: { kind: 'lose' } }] as const
    const device = await open('sim:?size=1M', { recovery: 'none', timeout: 50, faults })
    const server = await serveNvmeTcp([device], { nqn: SERVED_NQN, listen: '127.0.0.1:0' })
    const ns = await connect(t, server)
    const ended = t.throwsAsync(readOf(ns, 8, 8))
    await until(() => device.stats.lost === 1)
    await device[end]()
    await ended
    t.is(server.stats.memoryInUse, 0)
    await server.close()
    await device.close()
  })
}

test('a command that a failed controller still has keeps its memory until the reset', async (t) => {
  const faults = [
    { opcode: 2, slba: 8, times: 1, action: { kind: 'lose' } },
    { opcode: 2, slba: 16, times: 1, action: { kind: 'fatal' } },
  ] as const
  const device = await open('sim:?size=1M', { recovery: 'none', faults })
  const server = await serveNvmeTcp([device], { nqn: SERVED_NQN, listen: '127.0.0.1:0' })
  const ns = await connect(t, server)
  let answered = false
  const ended = t.throwsAsync(
    readOf(ns, 8, 8).finally(() => {
      answered = true
    }),
    { code: 'ERR_NVME_STATUS' },
  )
  await until(() => server.stats.inFlight === 1)
  const fatal = t.throwsAsync(readOf(ns, 16, 8))
  await until(() => server.stats.failures >= 2)
  await t.throwsAsync(readOf(ns, 0, 8), { code: 'ERR_NVME_STATUS' })
  t.false(answered)
  t.true(server.stats.memoryInUse >= 4096)
  await device.reset()
  await Promise.all([ended, fatal])
  await readOf(ns, 0, 8)
  t.is(server.stats.memoryInUse, 0)
  await server.close()
  await device.close()
})

test('a controller that is reset under the server: hosts’ reads and writes go on as if nothing were', async (t) => {
  const { server, namespaces } = await serveSims(t, ['sim:?size=8M&latency=1ms'])
  const ns = await connect(t, server)
  const writes = Array.from({ length: 64 }, (_, i) => ns.promises.write(pattern(4096, i), 8 * i))
  await until(() => server.stats.inFlight > 0)
  const reset = namespaces[0]!.reset()
  const outcome = await Promise.allSettled(writes)
  await reset
  const failed = outcome.filter(({ status }) => status === 'rejected')
  t.deepEqual(
    failed.map((one) => (one as PromiseRejectedResult).reason.message),
    [],
  )
  for (let i = 0; i < 64; i++) t.deepEqual(await readOf(ns, 8 * i, 8), pattern(4096, i))
})

test('close finishes what is in flight, and what was answered is there', async (t) => {
  const { server, namespaces } = await serveSims(t, ['sim:?size=8M&latency=2ms'])
  const ns = await connect(t, server)
  const writes = Array.from({ length: 32 }, (_, i) =>
    ns.promises.write(pattern(4096, i), 8 * i).then(
      () => i,
      () => -1,
    ),
  )
  await until(() => server.stats.inFlight > 0)
  await server.close()
  await server.closed
  t.is(server.stats.inFlight, 0)
  t.is(server.stats.memoryInUse, 0)
  const done = (await Promise.all(writes)).filter((i) => i >= 0)
  t.true(done.length > 0)
  for (const i of done) t.deepEqual(await readOf(namespaces[0]!, 8 * i, 8), pattern(4096, i))
})

test('serveNvmeTcp rejects where its signal or its namespace ends it before it listens', async (t) => {
  for (const [i, how] of ['signal', 'namespace'].entries()) {
    for (const [j, when] of (['identify', 'listen'] as const).entries()) {
      const ns = await open('sim:?size=1M')
      const host = `127.7.8.${1 + 2 * i + j}`
      const controller = new AbortController()
      const { signal } = controller
      let closing: Promise<void> | undefined
      const servers = endAt(ns, host, when, () => {
        if (how === 'signal') controller.abort()
        else closing = ns.close()
      })
      const serving = serveNvmeTcp([ns], { listen: `${host}:0`, signal })
      await t.throwsAsync(serving, { code: how === 'signal' ? 'ABORT_ERR' : 'ERR_UNVME_CLOSED' }, when)
      t.false(servers.some(({ listening }) => listening))
      await closing
      await ns.close()
    }
  }
})

test('a signal, or the end of a namespace, closes the server', async (t) => {
  const namespace = await open('sim:?size=4M')
  const controller = new AbortController()
  const server = await serveNvmeTcp([namespace], { listen: '127.0.0.1:0', signal: controller.signal })
  controller.abort()
  await server.closed
  const next = await serveNvmeTcp([namespace], { listen: '127.0.0.1:0' })
  t.is(next.nqn, server.nqn)
  await namespace.close()
  await next.closed
})

test('kill -9 of the server after a flush loses nothing', async (t) => {
  const device = `sim:${inFolder('killed.img')}?size=8M`
  const child = await forkServer([device])
  const ns = await open(addressOf(child.ports[0]!), { recovery: 'none' })
  for (let i = 0; i < 64; i++) await ns.promises.write(pattern(4096, i), 8 * i)
  await ns.promises.flush()
  await child.kill()
  await ns.close()
  const image = await open(device)
  t.teardown(() => image.close())
  for (let i = 0; i < 64; i++) t.deepEqual(await readOf(image, 8 * i, 8), pattern(4096, i))
})
