// A served controller, seen from the socket: memory that is unmapped, interrupts, what outlives a client.

import fs from 'node:fs'
import path from 'node:path'
import test from 'ava'
import { CONFIG_COMMAND, encodeIrqSet, REGION } from '../../lib/vfio-abi/device.ts'
import { COMMAND } from '../../lib/vfio-user/constants.ts'

import { open } from '../../src/index.ts'
import { newSocketPath, startServer } from '../support/server.ts'
import {
  bringUp,
  CC,
  CSTS,
  DOORBELLS,
  enable,
  FATAL,
  IOVA,
  MSIX_CONTROL,
  MSIX_ENABLE,
  map,
  READY,
  register,
  served,
  setRegister,
  unmap,
} from './raw-controller.ts'
import { errnoNamed, newEventfd, newMemory, u16, Wire } from './wire.ts'

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
  t.deepEqual(second.read(REGION.CONFIG, CONFIG_COMMAND, 2), u16(0x0406))
  t.is(register(second, CC), 0)
  t.is(register(second, CSTS), 0)
  // Mappings are gone as well.
  t.is(enable(second), FATAL)
  second.close()
  await server.stop()
  end()
})

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
