// Our server, spoken to byte by byte: what it answers, and what it refuses.

import fs from 'node:fs'
import test from 'ava'
import {
  decodeDeviceInfo,
  decodeIrqInfo,
  encodeDeviceInfo,
  encodeIrqInfo,
  encodeIrqSet,
  encodeRegionRequest,
  REGION,
} from '../../lib/vfio-abi/device.ts'
import { decodeRegion } from '../../lib/vfio-abi/region.ts'
import { COMMAND } from '../../lib/vfio-user/constants.ts'
import { closeDescriptors } from '../../lib/vfio-user/socket.ts'
import { encodeMessage, encodeRegionAccess } from '../../lib/vfio-user/structs.ts'
import { startServer } from '../support/server.ts'
import { CAP, CC, IOVA, map, register, served, unmap } from './raw-controller.ts'
import { errnoNamed, hex, newEventfd, newMemory, u32, VERSION, Wire } from './wire.ts'

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
