// Memory of a server's commands: no command has what another has, no host more than its share, and what waits comes in turn.

import test from 'ava'
import fc from 'fast-check'
import { DmaPool } from '../../lib/memory/pool.ts'
import { PlainMemory } from '../../lib/nvme/tcp/memory.ts'
import { type MemoryUser, type Part, type PartHolder, ServerMemory } from '../../src/servers/memory.ts'

const BYTES = 2 ** 20

interface Client extends MemoryUser {
  onRoom: (() => void) | null
  readonly wants: number[]
  readonly blocks: Part[]
}

const poolOf = (memory: PlainMemory) => new DmaPool(memory, { views: memory })

function setUp(count: number) {
  const memory = new ServerMemory(poolOf(new PlainMemory('test')), BYTES)
  const clients = Array.from({ length: count }, (): Client => {
    const client: Client = { onRoom: null, wants: [], blocks: [] }
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

test('ServerMemory gives every command its memory in the end, and never the same twice', (t) => {
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
        for (const { blocks } of clients) {
          const held = blocks.reduce((sum, { bytes }) => sum + bytes.length, 0)
          t.true(blocks.length <= 1 || held <= BYTES / 4)
          for (const { page, bytes } of blocks) {
            for (let i = 0; i < Math.ceil(bytes.length / 4096); i++) {
              t.false(taken.has(page + i))
              taken.add(page + i)
            }
          }
        }
        t.is(memory.inUse, taken.size * 4096)
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
      t.is(memory.inUse, 0)
    }),
    { numRuns: 40 },
  )
})

test('ServerMemory: what does not fit is not passed by what would', (t) => {
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

test('ServerMemory: what is lost goes to no other, and who waits for that alone hears of it', async (t) => {
  const memory = new ServerMemory(poolOf(new PlainMemory('test')), BYTES)
  const holder = () => {
    const failures: (string | null)[] = []
    const parts: Part[] = []
    const one: PartHolder & { failures: typeof failures } = {
      ...{ parts, failures },
      onParts: (failure) => failures.push(failure && (failure as NodeJS.ErrnoException).code!),
    }
    return one
  }
  const [lost, beside, waiting, late] = [holder(), holder(), holder(), holder()]
  t.true(memory.reserve(lost, BYTES / 2))
  t.true(memory.reserve(beside, BYTES / 2))
  const found = memory.lose(lost)
  t.false(memory.reserve(waiting, BYTES))
  t.deepEqual(waiting.failures, [])
  memory.release(beside)
  t.deepEqual(waiting.failures, ['ERR_UNVME_TIMEOUT'])
  t.false(memory.reserve(late, BYTES))
  await null
  t.deepEqual(late.failures, ['ERR_UNVME_TIMEOUT'])
  t.true(memory.reserve(late, BYTES / 2))
  t.is(memory.inUse, BYTES)
  found()
  memory.release(late)
  t.true(memory.reserve(late, BYTES))
})

test('ServerMemory: requests of any size, lost or not, beside users of shares: none overlap, and each is served in the end', (t) => {
  const step = fc.record({
    act: fc.constantFrom('reserve', 'reserve', 'release', 'lose', 'found', 'forget', 'take', 'give'),
    which: fc.nat(5),
    bytes: fc.oneof(fc.integer({ min: 1, max: 3 * BYTES }), fc.integer({ min: 1, max: 16_384 })),
  })
  fc.assert(
    fc.property(fc.array(step, { maxLength: 80 }), (steps) => {
      const memory = new ServerMemory(poolOf(new PlainMemory('test')), 3 * BYTES)
      const having = new Set<PartHolder>()
      const waiting = new Set<PartHolder>()
      const kept: (() => void)[] = []
      let lostPages = 0
      const pagesOf = (parts: readonly Part[]) => parts.reduce((sum, { pages }) => sum + pages, 0)
      const user: MemoryUser & { readonly blocks: Part[] } = { onRoom: null, blocks: [] }
      const nth = <T>(set: Set<T>, n: number) => [...set][n % Math.max(1, set.size)]
      const check = () => {
        const taken = new Set<number>()
        for (const { tag, pages } of [...[...having].flatMap(({ parts }) => parts), ...user.blocks]) {
          for (let i = 0; i < pages; i++) {
            t.false(taken.has(tag.iova / 4096 + i))
            taken.add(tag.iova / 4096 + i)
          }
        }
        t.is(memory.inUse, (taken.size + lostPages) * 4096)
        t.true(memory.held <= 3 * BYTES)
      }
      const acts = {
        reserve(_which: number, bytes: number) {
          const holder: PartHolder = {
            parts: [],
            onParts(failure) {
              waiting.delete(holder)
              t.true(failure === null || lostPages > 0)
              if (failure === null) having.add(holder)
            },
          }
          if (!memory.reserve(holder, bytes)) waiting.add(holder)
          else having.add(holder)
        },
        release(which: number) {
          const holder = nth(having, which)
          if (holder === undefined) return
          having.delete(holder)
          memory.release(holder)
        },
        lose(which: number) {
          const holder = nth(having, which)
          if (holder === undefined) return
          having.delete(holder)
          const pages = pagesOf(holder.parts)
          lostPages += pages
          const found = memory.lose(holder)
          kept.push(() => {
            lostPages -= pages
            found()
          })
        },
        found: () => kept.shift()?.(),
        forget(which: number) {
          const holder = nth(waiting, which)
          if (holder === undefined) return
          waiting.delete(holder)
          memory.forget(holder)
        },
        take(_which: number, bytes: number) {
          const block = memory.take(Math.min(bytes, BYTES), user)
          if (block !== null) user.blocks.push(block)
        },
        give() {
          const block = user.blocks.shift()
          if (block !== undefined) memory.give(block, user)
        },
      }
      for (const { act, which, bytes } of steps) {
        acts[act](which, bytes)
        check()
      }
      while (kept.length > 0) acts.found()
      while (user.blocks.length > 0) acts.give()
      while (having.size > 0) acts.release(0)
      t.is(waiting.size, 0)
      check()
    }),
    { numRuns: 150 },
  )
})
