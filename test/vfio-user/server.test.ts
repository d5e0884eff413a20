// Our server, spoken to byte by byte: what it answers, what it refuses, one client after the other.

import fs from 'node:fs'
import path from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { decodeRegion } from '../../lib/pci/region.ts'
import { COMMAND, CONFIG, REGION } from '../../lib/vfio-user/constants.ts'
import { closeDescriptors, readable } from '../../lib/vfio-user/socket.ts'
import {
  decodeDeviceInfo,
  decodeIrqInfo,
  encodeDeviceInfo,
  encodeDmaMap,
  encodeDmaUnmap,
  encodeIrqInfo,
  encodeIrqSet,
  encodeMessage,
  encodeRegionAccess,
  encodeRegionRequest,
} from '../../lib/vfio-user/structs.ts'
import { open, type Server, serve } from '../../src/index.ts'
import { newSocketPath, startServer } from '../support/server.ts'
import { descriptorsOf, errnoNamed, hex, newEventfd, newMemory, u16, u32, VERSION, Wire } from './wire.ts'

const CAP = 0x00
const CC = 0x14
const CSTS = 0x1c
const AQA = 0x24
const ASQ = 0x28
const ACQ = 0x30
const DOORBELLS = 0x1000
const READY = 1
const FATAL = 2
const EN = 0x0046_0001
const MSIX_CONTROL = 0x42
const MSIX_ENABLE = 0x8000
const IOVA = 0x10_0000

const map = (iova: number, size: number, { offset = 0, flags = 3 } = {}) =>
  encodeDmaMap({ flags, offset, iova, size })
const unmap = (iova: number, size: number, flags = 0) => encodeDmaUnmap({ flags, iova, size })
const register = (wire: Wire, offset: number) => wire.read(REGION.BAR0, offset).readUInt32LE()
const setRegister = (wire: Wire, offset: number, value: number) => wire.write(REGION.BAR0, offset, u32(value))

/** Bus master on, an admin queue of 16 entries at `iova` (submission) and a page behind (completion), enabled. */
function enable(wire: Wire, iova = IOVA): number {
  wire.write(REGION.CONFIG, CONFIG.COMMAND, u16(0x0406))
  setRegister(wire, AQA, 0x000f_000f)
  setRegister(wire, ASQ, iova)
  setRegister(wire, ASQ + 4, 0)
  setRegister(wire, ACQ, iova + 4096)
  setRegister(wire, ACQ + 4, 0)
  setRegister(wire, CC, EN)
  return register(wire, CSTS)
}

/** A controller with its admin queue in memory of this process. */
function bringUp(wire: Wire) {
  const memory = newMemory(65536)
  wire.errno(COMMAND.DMA_MAP, map(IOVA, 65536), [memory.fd])
  enable(wire)
  let tail = 0
  return {
    ...memory,
    /** Sends an admin command and waits until its completion is there; returns its status. */
    admin(opcode: number, { prp1 = 0, cdw10 = 0, cdw11 = 0, nsid = 0 } = {}): number {
      const at = tail * 16
      memory.words.fill(0, at, at + 16)
      memory.words[at] = opcode | (tail << 16)
      memory.words[at + 1] = nsid
      memory.words[at + 6] = prp1
      memory.words[at + 10] = cdw10
      memory.words[at + 11] = cdw11
      const entry = 1024 + tail * 4 + 3
      tail++
      setRegister(wire, DOORBELLS, tail)
      while (memory.words[entry] === 0) register(wire, CSTS)
      return memory.words[entry]! >>> 17
    },
  }
}

const served = test.macro(
  async (t, doorbells: 'mapped' | 'shadow', body: (t: ExecutionContext, wire: Wire) => void) => {
    const server = await startServer({ device: 'sim:?size=4M&qcount=4', doorbells })
    const wire = Wire.connect(server.socket).negotiate()
    try {
      body(t, wire)
      t.is(wire.errno(COMMAND.GET_INFO, encodeDeviceInfo({ flags: 0, regions: 0, irqs: 0 })), 0, 'it goes on')
    } finally {
      wire.close()
      await server.stop()
    }
  },
)

test.serial('version: its numbers and abilities; asked once, and before everything else', async (t) => {
  const server = await startServer({ device: 'sim:?size=4M' })
  const wire = Wire.connect(server.socket)
  t.is(
    wire.errno(COMMAND.GET_INFO, encodeDeviceInfo({ flags: 0, regions: 0, irqs: 0 })),
    errnoNamed('EINVAL'),
  )
  t.is(wire.errno(COMMAND.VERSION, hex('0100 0000')), errnoNamed('EINVAL'), 'another major version')
  t.is(wire.errno(COMMAND.VERSION, hex('0000')), errnoNamed('EINVAL'))
  t.is(wire.errno(COMMAND.VERSION, hex('0000 0100 7b')), errnoNamed('EINVAL'))
  const { header, payload } = wire.ask(COMMAND.VERSION, hex('0000 0200'))
  t.deepEqual(header, { id: 4, command: 1, size: 16 + VERSION.length, flags: 1, errno: 0 })
  t.deepEqual(payload, VERSION)
  t.is(wire.errno(COMMAND.VERSION, VERSION), errnoNamed('EINVAL'))
  wire.close()
  await server.stop()
})

test.serial('an error reply is the header alone', served, 'mapped', (t, wire) => {
  for (const command of [6, 11, 12, 14, 15, 0, 0xffff]) {
    const { header, payload } = wire.ask(command, Buffer.alloc(40))
    t.is(header.flags, 0x21)
    t.is(header.size, 16)
    t.is(header.errno, errnoNamed('ENOTSUP'))
    t.is(header.command, command)
    t.is(payload.length, 0)
  }
})

test.serial('device, regions and interrupts', served, 'mapped', (t, wire) => {
  const info = wire.ask(COMMAND.GET_INFO, encodeDeviceInfo({ flags: 0, regions: 0, irqs: 0 })).payload
  t.deepEqual(decodeDeviceInfo(info), { flags: 3, regions: 9, irqs: 5 })
  const bar = wire.ask(COMMAND.GET_REGION_INFO, encodeRegionRequest(REGION.BAR0))
  const { areas, size, capOffset } = decodeRegion(bar.payload)
  t.deepEqual([areas, size, capOffset], [[{ offset: 0x1000, size: 0x1000 }], 0x2000, 0x20])
  t.deepEqual(bar.fds.length, 1)
  t.deepEqual(fs.fstatSync(bar.fds[0]!).size, 0x2000)
  closeDescriptors(bar.fds)
  for (const [index, bytes] of [
    [1, 0],
    [4, 4096],
    [5, 4096],
    [6, 0],
    [7, 4096],
    [8, 0],
  ] as const) {
    const { payload, fds } = wire.ask(COMMAND.GET_REGION_INFO, encodeRegionRequest(index))
    t.deepEqual([decodeRegion(payload).size, fds.length], [bytes, 0], `region ${index}`)
  }
  t.deepEqual(wire.errno(COMMAND.GET_REGION_INFO, encodeRegionRequest(9)), errnoNamed('EINVAL'))
  const counts = [0, 1, 2, 3, 4].map((index) => {
    const { payload } = wire.ask(COMMAND.GET_IRQ_INFO, encodeIrqInfo({ flags: 0, index, count: 0 }))
    return decodeIrqInfo(payload).count
  })
  t.deepEqual(counts, [0, 0, 5, 0, 0])
  t.deepEqual(
    wire.errno(COMMAND.GET_IRQ_INFO, encodeIrqInfo({ flags: 0, index: 5, count: 0 })),
    errnoNamed('EINVAL'),
  )
})

test.serial(
  'region info for who has no room for capabilities says how much is needed, and sends no file',
  served,
  'mapped',
  (t, wire) => {
    const request = encodeRegionRequest(REGION.BAR0)
    request.writeUInt32LE(32, 0)
    const { payload, fds } = wire.ask(COMMAND.GET_REGION_INFO, request)
    t.deepEqual(
      [payload.length, payload.readUInt32LE(0), payload.readUInt32LE(12), fds.length],
      [32, 64, 0, 0],
    )
  },
)

test.serial('no file of doorbells where they come as messages', served, 'shadow', (t, wire) => {
  const { payload, fds } = wire.ask(COMMAND.GET_REGION_INFO, encodeRegionRequest(REGION.BAR0))
  t.deepEqual([decodeRegion(payload).areas, fds.length], [[], 0])
})

test.serial('requests that are too short, or whose argsz is', served, 'mapped', (t, wire) => {
  const requests: [number, Buffer][] = [
    [COMMAND.DMA_MAP, map(IOVA, 4096)],
    [COMMAND.DMA_UNMAP, unmap(IOVA, 4096)],
    [COMMAND.GET_INFO, encodeDeviceInfo({ flags: 0, regions: 0, irqs: 0 })],
    [COMMAND.GET_REGION_INFO, encodeRegionRequest(0)],
    [COMMAND.GET_IRQ_INFO, encodeIrqInfo({ flags: 0, index: 2, count: 0 })],
    [COMMAND.SET_IRQS, encodeIrqSet({ flags: 0x21, index: 2, start: 0, count: 0 })],
    [COMMAND.REGION_READ, encodeRegionAccess({ region: 0, offset: 0, count: 4 })],
    [COMMAND.REGION_WRITE, encodeRegionAccess({ region: 0, offset: CC, count: 4 })],
  ]
  for (const [command, payload] of requests) {
    for (const bytes of [0, 4, payload.length - 1]) {
      t.deepEqual(
        wire.errno(command, payload.subarray(0, bytes)),
        errnoNamed('EINVAL'),
        `${command}, ${bytes} bytes`,
      )
    }
    if (command >= COMMAND.REGION_READ) continue
    const small = Buffer.from(payload)
    small.writeUInt32LE(payload.length - 1, 0)
    t.deepEqual(wire.errno(command, small), errnoNamed('EINVAL'), `${command}, argsz`)
  }
})

test.serial(
  'memory: whole pages within a file, none twice, 64 mappings, unmapped as they were mapped',
  served,
  'mapped',
  (t, wire) => {
    const { fd, end } = newMemory(65536)
    const mapped = (request: Buffer, fds: number[] = [fd]) => wire.errno(COMMAND.DMA_MAP, request, fds)
    const unmapped = (request: Buffer) => wire.errno(COMMAND.DMA_UNMAP, request)
    for (const [iova, size, offset] of [
      [0x800, 4096, 0],
      [0x1000, 100, 0],
      [0x1000, 0, 0],
      [0x1000, 4096, 8],
    ] as const) {
      t.deepEqual(mapped(map(iova, size, { offset })), errnoNamed('EINVAL'), `${iova} ${size} ${offset}`)
    }
    t.deepEqual(
      mapped(map(IOVA, 65536, { offset: 4096 })),
      errnoNamed('EINVAL'),
      'beyond the end of the file',
    )
    const pipe = newEventfd()
    t.deepEqual(mapped(map(IOVA, 4096), [pipe]), errnoNamed('EINVAL'), 'no file')
    fs.closeSync(pipe)
    t.deepEqual(mapped(map(IOVA, 8192)), 0)
    t.deepEqual(mapped(map(IOVA + 4096, 8192)), errnoNamed('EEXIST'))
    t.deepEqual(mapped(map(IOVA, 8192)), errnoNamed('EEXIST'))
    t.deepEqual(unmapped(unmap(IOVA, 4096)), errnoNamed('ENOENT'), 'half of it')
    t.deepEqual(unmapped(unmap(IOVA + 4096, 4096)), errnoNamed('ENOENT'))
    const request = unmap(IOVA, 8192)
    t.deepEqual(wire.ask(COMMAND.DMA_UNMAP, request).payload.equals(request), true)
    t.deepEqual(unmapped(request), errnoNamed('ENOENT'), 'twice')
    for (let i = 0; i < 64; i++) t.deepEqual(mapped(map(i * 65536, 4096)), 0)
    t.deepEqual(mapped(map(IOVA * 16, 4096)), errnoNamed('ENOSPC'))
    t.deepEqual(unmapped(unmap(0, 4096, 2)), errnoNamed('EINVAL'), 'all, with a size')
    t.deepEqual(unmapped(unmap(0, 0, 2)), 0, 'all')
    t.deepEqual(mapped(map(0, 4096)), 0)
    t.deepEqual(unmapped(unmap(0, 4096, 1)), errnoNamed('ENOTSUP'))
    end()
  },
)

test.serial(
  'memory without a descriptor is taken, and a controller in it fails',
  served,
  'mapped',
  (t, wire) => {
    t.deepEqual(wire.errno(COMMAND.DMA_MAP, map(IOVA, 65536)), 0)
    t.deepEqual(enable(wire), FATAL)
    t.deepEqual(wire.errno(COMMAND.DMA_UNMAP, unmap(IOVA, 65536)), 0)
  },
)

test.serial('registers: 4 or 8 bytes, whole ones, within the BAR', served, 'mapped', (t, wire) => {
  const both = wire.read(REGION.BAR0, CAP, 8)
  t.deepEqual([register(wire, CAP), register(wire, CAP + 4)], [both.readUInt32LE(0), both.readUInt32LE(4)])
  for (const [region, offset, count] of [
    [0, 0, 2],
    [0, 2, 4],
    [0, 0x2000, 4],
    [0, 0, 0],
    [7, 4095, 2],
    [1, 0, 4],
    [9, 0, 4],
  ] as const) {
    const request = encodeRegionAccess({ region, offset, count })
    t.deepEqual(
      wire.errno(COMMAND.REGION_READ, request),
      errnoNamed('EINVAL'),
      `${region} ${offset} ${count}`,
    )
  }
  const more = encodeRegionAccess({ region: 0, offset: CC, count: 8 }, u32(0))
  t.deepEqual(wire.errno(COMMAND.REGION_WRITE, more), errnoNamed('EINVAL'), 'fewer bytes than count says')
})

test.serial(
  'a queue whose memory is unmapped: the controller is fatal, the server goes on',
  served,
  'mapped',
  (t, wire) => {
    const memory = bringUp(wire)
    t.deepEqual(memory.admin(0x06, { prp1: IOVA + 8192, cdw10: 1 }), 0)
    t.deepEqual(memory.words[2049] !== 0, true, 'Identify has written')
    t.deepEqual(wire.errno(COMMAND.DMA_UNMAP, unmap(IOVA, 65536)), 0)
    t.deepEqual(register(wire, CSTS) & FATAL, FATAL)
    setRegister(wire, DOORBELLS, 5)
    t.deepEqual(wire.errno(COMMAND.DEVICE_RESET), 0)
    t.deepEqual(register(wire, CSTS), 0)
    t.deepEqual(wire.errno(COMMAND.DMA_MAP, map(IOVA, 65536), [memory.fd]), 0)
    t.deepEqual(enable(wire), READY)
    memory.end()
  },
)

test.serial(
  'data whose memory is unmapped while its command waits: the command fails, nothing else',
  async (t) => {
    const server = await startServer({ device: 'sim:?size=4M&qcount=4&latency=100ms' })
    const wire = Wire.connect(server.socket).negotiate()
    const { words, admin, end } = bringUp(wire)
    const data = newMemory(65536)
    const DATA = 0x100_0000
    t.is(wire.errno(COMMAND.DMA_MAP, map(DATA, 65536), [data.fd]), 0)
    t.is(admin(0x05, { prp1: IOVA + 3 * 4096, cdw10: 0x0007_0001, cdw11: 1 }), 0)
    t.is(admin(0x01, { prp1: IOVA + 4 * 4096, cdw10: 0x0007_0001, cdw11: 0x0001_0001 }), 0)
    // Two reads, to memory that goes and to memory that stays.
    const sq = 4 * 1024
    for (const [i, prp1] of [DATA, IOVA + 8192].entries()) {
      words[sq + 16 * i] = 0x02 | (i << 16)
      words[sq + 16 * i + 1] = 1
      words[sq + 16 * i + 6] = prp1
    }
    setRegister(wire, DOORBELLS + 8, 2)
    t.is(wire.errno(COMMAND.DMA_UNMAP, unmap(DATA, 65536)), 0)
    const cq = 3 * 1024
    while (words[cq + 7] === 0) register(wire, CSTS)
    t.not(words[cq + 3]! >>> 17, 0)
    t.is(words[cq + 7]! >>> 17, 0)
    t.is(register(wire, CSTS), READY)
    wire.close()
    data.end()
    end()
    await server.stop()
  },
)

test.serial('interrupts: with eventfds, MSI-X and IEN, and not before', served, 'mapped', (t, wire) => {
  const { admin, end } = bringUp(wire)
  const eventfds = [newEventfd(), newEventfd(), newEventfd()]
  const count = (fd: number) => {
    const value = Buffer.alloc(8)
    try {
      fs.readSync(fd, value)
    } catch {
      return 0
    }
    return value.readUInt32LE()
  }
  const set = (start: number, fds: number[], flags = 0x24) =>
    wire.errno(COMMAND.SET_IRQS, encodeIrqSet({ flags, index: 2, start, count: fds.length }), fds)
  t.deepEqual(set(0, eventfds.slice(0, 2)), 0)
  t.deepEqual(set(2, eventfds.slice(2)), 0)
  t.deepEqual(admin(0x06, { prp1: IOVA + 8192, cdw10: 1 }), 0)
  t.deepEqual(count(eventfds[0]!), 0, 'MSI-X is off')
  wire.write(REGION.CONFIG, MSIX_CONTROL, u16(MSIX_ENABLE))
  t.deepEqual(admin(0x06, { prp1: IOVA + 8192, cdw10: 1 }), 0)
  t.deepEqual(count(eventfds[0]!), 1, 'the admin queue interrupts always')
  // I/O queue pairs 1 (IEN, vector 2) and 2 (no interrupts), and a read of each.
  t.deepEqual(admin(0x05, { prp1: IOVA + 3 * 4096, cdw10: 0x0007_0001, cdw11: 0x0002_0003 }), 0)
  t.deepEqual(admin(0x01, { prp1: IOVA + 4 * 4096, cdw10: 0x0007_0001, cdw11: 0x0001_0001 }), 0)
  t.deepEqual(admin(0x05, { prp1: IOVA + 5 * 4096, cdw10: 0x0007_0002, cdw11: 0x0001_0001 }), 0)
  t.deepEqual(admin(0x01, { prp1: IOVA + 6 * 4096, cdw10: 0x0007_0002, cdw11: 0x0002_0001 }), 0)
  setRegister(wire, DOORBELLS + 8, 1)
  setRegister(wire, DOORBELLS + 16, 1)
  t.deepEqual(register(wire, CSTS), READY)
  t.deepEqual([count(eventfds[1]!), count(eventfds[2]!)], [0, 1])
  t.deepEqual(set(5, eventfds.slice(0, 1)), errnoNamed('EINVAL'), 'there are five')
  t.deepEqual(set(4, eventfds.slice(0, 2)), errnoNamed('EINVAL'))
  t.deepEqual(set(0, eventfds.slice(0, 1), 0x28), errnoNamed('ENOTSUP'), 'a mask')
  const one = encodeIrqSet({ flags: 0x24, index: 2, start: 0, count: 3 })
  t.deepEqual(wire.errno(COMMAND.SET_IRQS, one, eventfds.slice(0, 2)), errnoNamed('EINVAL'), 'two for three')
  const file = fs.openSync('/dev/null', 'r+')
  t.deepEqual(set(0, [file]), errnoNamed('EINVAL'), 'no eventfd')
  for (const fd of [file, ...eventfds]) fs.closeSync(fd)
  end()
})

test.serial(
  'an interrupt that the client asks for itself (no data, trigger)',
  served,
  'mapped',
  (t, wire) => {
    const eventfd = newEventfd()
    const set = (flags: number, count: number, fds: number[] = []) =>
      wire.errno(COMMAND.SET_IRQS, encodeIrqSet({ flags, index: 2, start: 0, count }), fds)
    t.deepEqual(set(0x24, 1, [eventfd]), 0)
    t.deepEqual(set(0x21, 1), 0)
    const value = Buffer.alloc(8)
    fs.readSync(eventfd, value)
    t.deepEqual(value.readUInt32LE(), 1)
    t.deepEqual(set(0x21, 0), 0, 'off')
    t.deepEqual(set(0x21, 1), 0)
    try {
      fs.readSync(eventfd, value)
      t.fail('an interrupt')
    } catch (error) {
      t.deepEqual((error as NodeJS.ErrnoException).code, 'EAGAIN')
    }
    fs.closeSync(eventfd)
  },
)

test.serial('configuration space outlives its client, registers of the controller do not', async (t) => {
  const server = await startServer({ device: 'sim:?size=4M' })
  const first = Wire.connect(server.socket).negotiate()
  const { end } = bringUp(first)
  t.is(register(first, CSTS), READY)
  first.close()
  const second = Wire.connect(server.socket).negotiate()
  t.deepEqual(second.read(REGION.CONFIG, CONFIG.COMMAND, 2), u16(0x0406))
  t.is(register(second, CC), 0)
  t.is(register(second, CSTS), 0)
  // Mappings are gone as well.
  t.is(enable(second), FATAL)
  second.close()
  await server.stop()
  end()
})

test.serial(
  'one client at a time: the version reply of the second comes when the first has left',
  async (t) => {
    const server = await startServer({ device: 'sim:?size=4M' })
    const first = Wire.connect(server.socket).negotiate()
    const second = Wire.connect(server.socket)
    second.raw(encodeMessage({ id: 9, command: COMMAND.VERSION, flags: 0 }, VERSION))
    // However often the first asks, the second is not answered.
    for (let i = 0; i < 100; i++) register(first, CSTS)
    t.false(await readable(second.fd, 0))
    first.close()
    t.is(second.next()?.header.id, 9)
    t.is(register(second, CSTS), 0)
    second.close()
    await server.stop()
  },
)

test.serial('who connects and says nothing is let go, and the next one served', async (t) => {
  const server = await startServer({ device: 'sim:?size=4M' })
  const silent = Wire.connect(server.socket)
  const ns = await open(server.address)
  t.is(silent.next(), null)
  await ns.promises.flush()
  await ns.close()
  silent.close()
  await server.stop()
})

test.serial(
  'what can not be cut out of the stream gets an error reply, and ends the session; the next client is served',
  async (t) => {
    const server = await startServer({ device: 'sim:?size=4M' })
    const before = descriptorsOf(server.child.pid!)
    for (const [what, bytes] of [
      ['a size of 0', hex('0100 0400 00000000 00000000 00000000')],
      ['a size below the header', hex('0100 0400 0f000000 00000000 00000000')],
      ['a size of 4 GiB', hex('0100 0400 ffffffff 00000000 00000000')],
    ] as const) {
      const wire = Wire.connect(server.socket).negotiate()
      wire.raw(bytes)
      t.like(wire.next()?.header, { id: 1, command: 4, flags: 0x21, errno: errnoNamed('EINVAL') }, what)
      t.is(wire.next(), null, what)
      wire.close()
    }
    const half = Wire.connect(server.socket).negotiate()
    const { fd, end } = newMemory(4096)
    half.raw(hex('0100 0200 30000000 0000'), [fd])
    half.close()
    const flooding = Wire.connect(server.socket).negotiate()
    flooding.raw(hex('0100 0400 10000000 00000000 00000000'), new Array(9).fill(fd))
    t.is(flooding.next()?.header.errno, undefined, 'nine descriptors')
    flooding.close()
    const last = Wire.connect(server.socket).negotiate()
    t.is(register(last, CSTS), 0)
    last.close()
    t.is(Wire.connect(server.socket).negotiate().read(REGION.BAR0, CSTS).readUInt32LE(), 0)
    t.deepEqual(descriptorsOf(server.child.pid!).filter(notOfSessions), before.filter(notOfSessions))
    await server.stop()
    end()
  },
)

// The doorbells' file is made anew for each client, and the connection is open while there is one.
const notOfSessions = (link: string) => !link.startsWith('socket:')

test.serial(
  'replies that were never asked for are ignored, other types refused, and who wants no reply gets none',
  served,
  'mapped',
  (t, wire) => {
    const message = (flags: number, command: number = COMMAND.GET_INFO) =>
      encodeMessage({ id: 77, command, flags }, encodeDeviceInfo({ flags: 0, regions: 0, irqs: 0 }))
    wire.raw(Buffer.concat([message(1), message(0x10), message(0x10, 99), message(2)]))
    t.deepEqual(wire.next()?.header.errno, errnoNamed('EINVAL'), 'type 2')
    wire.raw(message(0))
    t.deepEqual(wire.next()?.header.errno, 0)
  },
)

test.serial('a message in pieces is a message', served, 'mapped', (t, wire) => {
  const { fd, end } = newMemory(4096)
  const message = encodeMessage({ id: 3, command: COMMAND.DMA_MAP, flags: 0 }, map(IOVA, 4096))
  for (let at = 0; at < message.length; at++) wire.raw(message.subarray(at, at + 1), at === 0 ? [fd] : [])
  t.deepEqual(wire.next()?.header, { id: 3, command: 2, size: 16, flags: 1, errno: 0 })
  t.deepEqual(wire.errno(COMMAND.DMA_UNMAP, unmap(IOVA, 4096)), 0)
  end()
})

test.serial(
  'a socket that a dead server left is replaced; a living one, a file or a missing folder are not',
  async (t) => {
    const socket = newSocketPath()
    const address = `vfio-user:${socket}`
    const killed = await startServer({ device: 'sim:?size=4M' }, socket)
    await killed.stop('SIGKILL')
    t.true(fs.existsSync(socket))
    await using server = closing(serve(address, { device: 'sim:?size=4M' }))
    t.throws(() => serve(address), { code: 'ERR_UNVME_IN_USE', message: /another server listens/ })
    const file = `${socket}-file`
    fs.writeFileSync(file, 'data')
    t.throws(() => serve(`vfio-user:${file}`), { code: 'ERR_UNVME_ADDRESS', message: /no socket/ })
    t.is(fs.readFileSync(file, 'utf8'), 'data')
    fs.symlinkSync('/nowhere', `${file}-link`)
    t.throws(() => serve(`vfio-user:${file}-link`), { code: 'ERR_UNVME_ADDRESS' })
    t.throws(() => serve('vfio-user:/no/such/folder/cntrl'), {
      code: 'ERR_UNVME_ADDRESS',
      message: /no folder/,
    })
    t.throws(() => serve(`vfio-user:/tmp/${'x'.repeat(120)}`), { code: 'ERR_UNVME_ADDRESS', message: /107/ })
    t.throws(() => serve(`${address}-2?nsid=1`), { code: 'ERR_UNVME_ADDRESS', message: /every namespace/ })
    t.throws(() => serve(`${address}-2`, { device: 'sim:?thread=1' }), { code: 'ERR_UNVME_ADDRESS' })
    t.throws(() => serve(`${address}-2`, { device: 'sim:?nsid=1' }), { code: 'ERR_UNVME_ADDRESS' })
    t.throws(() => serve(`${address}-2`, { device: 'sim:no-such.img' }), { code: 'ERR_UNVME_IMAGE' })
    t.false(fs.existsSync(`${socket}-2`))
    server.close()
    t.false(fs.existsSync(socket), 'its socket goes with it')
  },
)

test.serial('close leaves the socket of whoever has taken its place', async (t) => {
  const address = `vfio-user:${newSocketPath()}`
  const first = serve(address, { device: 'sim:?size=4M' })
  fs.rmSync(first.path)
  const second = serve(address, { device: 'sim:?size=4M' })
  first.close()
  t.true(fs.existsSync(second.path))
  second.close()
})

function closing(server: Server): Server & AsyncDisposable {
  return { ...server, [Symbol.asyncDispose]: async () => server.close() }
}

test.serial(
  'what a client made of the image is there for the next: blocks, formats, saved features',
  async (t) => {
    const folder = fs.mkdtempSync(path.join(path.dirname(newSocketPath()), 'image-'))
    const device = `sim:${path.join(folder, 'disk.img')}?size=4M`
    for (const round of [1, 2]) {
      const server = await startServer({ device })
      const ns = await open(server.address)
      if (round === 1) {
        await ns.promises.write(Buffer.alloc(512, 'kept'), 5)
        // Volatile Write Cache off, saved.
        await ns.admin({ opcode: 0x09, cdw10: 0x8000_0006, cdw11: 0 })
      } else {
        t.is((await ns.promises.read(Buffer.alloc(512), 5)).toString('latin1', 0, 8), 'keptkept')
        t.is((await ns.admin({ opcode: 0x0a, cdw10: 0x06 })).result, 0)
      }
      await ns.close()
      await server.stop()
    }
  },
)

test.serial(
  'what a served controller does in the background ends by itself: a sanitize operation is reported',
  async (t) => {
    const server = await startServer({ device: 'sim:?size=4M&operation=30ms', doorbells: 'shadow' })
    const ns = await open(server.address)
    const event = new Promise<number>((resolve) => ns.controller.onEvent(resolve))
    const kept = setInterval(() => {}, 1000)
    await ns.admin({ opcode: 0x84, cdw10: 2 })
    // I/O command set specific, sanitize operation completed, its log page.
    t.is(await event, 0x81_0106)
    clearInterval(kept)
    await ns.close()
    await server.stop()
  },
)
