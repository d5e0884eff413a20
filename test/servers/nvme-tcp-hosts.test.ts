// What one host of the NVMe/TCP server does, or is, harms no other: memory, names, connections that lead to nothing.

import { once } from 'node:events'
import fs from 'node:fs'
import net from 'node:net'
import tls from 'node:tls'
import test, { type ExecutionContext } from 'ava'
import { UnsupportedError } from '../../lib/errors.ts'
import { CNS, decodeCommandSetController, encodeCommandSetController } from '../../lib/nvme/spec/identify.ts'
import { DHCHAP_KEY, deriveTlsPsk, formatKey, parseKey, TLS_KEY } from '../../lib/nvme/tcp/security/keys.ts'
import { TLS_OPTIONS } from '../../lib/nvme/tcp/security/tls.ts'
import {
  ADMIN,
  type AdminCommand,
  type Namespace,
  NVM,
  type NvmeTcpServerOptions,
  open,
} from '../../src/index.ts'
import { watchChanges } from '../../src/servers/nvme-tcp/changes.ts'
import type { DeviceNamespace } from '../../src/servers/nvme-tcp/namespace.ts'
import { ReservationFile } from '../../src/servers/nvme-tcp/reservation-file.ts'
import { serveNvmeTcp } from '../../src/servers/nvme-tcp/serve.ts'
import { testFolder } from '../support/folder.ts'
import { SERVED_NQN } from '../support/nvme-tcp-server.ts'
import { broughtUp, CONNECT, capsule, connectData, greeted, statusOf } from '../support/raw-host.ts'

const inFolder = testFolder()
const A = 'nqn.2024-01.org.example:a'
const B = 'nqn.2024-01.org.example:b'
const FOR_EVER = 2 ** 31 - 1
const KIB_256 = 2 ** 18
const TEXT = formatKey(TLS_KEY, 1, Buffer.alloc(32, 7))

async function serve(t: ExecutionContext, devices: readonly string[], options: NvmeTcpServerOptions = {}) {
  const namespaces = await Promise.all(devices.map((device) => open(device)))
  const server = await serveNvmeTcp(namespaces, { nqn: SERVED_NQN, listen: '127.0.0.1:0', ...options })
  t.teardown(async () => {
    await server.close()
    for (const namespace of namespaces) await namespace.close()
  })
  return { server, namespaces, port: server.listeners[0]!.port }
}

const cidOf = (pdu: Buffer | null) => pdu!.readUInt16LE(20)

const read = (cid: number, nsid: number, bytes: number) =>
  capsule({ 0: 0x02 | (cid << 16), 1: nsid, 8: bytes, 12: bytes / 512 - 1 })
/** The next answer, without data before it. */
async function answerOf(host: { next(): Promise<Buffer | null> }) {
  for (;;) {
    const pdu = await host.next()
    if (pdu === null || pdu[0] === 5) return pdu
  }
}

test('a host that waits for memory of one device has it, though its own is all of another', async (t) => {
  const { server, port } = await serve(t, ['sim:?size=4M', 'sim:?size=4M&latency=100ms'], { memory: 2 ** 20 })
  const { queue } = await broughtUp(t, port, { subnqn: SERVED_NQN })
  queue.send(Buffer.concat([read(1, 2, KIB_256), read(2, 1, 4096)]))
  const cids = [cidOf(await answerOf(queue)), cidOf(await answerOf(queue))]
  t.deepEqual(cids.sort(), [1, 2])
  t.is(server.stats.memoryInUse, 0)
})

for (const way of ['takes it back', 'leaves'] as const) {
  test(`a host that waits for memory and ${way} keeps no other from it`, async (t) => {
    const { server, port } = await serve(t, ['sim:?size=4M&latency=200ms'], { memory: 2 ** 20 })
    const one = await broughtUp(t, port, { subnqn: SERVED_NQN, host: 1 })
    const two = await broughtUp(t, port, { subnqn: SERVED_NQN, host: 2 })
    // All that there is.
    one.queue.send(read(1, 1, 2 ** 20))
    while (server.stats.memoryInUse === 0) await new Promise(setImmediate)
    two.queue.send(read(2, 1, 4096))
    // What is refused at once has an answer: the read is there, and waits.
    two.queue.send(capsule({ 0: 0x00 | (3 << 16), 1: 7 }))
    t.is(cidOf(await two.queue.next()), 3)
    if (way === 'leaves') two.queue.send(Buffer.alloc(72))
    else two.admin.send(capsule({ 0: 0x08 | (6 << 16), 10: (2 << 16) | 1 }))
    await (way === 'leaves' ? two.queue : two.admin).next()
    t.is(cidOf(await answerOf(one.queue)), 1)
    one.queue.send(read(4, 1, 4096))
    t.is(cidOf(await answerOf(one.queue)), 4)
    t.is(server.stats.memoryInUse, 0)
  })
}

test('a host that sends more commands than its queue has loses its connection, and no memory is lost', async (t) => {
  const { server, port } = await serve(t, ['sim:?size=4M&latency=20ms'])
  const { queue } = await broughtUp(t, port, { subnqn: SERVED_NQN, sqsize: 1 })
  const write = (cid: number) => capsule({ 0: 0x01 | (cid << 16), 1: 1, 12: 7 }, Buffer.alloc(4096))
  queue.send(Buffer.concat([write(1), write(2), write(3)]))
  for (let pdu = await queue.next(); pdu !== null; ) pdu = await queue.next()
  while (server.stats.inFlight > 0 || server.stats.connections > 1) await new Promise(setImmediate)
  t.is(server.stats.memoryInUse, 0)
})

test('a host that fills its queue to the last entry is served', async (t) => {
  const { port } = await serve(t, ['sim:?size=4M&latency=20ms'])
  const { queue } = await broughtUp(t, port, { subnqn: SERVED_NQN, sqsize: 1 })
  queue.send(Buffer.concat([read(1, 1, 4096), read(2, 1, 4096)]))
  const answered = [cidOf(await answerOf(queue)), cidOf(await answerOf(queue))]
  t.deepEqual(answered.sort(), [1, 2])
})

test('what a queue sent that has gone, and that was not begun, is not done after what the next one sends', async (t) => {
  const faults = [{ opcode: NVM.READ, times: 1, action: { kind: 'lose' } }] as const
  const device = await open('sim:?size=4M', { recovery: 'none', timeout: 50, faults })
  const server = await serveNvmeTcp([device], { nqn: SERVED_NQN, listen: '127.0.0.1:0' })
  const { port } = server.listeners[0]!
  const data = { subnqn: SERVED_NQN }
  const before = await broughtUp(t, port, data)
  before.queue.send(read(1, 1, 4096))
  while (device.stats.lost === 0) await new Promise(setImmediate)
  before.queue.close()
  before.admin.close()
  while (server.stats.connections > 0) await new Promise(setImmediate)
  const after = await broughtUp(t, port, data)
  after.queue.send(capsule({ 0: 0x01 | (2 << 16), 1: 1, 12: 0 }, Buffer.alloc(512, 7)))
  // The read has a page, and so has the write, which waits for its end.
  while (server.stats.memoryInUse < 8192) await new Promise(setImmediate)
  after.queue.close()
  while (server.stats.memoryInUse > 4096) await new Promise(setImmediate)
  const queue = await greeted(t, port)
  queue.send(capsule({ ...CONNECT, 10: 1 << 16 }, connectData({ ...data, cntlid: after.cntlid })))
  t.is(statusOf(await queue.next()), 0)
  queue.send(read(4, 1, 512))
  await device.reset()
  t.is(cidOf(await answerOf(queue)), 4)
  t.deepEqual(await device.promises.read(Buffer.alloc(512), 0), Buffer.alloc(512))
  t.is(server.stats.writes, 0)
  await server.close()
  await device.close()
})

test('Keep Alive that came while the server had no time for it counts', async (t) => {
  const { port } = await serve(t, ['sim:?size=4M'])
  const { admin } = await broughtUp(t, port, { subnqn: SERVED_NQN, kato: 1000 })
  admin.send(capsule({ 0: ADMIN.KEEP_ALIVE | (9 << 16) }))
  const end = performance.now() + 1500
  while (performance.now() < end);
  t.is(cidOf(await admin.next()), 9)
  t.is(await admin.next(), null)
})

test('a host that does not prove who it is is ended, as one that says nothing', async (t) => {
  const key = inFolder('dhchap')
  fs.writeFileSync(key, formatKey(DHCHAP_KEY, 0, Buffer.alloc(32, 3)))
  const { server, port } = await serve(t, ['sim:?size=4M'], {
    dhchapKeyFiles: { [A]: key },
    connectTimeout: 1500,
  })
  const host = await greeted(t, port)
  host.send(capsule({ ...CONNECT, 12: 0 }, connectData({ subnqn: SERVED_NQN, hostnqn: A })))
  t.is(statusOf(await host.next()), 0)
  t.is(await host.next(), null)
  while (server.stats.hosts.length > 0) await new Promise(setImmediate)
  const proven = await open(
    `nvme+tcp://127.0.0.1:${port}/${SERVED_NQN}?link=socket&hostnqn=${A}&dhchap=${encodeURIComponent(key)}`,
    { recovery: 'none' },
  )
  await new Promise((resolve) => setTimeout(resolve, 1800))
  await proven.promises.read(Buffer.alloc(512), 0)
  await proven.close()
})

test('a listener that closes waits for no connection that has said nothing', async (t) => {
  const { server } = await serve(t, ['sim:?size=4M'], {
    listen: ['127.0.0.1:0', '127.0.0.1:0'],
    connectTimeout: FOR_EVER,
  })
  const { port } = server.listeners[1]!
  const silent = await greeted(t, port)
  await server.listeners[1]!.close()
  t.is(await silent.next(), null)
})

// TLS

function keyFile(): string {
  const key = inFolder('tls')
  fs.writeFileSync(key, `${TEXT}\n`, { mode: 0o600 })
  return key
}

test('close of a server with TLS waits for no handshake, and a handshake is not waited for without end', async (t) => {
  const { server, port } = await serve(t, ['sim:?size=4M'], {
    tlsKeyFiles: { [A]: keyFile() },
    connectTimeout: 200,
  })
  const silent = net.connect({ port, host: '127.0.0.1' }).resume()
  await once(silent, 'close')
  const { server: other, port: otherPort } = await serve(t, ['sim:?size=4M'], {
    ...{ tlsKeyFiles: { [A]: keyFile() }, connectTimeout: FOR_EVER },
  })
  const waiting = net.connect({ port: otherPort, host: '127.0.0.1' }).resume()
  await once(waiting, 'connect')
  await new Promise(setImmediate)
  await Promise.all([once(waiting, 'close'), other.close()])
  await server.close()
  t.is(other.stats.connections, 0)
})

test('with the key of one host no other name can be taken', async (t) => {
  const file = keyFile()
  const { port } = await serve(t, ['sim:?size=4M'], { tlsKeyFiles: { [A]: file, [B]: file } })
  const { identity, psk } = deriveTlsPsk(parseKey(TLS_KEY, TEXT), { hostnqn: A, subnqn: SERVED_NQN }, 1)
  const connect = async (hostnqn: string) => {
    const wire = tls.connect({
      ...TLS_OPTIONS,
      port,
      host: '127.0.0.1',
      pskCallback: () => ({ identity, psk }),
    })
    t.teardown(() => void wire.destroy())
    await once(wire, 'secureConnect')
    const host = await greeted(t, port, wire)
    host.send(capsule(CONNECT, connectData({ subnqn: SERVED_NQN, hostnqn })))
    return statusOf(await host.next())
  }
  t.is(await connect(A), 0)
  t.is(await connect(B), 0x184)
})

// The namespace

/** An open namespace whose controller answers otherwise where the test says so. */
function withController(
  namespace: Namespace,
  changes: Partial<DeviceNamespace['controller']>,
): DeviceNamespace {
  const { geometry, pool, device, qcount, controller } = namespace
  const { identity, cap, maxTransferBytes, transport } = controller
  return {
    ...{ geometry, pool, device, qcount },
    queue: namespace.queue.bind(namespace),
    closed: false,
    onClose: () => () => {},
    controller: {
      ...{ identity, cap, maxTransferBytes, transport },
      admin: controller.admin.bind(controller),
      identify: controller.identify.bind(controller),
      identifyNamespace: controller.identifyNamespace.bind(controller),
      onEvent: controller.onEvent.bind(controller),
      onFormat: controller.onFormat.bind(controller),
      addQueueUser: controller.addQueueUser.bind(controller),
      ...changes,
    },
  }
}

const openAt = (port: number, hostnqn = A, query = '') =>
  open(`nvme+tcp://127.0.0.1:${port}/${SERVED_NQN}?link=socket&hostnqn=${hostnqn}${query}`, {
    recovery: 'none',
  })

/** A namespace that answers otherwise, served, and a host. */
async function serveChanged(
  t: ExecutionContext,
  device: string,
  changes: (controller: Namespace['controller']) => Partial<DeviceNamespace['controller']>,
) {
  const namespace = await open(device)
  const served = withController(namespace, changes(namespace.controller))
  const server = await serveNvmeTcp([served], { nqn: SERVED_NQN, listen: '127.0.0.1:0', allowAdmin: true })
  const host = await openAt(server.listeners[0]!.port)
  t.teardown(async () => {
    await host.close()
    await server.close()
    await namespace.close()
  })
  return host
}

const FORMAT = { opcode: ADMIN.FORMAT_NVM, nsid: 1 }

test('blocks that get metadata by a format are no host’s any more', async (t) => {
  let extended = false
  const host = await serveChanged(t, 'sim:?size=4M', (controller) => ({
    async identifyNamespace(nsid) {
      const id = await controller.identifyNamespace(nsid)
      if (!extended) return id
      return { ...id, flbas: id.flbas | 0x10, lbafs: id.lbafs.map((format) => ({ ...format, ms: 8 })) }
    },
  }))
  await host.promises.read(Buffer.alloc(512), 0)
  extended = true
  await host.admin(FORMAT)
  await t.throwsAsync(host.promises.read(Buffer.alloc(512), 0), { message: /Namespace Not Ready/ })
})

test('until the format that a host asked for is known, no command of any host is begun', async (t) => {
  let formatted = false
  let known: () => void = () => {}
  const host = await serveChanged(t, 'sim:?size=4M', (controller) => ({
    async identifyNamespace(nsid) {
      if (formatted) {
        await new Promise<void>((resolve) => {
          known = resolve
        })
      }
      return controller.identifyNamespace(nsid)
    },
    async admin(command) {
      const ended = await controller.admin(command)
      formatted ||= command.opcode === ADMIN.FORMAT_NVM
      return ended
    },
  }))
  const format = host.admin(FORMAT)
  while (!formatted) await new Promise(setImmediate)
  const buf = host.alloc(512)
  const command = { opcode: NVM.READ, buf, retry: false }
  await t.throwsAsync(host.promises.cmd(command, { retry: false }), { message: /Format In Progress/ })
  known()
  await format
  await host.promises.cmd(command)
  host.free(buf)
})

test('a host that formats all namespaces formats the one that it has', async (t) => {
  const { namespaces, port } = await serve(t, ['sim:?size=4M&ns=2'], { allowAdmin: true })
  const other = await namespaces[0]!.openNamespace(2)
  await other.promises.write(Buffer.alloc(512, 7), 0)
  await namespaces[0]!.promises.write(Buffer.alloc(512, 7), 0)
  const host = await openAt(port)
  await host.admin({ ...FORMAT, nsid: 0xffff_ffff })
  t.deepEqual(await host.promises.read(Buffer.alloc(512), 0), Buffer.alloc(512))
  t.deepEqual(await other.promises.read(Buffer.alloc(512), 0), Buffer.alloc(512, 7))
  await host.close()
  await other.close()
})

test('hosts read the limits of Write Zeroes and of ranges that devices have', async (t) => {
  const host = await serveChanged(t, 'sim:?size=4M', ({ identity, cap }) => ({
    identity: { ...identity, ver: 0x2_0000 },
    cap: { ...cap, mpsmin: 8192 },
    identify: async () =>
      Buffer.from(encodeCommandSetController({ vsl: 0, wzsl: 3, wusl: 0, dmrl: 1, dmrsl: 100 })),
  }))
  const { vsl, wzsl, dmrl, dmrsl } = decodeCommandSetController(
    await host.controller.identify(CNS.COMMAND_SET_CONTROLLER),
  )
  t.deepEqual([vsl, wzsl, dmrl, dmrsl], [0, 4, 1, 100])
})

test('two servers keep the reservations of their namespaces in one file', (t) => {
  const file = inFolder('reservations.json')
  const [one, two] = [new ReservationFile(file), new ReservationFile(file)]
  const state = { type: 0, holder: null, registrants: [] }
  one.of('1').save(state)
  two.of('2').save(state)
  one.of('1').save({ ...state, registrants: [['0'.repeat(32), '1'.repeat(16)]] })
  const found = new ReservationFile(file)
  t.is(found.of('1').saved?.registrants.length, 1)
  t.deepEqual(found.of('2').saved, state)
  one.of('1').save(null)
  t.is(new ReservationFile(file).of('1').saved, undefined)
})

test('a format by the program that serves is seen by hosts, each time', async (t) => {
  const { namespaces, port } = await serve(t, ['sim:?size=4M'])
  const host = await openAt(port)
  const read = () => host.promises.read(Buffer.alloc(512), 0)
  for (const again of [1, 2]) {
    await namespaces[0]!.admin({ ...FORMAT, cdw10: 1 })
    await t.throwsAsync(read(), { message: /Format In Progress|Namespace Not Ready/ }, `${again}`)
    await namespaces[0]!.admin({ ...FORMAT, cdw10: 0 })
    while ((await read().catch(() => null)) === null);
  }
  await host.close()
})

test('watchChanges has events come, each time and after resets, and hears of what is sent here', async (t) => {
  const sent: unknown[] = []
  let event = (_dword: number) => {}
  let format = (_ended: Promise<unknown>) => {}
  let resume = () => {}
  let forgotten = 0
  const forget = () => {
    forgotten++
  }
  const own = {
    identity: { oaes: 0x100 },
    async admin({ opcode, cdw10, cdw11 }: AdminCommand) {
      sent.push([opcode, (cdw10 ?? 0) & 0xffff, cdw11])
      return { result: 0x200 }
    },
    onEvent(handler: typeof event) {
      event = handler
      return forget
    },
    onFormat(handler: typeof format) {
      format = handler
      return forget
    },
    addQueueUser(user: { resume(): void }) {
      resume = user.resume
      return forget
    },
  } as unknown as DeviceNamespace['controller']
  const heard: string[] = []
  const watcher = { onFormat: () => heard.push('format'), onChange: () => heard.push('change') }
  const turn = () => new Promise(setImmediate)
  const stop = watchChanges(own, watcher)
  const asked = [
    [ADMIN.GET_FEATURES, 0x0b, undefined],
    [ADMIN.SET_FEATURES, 0x0b, 0x300],
  ]
  await turn()
  t.deepEqual(sent.splice(0), asked)
  event(0x04_0002)
  event(0x0c_0302)
  await turn()
  // Without Retain Asynchronous Event: the next one comes.
  t.deepEqual(sent.splice(0), [[ADMIN.GET_LOG_PAGE, 4, undefined]])
  resume()
  format(Promise.resolve())
  await turn()
  t.deepEqual(sent.splice(0), asked)
  t.deepEqual(heard, ['change', 'format'])
  stop()
  t.is(forgotten, 3)
  // A device of the kernel's has its events for itself.
  const others = {
    ...own,
    onEvent() {
      throw new UnsupportedError('the kernel has them')
    },
  }
  watchChanges(others, watcher)
  await turn()
  t.deepEqual(sent, [])
  format(Promise.resolve())
  t.is(heard.length, 3)
})
