// Three times 10 000 requests to a server, two of three mutated, with commands for its controller among them: it answers or
// ends the session, leaks nothing, and serves a driver afterwards.

import test from 'ava'
import {
  encodeDeviceInfo,
  encodeIrqInfo,
  encodeIrqSet,
  encodeRegionRequest,
  REGION,
} from '../../lib/vfio-abi/device.ts'
import { COMMAND } from '../../lib/vfio-user/constants.ts'
import { closeDescriptors } from '../../lib/vfio-user/socket.ts'
import {
  encodeDmaMap,
  encodeDmaUnmap,
  encodeMessage,
  encodeRegionAccess,
} from '../../lib/vfio-user/structs.ts'
import { open } from '../../src/index.ts'
import { type ServedOptions, startServer } from '../support/server.ts'
import { changeBytes, createRandom, type Random, randomDescriptors } from './mutations.ts'
import { descriptorsOfServer, newEventfd, newMemory, u32, VERSION, Wire } from './wire.ts'

const REQUESTS = 10_000
const PER_SESSION = 50
const MEMORY = 65536
const INFO = encodeDeviceInfo({ flags: 0, regions: 0, irqs: 0 })
const memory = newMemory(MEMORY)

interface Request {
  command: number
  payload: Buffer
  fds: number[]
}

const access = (region: number, offset: number, data: Buffer) =>
  encodeRegionAccess({ region, offset, count: data.length }, data)

/** A request as a driver makes them; its descriptors are for the caller to close. */
function request(random: Random): Request {
  const make = (command: number, payload: Buffer, fds: number[] = []): Request => ({ command, payload, fds })
  const iova = random(8) * 8192
  switch (random(12)) {
    case 0:
      return make(COMMAND.DMA_MAP, encodeDmaMap({ flags: 3, offset: 0, iova, size: 8192 }), [memory.fd])
    case 1:
      return make(COMMAND.DMA_UNMAP, encodeDmaUnmap({ flags: 0, iova, size: 8192 }))
    case 2:
      return make(COMMAND.GET_REGION_INFO, encodeRegionRequest(random(10)))
    case 3:
      return make(COMMAND.GET_IRQ_INFO, encodeIrqInfo({ flags: 0, index: random(6), count: 0 }))
    case 4: {
      const count = 1 + random(4)
      const fds = Array.from({ length: count }, newEventfd)
      return make(COMMAND.SET_IRQS, encodeIrqSet({ flags: 0x24, index: 2, start: random(4), count }), fds)
    }
    case 5:
      return make(
        COMMAND.REGION_READ,
        encodeRegionAccess({ region: random(10), offset: random(64) * 4, count: 4 }),
      )
    case 6:
      return make(COMMAND.REGION_WRITE, access(REGION.CONFIG, random(128) * 2, u32(random(2 ** 32))))
    case 7:
      return make(COMMAND.REGION_WRITE, access(REGION.CONFIG, 4, u32(0x0406)))
    case 8:
      // Queues, enable, disable, doorbells: with whatever is in the memory as commands.
      return make(COMMAND.REGION_WRITE, access(REGION.BAR0, 0x24, u32(0x000f_000f)))
    case 9:
      return make(COMMAND.REGION_WRITE, access(REGION.BAR0, 0x14, u32(random(3) === 0 ? 0 : 0x0046_0001)))
    case 10:
      return make(COMMAND.REGION_WRITE, access(REGION.BAR0, 0x1000 + random(8) * 4, u32(random(16))))
    default:
      return make(random(20), random(2) === 0 ? INFO : VERSION)
  }
}

/** Admin commands at the start of the memory, the likeliest of them queues, Identify and reads of logs. */
function scribble(random: Random): void {
  const { words } = memory
  for (let i = 0; i < 64; i++) {
    const at = random(64) * 16
    for (let word = 0; word < 16; word++)
      words[at + word] = random(4) === 0 ? random(2 ** 32) : random(16) * 4096
    const opcodes = [
      0,
      1,
      2,
      4,
      5,
      6,
      8,
      9,
      10,
      12,
      0x0d,
      0x10,
      0x11,
      0x14,
      0x15,
      0x7c,
      0x80,
      0x84,
      random(256),
    ]
    words[at] = opcodes[random(opcodes.length)]! | (i << 16)
    words[at + 1] = random(3)
  }
}

const SERVED: [what: string, seed: number, options: ServedOptions][] = [
  ['mapped', 11, { device: 'sim:?size=4M&qcount=3&operation=1ms' }],
  ['shadow', 12, { device: 'sim:?size=4M&qcount=3&operation=1ms', doorbells: 'shadow' }],
  [
    'mapped, namespaces',
    13,
    { namespaces: ['sim:?size=4M&latency=1us-3ms', 'sim:?size=4M'], queues: 3, memory: 2 ** 20 },
  ],
]

for (const [what, seed, options] of SERVED) {
  test.serial(`${REQUESTS} requests, doorbells ${what}`, async (t) => {
    const random = createRandom(seed)
    const server = await startServer(options)
    const pid = server.child.pid!
    // What is made once is there after the first client.
    Wire.connect(server.socket).negotiate().close()
    Wire.connect(server.socket).negotiate().close()
    const before = descriptorsOfServer(pid, server.socket).length
    let sent = 0
    let answered = 0
    while (sent < REQUESTS) {
      const wire = Wire.connect(server.socket).negotiate()
      scribble(random)
      for (let i = 0; i < PER_SESSION; i++) {
        const { command, payload, fds } = request(random)
        const good = encodeMessage({ id: i, command, flags: 0 }, payload)
        const more = random(10) === 0 ? randomDescriptors(random) : []
        const bytes = random(3) === 0 ? good : changeBytes(good, random)
        const whole = wire.raw(bytes, [...fds, ...more].slice(0, 9))
        closeDescriptors([...fds.filter((fd) => fd !== memory.fd), ...more])
        sent++
        if (!whole || bytes.readUInt32LE(4) !== bytes.length) break
        answered += drain(wire)
      }
      // Whatever it has made of them: it answers, or has ended the session.
      wire.raw(encodeMessage({ id: 60_000, command: COMMAND.GET_INFO, flags: 0 }, INFO))
      wire.close()
    }
    t.is(server.child.exitCode, null)
    t.true(answered > REQUESTS / 2, `${answered} answers`)
    t.true(descriptorsOfServer(pid, server.socket).length <= before, 'descriptors were leaked')

    const ns = await open(server.address)
    const data = Buffer.alloc(8192, 'after all that')
    await ns.promises.write(data, 3)
    t.deepEqual(await ns.promises.read(Buffer.alloc(8192), 3), data)
    await ns.close()
    await server.stop()
    t.log(`${sent} sent, ${answered} answered`)
  })
}

/** Takes what has been answered so far. */
function drain(wire: Wire): number {
  let count = 0
  for (;;) {
    const message = wire.next(count === 0 ? 5 : 0)
    if (message === null) return count
    closeDescriptors(message.fds)
    count++
  }
}

test.after.always(() => memory.end())
