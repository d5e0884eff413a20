// Runs in the virtual machine: this driver on Linux's target, over a link of two network namespaces that loses, delays and
// swaps packets, or is down for seconds; and a target that is gone for a while. Nothing may fail or be mixed up.

import { setTimeout as delay } from 'node:timers/promises'
import fc from 'fast-check'
import type { Controller } from '../../lib/nvme/host/controller.ts'
import { type Namespace, type OpenOptions, open } from '../../src/index.ts'
import { checkAgainstModel, operations } from '../support/model.ts'
import { pattern } from '../support/pattern.ts'
import { check, runChecks } from './checks.ts'
import { linkPort, makePort, makeSubsystem, sh, unlinkPort } from './nvmet-guest.ts'

const NQN = 'nqn.2024-01.org.example:network'
const [OURS, THEIRS] = ['10.99.0.1', '10.99.0.2']
const PORT = 1
const PEER = 'peer'
const LINKS = ['socket', 'raw'] as const
const WORKERS = 8
const OPERATIONS = 60

const addressOf = (query: string) =>
  `nvme+tcp://${THEIRS}/${NQN}?hostnqn=nqn.2024-01.org.example:host&hostid=6f9619ff-8b86-d011-b42d-00cf4fc964ff&${query}`

/** What the link does to packets in either direction; nothing, where that is empty. */
function shape(netem: string): void {
  for (const [inside, name] of [
    ['', 'ours'],
    [`ip netns exec ${PEER} `, 'theirs'],
  ] as const) {
    sh(`${inside}tc qdisc del dev ${name} root 2>/dev/null || true`)
    if (netem !== '') sh(`${inside}tc qdisc add dev ${name} root netem ${netem}`)
  }
}

function setLink(state: 'up' | 'down', end: 'ours' | 'theirs'): void {
  sh(`${end === 'ours' ? '' : `ip netns exec ${PEER} `}ip link set ${end} ${state}`)
}

const BAD = 'limit 10000 delay 20ms 10ms loss 2% reorder 25% 50%'

async function withNamespace(
  query: string,
  options: OpenOptions,
  body: (ns: Namespace) => Promise<void>,
): Promise<void> {
  const ns = await open(addressOf(query), { reconnectDelay: 200, retries: 1000, ...options })
  try {
    await body(ns)
  } finally {
    for (const end of ['ours', 'theirs'] as const) setLink('up', end)
    await ns.close()
  }
}

/** Workers, each with blocks of its own, write and read back while `trouble` goes on, and once more after it. */
async function underLoad(ns: Namespace, trouble: (progress: () => number) => Promise<void>): Promise<void> {
  let [over, rounds] = [false, 0]
  const work = async (first: number) => {
    for (let last = false; !last; ) {
      last = over
      const data = pattern(8 * ns.blocksize, first * 1000 + ++rounds)
      await ns.promises.write(data, first, 8)
      const back = await ns.promises.read(Buffer.alloc(data.length), first, 8)
      if (!back.equals(data)) throw new Error(`what was written to ${first} came back as something else`)
    }
  }
  const working = Promise.all(Array.from({ length: WORKERS }, (_, i) => work(i * 8)))
  await Promise.race([trouble(() => rounds), working])
  over = true
  await working
  equal(ns.stats.failed, 0, 'failed commands')
}

async function until(what: string, condition: () => boolean): Promise<void> {
  for (const end = performance.now() + 60_000; !condition(); ) {
    if (performance.now() > end) throw new Error(`${what}: not within 60 s`)
    await delay(20)
  }
}

/** Until the load goes on. */
const progressOf = (progress: () => number) => {
  const from = progress()
  return until('the load goes on', () => progress() > from + 2 * WORKERS)
}

function equal(actual: number, expected: number, what: string): void {
  if (actual !== expected) throw new Error(`${what}: ${actual}, not ${expected}`)
}

check('a link of two network namespaces, with Linux’s target behind it', () => {
  sh(`
    modprobe veth
    modprobe sch_netem
    ip netns add ${PEER}
    ip link add ours type veth peer name theirs netns ${PEER}
    ip addr add ${OURS}/24 dev ours
    ip netns exec ${PEER} ip addr add ${THEIRS}/24 dev theirs
    ip link set ours up
    ip netns exec ${PEER} ip link set theirs up`)
  makeSubsystem(NQN)
  makePort(PORT, THEIRS)
  linkPort(PORT, NQN, PEER)
})

for (const link of LINKS) {
  check(`${link}: random operations where packets are late, lost and swapped match a model`, async () => {
    shape(BAD)
    await withNamespace(`link=${link}&hdgst=1&ddgst=1&kato=60000`, { qcount: 2, qsize: 16 }, async (ns) => {
      const blocks = 512
      for (let done = 0; done < OPERATIONS; ) {
        await fc.assert(
          fc.asyncProperty(operations({ blocks, longest: 128 }), (ops) => {
            done += ops.length
            return checkAgainstModel(ns, ops, blocks)
          }),
          { numRuns: 1, endOnFailure: true },
        )
      }
      equal(ns.stats.failed, 0, 'failed commands')
      equal(ns.stats.resets, 0, 'resets')
    })
    const { lost, late } = droppedPackets()
    if (lost === 0 || late === 0) throw new Error(`the link lost ${lost} packets of ${late}`)
    shape('')
  })
}

// Each takes its time: what the two kinds of connection do there is the same, and one of them is enough.
check(`socket: a link that is down for less than KATO keeps its connections`, async () => {
  await withNamespace(`link=socket&kato=60000`, { qcount: 2 }, async (ns) => {
    await underLoad(ns, async (progress) => {
      for (const end of ['ours', 'theirs'] as const) {
        await progressOf(progress)
        setLink('down', end)
        await delay(2000)
        setLink('up', end)
        await progressOf(progress)
      }
    })
    equal(ns.stats.resets, 0, 'resets')
  })
})

for (const [link, end] of [
  ['socket', 'ours'],
  ['raw', 'theirs'],
] as const) {
  check(`${link}: a link that is down for longer than KATO (${end}): connected again after it`, async () => {
    await withNamespace(`link=${link}&kato=3000`, { qcount: 2, timeout: 10_000 }, async (ns) => {
      const { transport } = ns.controller as unknown as Controller
      await underLoad(ns, async (progress) => {
        await progressOf(progress)
        setLink('down', end)
        await until('the loss is noticed', () => transport.health() !== null)
        const resets = ns.stats.resets
        // So that the first attempts meet it, too.
        await delay(3000)
        equal(ns.stats.resets, resets, 'resets while the link is down')
        setLink('up', end)
        await until('it is connected again', () => ns.stats.resets > resets)
        await progressOf(progress)
      })
    })
  })
}

check(`raw: a target that is gone for a while under load, three times`, async () => {
  await withNamespace(`link=raw&kato=30000`, { qcount: 2 }, async (ns) => {
    await underLoad(ns, async (progress) => {
      for (let time = 1; time <= 3; time++) {
        await progressOf(progress)
        unlinkPort(PORT, NQN)
        await delay(500)
        linkPort(PORT, NQN, PEER)
        await until('it is connected again', () => ns.stats.resets >= time)
        await progressOf(progress)
      }
    })
  })
})

/** Of both ends, as tc counts them. */
function droppedPackets(): { lost: number; late: number } {
  const text = ['', `ip netns exec ${PEER} `].map((inside) => sh(`${inside}tc -s qdisc`)).join('')
  const sum = (expression: RegExp) =>
    [...text.matchAll(expression)].reduce((all, [, n]) => all + Number(n), 0)
  return { lost: sum(/dropped (\d+)/g), late: sum(/Sent \d+ bytes (\d+) pkt/g) }
}

await runChecks()
