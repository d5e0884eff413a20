// Several paths to one namespace of Linux's target in the virtual machine: two ports with ANA groups of their own, whose
// state changes under load, ports that are taken away, connections that are cut. What is written is checked against a model.

import { setTimeout as delay } from 'node:timers/promises'
import test, { type ExecutionContext } from 'ava'
import { type Namespace, open } from '../../src/index.ts'
import { unvme } from '../cli/command.ts'
import { leaveOut } from '../support/left-out.ts'
import { NVMET_NQN, type Nvmet, startNvmet } from '../support/nvmet.ts'
import { pattern } from '../support/pattern.ts'
import { startProxy } from '../support/tcp-proxy.ts'
import { leftOutWithoutNetwork } from './machine-test.ts'

const WHAT = 'several paths to Linux’s NVMe/TCP target'
const missing = leftOutWithoutNetwork(WHAT)

/** Port 2 beside port 1, and on each of them a second ANA group, which the namespace is in. */
const SECOND_PORT = `
mkdir ports/2
echo tcp >ports/2/addr_trtype
echo ipv4 >ports/2/addr_adrfam
echo 0.0.0.0 >ports/2/addr_traddr
echo 4421 >ports/2/addr_trsvcid
mkdir ports/1/ana_groups/2 ports/2/ana_groups/2
echo 0 >subsystems/$NQN/namespaces/1/enable
echo 2 >subsystems/$NQN/namespaces/1/ana_grpid
echo 1 >subsystems/$NQN/namespaces/1/enable
ln -s /sys/kernel/config/nvmet/subsystems/$NQN ports/2/subsystems/$NQN
`

/** Namespace 2, of a disk in memory, in a third group on either port. */
const SECOND_NAMESPACE = `
mkdir /sys/kernel/config/nullb/nullb1
echo 64 >/sys/kernel/config/nullb/nullb1/size
echo 1 >/sys/kernel/config/nullb/nullb1/memory_backed
echo 1 >/sys/kernel/config/nullb/nullb1/power
mkdir ports/1/ana_groups/3 ports/2/ana_groups/3
echo optimized >ports/1/ana_groups/3/ana_state
echo optimized >ports/2/ana_groups/3/ana_state
mkdir subsystems/$NQN/namespaces/2
echo -n /dev/nullb1 >subsystems/$NQN/namespaces/2/device_path
echo 3 >subsystems/$NQN/namespaces/2/ana_grpid
echo 1 >subsystems/$NQN/namespaces/2/enable
`

const setAna = (port: number, state: string, group = 2) =>
  `echo ${state} >ports/${port}/ana_groups/${group}/ana_state`
const unlink = (port: number) => `rm ports/${port}/subsystems/$NQN`
const link = (port: number) => `ln -s /sys/kernel/config/nvmet/subsystems/$NQN ports/${port}/subsystems/$NQN`

const BLOCKS = 8

/** Writes ranges of its own again and again, remembers what, and reads each back, until it is to stop. */
async function work(ns: Namespace, first: number, model: Map<number, Buffer>, stopped: () => boolean) {
  for (let round = 0; !stopped(); round++) {
    const slba = first + (round % 16) * BLOCKS
    const data = pattern(BLOCKS * ns.blocksize, first * 7919 + round)
    await ns.promises.write(data, slba, BLOCKS)
    model.set(slba, data)
    const other = first + ((round * 5) % 16) * BLOCKS
    const back = await ns.promises.read(Buffer.alloc(data.length), other, BLOCKS)
    const expected = model.get(other)
    if (expected !== undefined && !back.equals(expected)) {
      throw new Error(`round ${round}: ${other} came back as something else`)
    }
  }
}

interface Load {
  /** Until some more commands have been done. */
  go(commands?: number): Promise<void>
  end(): Promise<void>
}

function startLoad(ns: Namespace): Load {
  let over = false
  const model = new Map<number, Buffer>()
  const all = Promise.all(Array.from({ length: 8 }, (_, i) => work(ns, i * 1024, model, () => over)))
  let failure: Error | undefined
  all.catch((error: Error) => {
    failure = error
  })
  const done = () => ns.stats.reads + ns.stats.writes
  return {
    async go(commands = 100) {
      const enough = done() + commands
      while (done() < enough) {
        if (failure !== undefined) throw failure
        await delay(20)
      }
    },
    async end() {
      over = true
      await all
      for (const [slba, data] of model) {
        const back = await ns.promises.read(Buffer.alloc(data.length), slba, BLOCKS)
        if (!back.equals(data)) throw new Error(`${slba} is not what was written there last`)
      }
    },
  }
}

async function until(t: ExecutionContext, ns: Namespace, path: number, wanted: string): Promise<void> {
  const now = () => `${ns.paths[path]!.state} ${ns.paths[path]!.ana}`
  while (now() !== wanted) await delay(20)
  t.log(`path ${path}: ${wanted}`)
}

if (missing !== null) {
  leaveOut(missing, WHAT)
} else {
  let target: Nvmet
  let address: string
  test.before(async (t) => {
    t.timeout(240_000)
    target = await startNvmet({ more: SECOND_PORT, ports: [4421], shell: true })
    address = target
      .address('kato=5000')
      .replace('kato=120000&', '')
      .replace(`/${NVMET_NQN}`, `,127.0.0.1:${target.ports[0]}/${NVMET_NQN}`)
  })
  test.after.always(() => target?.end())

  test.serial('ana-log shows the groups of the port, and the namespace in one', async (t) => {
    await target.run(setAna(2, 'non-optimized'))
    const single = target.address().replace(/:\d+\//, `:${target.ports[0]}/`)
    const { stdout, code, stderr } = await unvme(['ana-log', single, '-o', 'json'])
    t.is(code, 0, stderr)
    const log = JSON.parse(stdout)
    t.is(log.ngrps, 2)
    t.deepEqual(
      log['ANA DESC LIST '].find(({ grpid }: { grpid: number }) => grpid === 2),
      {
        grpid: 2,
        nnsids: 1,
        chgcnt: log['ANA DESC LIST '][1].chgcnt,
        state: 'non-optimized',
        NSIDS: [{ nsid: 1 }],
      },
    )
    const groups = JSON.parse((await unvme(['ana-log', single, '-g', '-o', 'json'])).stdout)
    t.deepEqual(
      groups['ANA DESC LIST '].map(({ NSIDS }: { NSIDS: unknown[] }) => NSIDS.length),
      [0, 0],
    )
    await target.run(setAna(2, 'optimized'))
  })

  test.serial('access that is changed under load costs no command', async (t) => {
    t.timeout(180_000)
    await using ns = await open(address, { reconnectDelay: 200 })
    await until(t, ns, 1, 'live optimized')
    const load = startLoad(ns)
    await load.go()
    for (const [one, two] of [
      ['inaccessible', 'optimized'],
      ['optimized', 'inaccessible'],
      ['change', 'optimized'],
      ['non-optimized', 'persistent-loss'],
      ['optimized', 'non-optimized'],
    ] as const) {
      await target.run(`${setAna(1, one)}; ${setAna(2, two)}`)
      await until(t, ns, 0, `live ${one}`)
      await until(t, ns, 1, `live ${two}`)
      await load.go()
      const usable = [one, two].map((state) => /optimized$/.test(state) && !/^non/.test(state))
      const before = ns.paths.map(({ commands }) => commands)
      await load.go()
      for (const [i, path] of ns.paths.entries()) {
        if (usable.includes(true))
          t.is(path.commands > before[i]!, usable[i]!, `${path.ana}: ${before[i]} to ${path.commands}`)
      }
    }
    // None at all for a while.
    await target.run(`${setAna(1, 'inaccessible')}; ${setAna(2, 'inaccessible')}`)
    await until(t, ns, 0, 'live inaccessible')
    await until(t, ns, 1, 'live inaccessible')
    await target.run(`${setAna(1, 'optimized')}; ${setAna(2, 'optimized')}`)
    await load.go()
    await load.end()
    t.is(ns.stats.failed, 0)
    t.true(ns.stats.retries > 0)
    t.log(JSON.stringify(ns.stats))
  })

  test.serial('ports that are taken away and given back under load cost no command', async (t) => {
    t.timeout(180_000)
    await using ns = await open(address, { reconnectDelay: 200 })
    await until(t, ns, 0, 'live optimized')
    await until(t, ns, 1, 'live optimized')
    const load = startLoad(ns)
    await load.go()
    for (const port of [1, 2, 1]) {
      await target.run(unlink(port))
      await until(t, ns, port - 1, 'lost optimized')
      await load.go()
      await target.run(link(port))
      await until(t, ns, port - 1, 'live optimized')
      const before = ns.paths[port - 1]!.commands
      while (ns.paths[port - 1]!.commands < before + 20) await load.go(20)
    }
    await load.end()
    t.is(ns.stats.failed, 0)
    t.log(JSON.stringify(ns.paths))
  })

  test.serial('connections that are cut, and a cable that is pulled, cost no command', async (t) => {
    t.timeout(180_000)
    const [first, second] = /127.0.0.1:(\d+),127.0.0.1:(\d+)/.exec(address)!.slice(1).map(Number) as [
      number,
      number,
    ]
    const proxies = [await startProxy(first), await startProxy(second)] as const
    t.teardown(async () => {
      for (const proxy of proxies) await proxy.close()
    })
    const proxied = address
      .replace(`${first}`, `${proxies[0].port}`)
      .replace(`${second}`, `${proxies[1].port}`)
    await using ns = await open(proxied, { reconnectDelay: 200, qcount: 2 })
    const load = startLoad(ns)
    await load.go()
    for (const at of [0, 1] as const) {
      const { losses } = ns.paths[at]!
      proxies[at].endAll()
      while (ns.paths[at]!.losses === losses) await load.go(10)
      await until(t, ns, at, 'live optimized')
      await load.go()
    }
    proxies[0].pulled = true
    await until(t, ns, 0, 'lost optimized')
    // Writes that were in flight there wait for their target: the others go on.
    await load.go(20)
    proxies[0].pulled = false
    await until(t, ns, 0, 'live optimized')
    await load.go()
    await load.end()
    t.is(ns.stats.failed, 0)
    t.log(JSON.stringify(ns.paths))
  })

  test.serial(
    'a namespace whose group is inaccessible on every port keeps the other from nothing',
    async (t) => {
      t.timeout(180_000)
      await target.run(`${SECOND_NAMESPACE}${setAna(1, 'optimized')}; ${setAna(2, 'optimized')}`)
      await using one = await open(address, { reconnectDelay: 200, nsid: 1 })
      await using two = await open(address, { reconnectDelay: 200, nsid: 2 })
      for (const at of [0, 1]) await until(t, two, at, 'live optimized')
      const loads = [startLoad(one), startLoad(two)]
      for (const load of loads) await load.go()
      for (const state of ['inaccessible', 'change', 'persistent-loss']) {
        await target.run(`${setAna(1, state, 3)}; ${setAna(2, state, 3)}`)
        for (const at of [0, 1]) await until(t, two, at, `live ${state}`)
        let isDone = false
        const waiting = two.promises.read(Buffer.alloc(two.blocksize), 0).then(() => {
          isDone = true
        })
        for (let i = 0; i < 50; i++) await one.promises.read(Buffer.alloc(one.blocksize), i)
        t.false(isDone)
        await target.run(`${setAna(1, 'optimized', 3)}; ${setAna(2, 'non-optimized', 3)}`)
        await waiting
      }
      for (const load of loads) await load.end()
      t.is(one.stats.failed, 0)
      t.log(JSON.stringify(one.stats))
    },
  )
}
