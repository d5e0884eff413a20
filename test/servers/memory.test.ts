// Memory of a server's commands: no command has what another has, no host more than its share, and what waits comes in turn.

import test from 'ava'
import fc from 'fast-check'
import { DmaPool } from '../../lib/memory/pool.ts'
import { PlainMemory } from '../../lib/nvme/tcp/memory.ts'
import { DataMemory, type DmaBlock, type MemoryUser } from '../../src/servers/nvme-tcp/memory.ts'

const BYTES = 2 ** 20

interface Client extends MemoryUser {
  readonly wants: number[]
  readonly blocks: DmaBlock[]
}

const poolOf = (memory: PlainMemory) => new DmaPool(memory, { views: memory })

function setUp(count: number) {
  const memory = new DataMemory(poolOf(new PlainMemory('test')), BYTES)
  const clients = Array.from({ length: count }, (): Client => {
    const client: Client = { held: 0, onRoom: null, wants: [], blocks: [] }
    // As an association asks: its first want again and again, others behind it.
    client.onRoom = () => {
      while (client.wants.length > 0) {
        const block = memory.take(client.wants[0]!, client)
        if (block === null) return
        client.wants.shift()
        client.blocks.push(block)
      }
    }
    return client
  })
  return { memory, clients }
}

test('DataMemory gives every command its memory in the end, and never the same twice', (t) => {
  const step = fc.record({
    who: fc.nat(3),
    bytes: fc.integer({ min: 1, max: BYTES / 2 }),
    gives: fc.boolean(),
  })
  fc.assert(
    fc.property(fc.array(step, { maxLength: 120 }), (steps) => {
      const { memory, clients } = setUp(4)
      const give = (client: Client) => {
        const block = client.blocks.shift()
        if (block !== undefined) memory.give(block, client)
      }
      const check = () => {
        const taken = new Set<number>()
        for (const { blocks, held } of clients) {
          t.true(blocks.length <= 1 || held <= BYTES / 4)
          for (const { page, bytes } of blocks) {
            for (let i = 0; i < Math.ceil(bytes.length / 4096); i++) {
              t.false(taken.has(page + i))
              taken.add(page + i)
            }
          }
        }
        t.is(memory.available, BYTES - taken.size * 4096)
      }
      for (const { who, bytes, gives } of steps) {
        const client = clients[who]!
        if (gives) give(client)
        else {
          client.wants.push(bytes)
          if (client.wants.length === 1) client.onRoom!()
        }
        check()
      }
      // Memory that is in use comes back, and so no command waits for ever.
      for (let holder = clients.find(({ blocks }) => blocks.length > 0); holder !== undefined; ) {
        give(holder)
        check()
        holder = clients.find(({ blocks }) => blocks.length > 0)
      }
      for (const { wants } of clients) t.deepEqual(wants, [])
      t.is(memory.available, BYTES)
    }),
    { numRuns: 40 },
  )
})

test('DataMemory: what does not fit is not passed by what would', (t) => {
  const { memory, clients } = setUp(3)
  const [a, b, c] = clients as [Client, Client, Client]
  const first = memory.take(BYTES - 8192, a)!
  t.is(memory.take(BYTES / 2, b), null)
  // There would be space for it.
  t.is(memory.take(4096, c), null)
  memory.give(first, a)
  t.truthy(memory.take(BYTES / 2, b))
  t.truthy(memory.take(4096, c))
  memory.close()
  t.is(memory.take(4096, a), null)
})
