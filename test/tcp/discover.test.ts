// `unvme discover` and other commands on a target, as processes.

import { once } from 'node:events'
import fs from 'node:fs'
import test from 'ava'
import {
  followReferrals,
  type Portal,
  readDiscoveryLog,
  subsystemAddress,
} from '../../lib/nvme/tcp/discover.ts'
import {
  type DiscoveryRecord,
  decodeDiscoveryLog,
  encodeDiscoveryLog,
  SUBTYPE,
} from '../../lib/nvme/tcp/fabrics.ts'
import { start, unvme } from '../cli/command.ts'
import { testFolder } from '../support/folder.ts'
import { pattern } from '../support/pattern.ts'
import { NQN, startTarget } from '../support/tcp-target.ts'
import { forkTarget } from '../support/tcp-target-child.ts'

const inFolder = testFolder()

const RECORD: DiscoveryRecord = {
  ...{ trtype: 3, adrfam: 1, subtype: SUBTYPE.NVM, treq: 0, portid: 1, cntlid: 0xffff, asqsz: 32, eflags: 0 },
  ...{ trsvcid: '4420', traddr: '10.0.0.1', sectype: 0, subnqn: NQN },
}

/** A net of services, by their ports: each refers to those of its list. */
function network(referralsOf: (port: number) => readonly Partial<DiscoveryRecord>[]) {
  const asked: number[] = []
  const ask = async ({ port }: Portal) => {
    asked.push(port)
    const records = referralsOf(port).map((record) => ({ ...RECORD, subtype: SUBTYPE.REFERRAL, ...record }))
    return decodeDiscoveryLog(encodeDiscoveryLog({ genctr: 1, records }))
  }
  return { asked, find: () => followReferrals({ host: '10.0.0.1', port: 1 }, ask) }
}

const logOf = (genctr: number, count: number) => {
  const record = {
    ...{ trtype: 3, adrfam: 1, subtype: 2, treq: 0, portid: 1, cntlid: 0xffff, asqsz: 32, eflags: 0 },
    ...{ trsvcid: '4420', traddr: '10.0.0.1', sectype: 0 },
  }
  const records = Array.from({ length: count }, (_, i) => ({ ...record, subnqn: `${NQN}-${i}` }))
  return encodeDiscoveryLog({ genctr, records })
}

/** A service whose log changes with each command, until it has changed `changes` times. */
function changing(changes: number) {
  let commands = 0
  return {
    maxTransferBytes: 4096,
    async admin(command: { data?: Uint8Array; cdw12?: number }) {
      const genctr = Math.min(++commands, changes)
      command.data!.set(logOf(genctr, 5).subarray(command.cdw12, command.cdw12! + command.data!.length))
      return { result: 0 }
    },
  }
}

test('readDiscoveryLog reads a log that changes once more, and gives up on one that goes on', async (t) => {
  const log = await readDiscoveryLog(changing(4) as never)
  t.is(log.genctr, 4)
  t.is(log.records.length, 5)
  await t.throwsAsync(readDiscoveryLog(changing(1000) as never), {
    code: 'ERR_UNVME_PROTOCOL',
    message: /changed 10 times/,
  })
})

test('followReferrals asks each service once, also where they refer to each other', async (t) => {
  const { asked, find } = network((port) => [
    { trsvcid: '1' },
    { trsvcid: '2' },
    { trsvcid: `${(port % 5) + 1}` },
  ])
  const { services, left } = await find()
  t.deepEqual(asked, [1, 2, 3, 4, 5])
  t.deepEqual(
    services.map(({ depth }) => depth),
    [0, 1, 2, 3, 4],
  )
  t.is(left, 0)
})

test('followReferrals ends with those that are 8 referrals deep, and with 64 in all', async (t) => {
  const chain = network((port) => [{ trsvcid: `${port + 1}` }])
  t.is((await chain.find()).left, 1)
  t.deepEqual(
    chain.asked,
    Array.from({ length: 9 }, (_, i) => i + 1),
  )
  const tree = network((port) => Array.from({ length: 100 }, (_, i) => ({ trsvcid: `${port * 100 + i}` })))
  const { services, left } = await tree.find()
  t.is(services.length, 64)
  t.is(new Set(tree.asked).size, 64)
  t.true(left > 36)
})

test('followReferrals asks no one where a referral names no host and port, or another transport', async (t) => {
  const { asked, find } = network(() => [
    ...['', '0', '65536', '4420/x', '-1', '1e3'].map((trsvcid) => ({ trsvcid })),
    ...['', 'a/b', 'a b', 'a?tls=1', '10.0.0.1/nqn', '[::1]', '..', '-a'].map((traddr) => ({
      traddr,
      trsvcid: '9',
    })),
    { trtype: 1, trsvcid: '9' },
    { subtype: SUBTYPE.CURRENT_DISCOVERY, trsvcid: '9' },
  ])
  t.is((await find()).left, 0)
  t.deepEqual(asked, [1])
})

test('followReferrals goes on past a service that can not be asked, but for the first one', async (t) => {
  const ask = async ({ port }: Portal) => {
    if (port === 2) throw new Error('gone')
    const records = ['2', '3'].map((trsvcid) => ({ ...RECORD, subtype: SUBTYPE.REFERRAL, trsvcid }))
    return { genctr: 1, records }
  }
  const { services } = await followReferrals({ host: '10.0.0.1', port: 1 }, ask)
  t.deepEqual(
    services.map(({ port, error }) => [port, error?.message]),
    [
      [1, undefined],
      [2, 'gone'],
      [3, undefined],
    ],
  )
  await t.throwsAsync(followReferrals({ host: '10.0.0.1', port: 2 }, ask), { message: 'gone' })
})

test('subsystemAddress makes an address that opens what a record offers', (t) => {
  t.is(subsystemAddress(RECORD), `nvme+tcp://10.0.0.1:4420/${NQN}`)
  t.is(
    subsystemAddress({ ...RECORD, traddr: 'fe80::1', subnqn: 'nqn.2024-01.org:a/b?c', treq: 1, sectype: 2 }),
    'nvme+tcp://[fe80::1]:4420/nqn.2024-01.org:a%2Fb%3Fc?tls=1',
  )
  for (const other of [{ trtype: 1 }, { subtype: SUBTYPE.REFERRAL }, { subnqn: 'disk' }, { traddr: 'a b' }]) {
    t.is(subsystemAddress({ ...RECORD, ...other }), null)
  }
})

test('unvme list of a service prints addresses that open, as does discover --referrals its log', async (t) => {
  const target = await startTarget('sim:?size=1M')
  t.teardown(() => target.close())
  const service = `nvme+tcp://127.0.0.1:${target.port}`
  const { stdout } = await unvme(['list', service, '-o', 'json'])
  const [{ Address, NQN: nqn, Service }] = JSON.parse(stdout).Subsystems
  t.deepEqual([Address, nqn, Service], [`${service}/${NQN}`, NQN, service])
  t.is((await unvme(['info', Address])).code, 0)
  t.true((await unvme(['list', service])).stdout.split('\n').includes(`${Address}  ${service}`))
  const { services, left } = JSON.parse(
    (await unvme(['discover', service, '--referrals', '-o', 'json'])).stdout,
  )
  t.is(left, 0)
  t.is(services.length, 1)
  t.like(services[0], { service, depth: 0, genctr: 1 })
  t.is(services[0].records[1].subnqn, NQN)
  t.is((await unvme(['list', service, '--sysroot', '/'])).code, 2)
})

test('unvme info shows what was agreed with a target', async (t) => {
  const target = await startTarget('sim:?size=1M', { inCapsule: 4096, maxH2cData: 8192 })
  t.teardown(() => target.close())
  const { stdout } = await unvme(['info', target.address('hdgst=1&queues=2&kato=7000'), '-o', 'json'])
  const { negotiated } = JSON.parse(stdout)
  t.like(negotiated, {
    ...{
      hdgst: true,
      ddgst: false,
      kato: 7000,
      queues: 2,
      link: 'socket',
      inCapsule: 4096,
      maxH2cData: 8192,
    },
    ...{ tls: null, dhchap: null, hostnqn: 'nqn.2024-01.org.example:host' },
  })
  t.true(negotiated.cntlid > 0)
  const text = (await unvme(['info', target.address()])).stdout
  t.regex(text, /^MAXH2CDATA \(bytes\) +: 8192$/m)
  t.regex(text, /^header digest +: off$/m)
})

test('unvme discover -p stays, is connected again to a service that was killed, and ends by Ctrl-C', async (t) => {
  let target = await forkTarget('sim:?size=1M')
  t.teardown(() => target.kill())
  const words = ['discover', `nvme+tcp://127.0.0.1:${target.port}`, '-p', '-k', '5', '-o', 'json']
  const { child, ended } = start(words)
  t.teardown(() => child.kill('SIGKILL'))
  let stderr = ''
  child.stderr!.on('data', (text) => (stderr += text))
  const [line] = await once(child.stdout!, 'data')
  t.is(JSON.parse(line).records[1].subnqn, NQN)
  await target.kill()
  target = await forkTarget('sim:?size=1M', target.port)
  while (!stderr.includes('connected again')) await once(child.stderr!, 'data')
  child.kill('SIGINT')
  t.is((await ended).code, 130, stderr)
})

test('unvme discover prints what nvme-cli prints', async (t) => {
  const target = await startTarget('sim:?size=1M')
  t.teardown(() => target.close())
  const { port } = target
  const text = await unvme(['discover', `nvme+tcp://127.0.0.1:${port}`])
  t.is(text.stderr, '')
  t.is(
    text.stdout,
    `
Discovery Log Number of Records 2, Generation counter 1
=====Discovery Log Entry 0======
trtype:  tcp
adrfam:  ipv4
subtype: current discovery subsystem
treq:    not specified
portid:  1
trsvcid: ${port}
subnqn:  nqn.2014-08.org.nvmexpress.discovery
traddr:  127.0.0.1
eflags:  duplicate discovery information
sectype: none
=====Discovery Log Entry 1======
trtype:  tcp
adrfam:  ipv4
subtype: nvme subsystem
treq:    not specified
portid:  1
trsvcid: ${port}
subnqn:  ${NQN}
traddr:  127.0.0.1
eflags:  none
sectype: none
`,
  )
  const words = [
    '-t',
    'tcp',
    '-a',
    '127.0.0.1',
    '-s',
    `${port}`,
    '-q',
    `${NQN}-host`,
    '-g',
    '-G',
    '-o',
    'json',
  ]
  const { genctr, records } = JSON.parse((await unvme(['discover', ...words])).stdout)
  t.is(genctr, 1)
  t.like(records[1], { trtype: 'tcp', subtype: 'nvme subsystem', trsvcid: `${port}`, subnqn: NQN, portid: 1 })
})

for (const [words, message] of [
  [[], /a service is needed/],
  [['nvme+tcp://h', '-a', 'h'], /a service is needed/],
  [['nvme+tcp://h', '-s', '1'], /the port stands in the address/],
  [[`nvme+tcp://h/${NQN}`], /without another NQN/],
  [['sim:'], /nvme\+tcp:\/\/HOST/],
  [['-a', 'h', '-t', 'rdma'], /'rdma' is none of tcp/],
  [['-a', 'h', '-s', '70000'], /a port from 1 to 65535 is needed/],
  [['nvme+tcp://h', '-k', '5'], /-k goes with --persistent/],
  [['nvme+tcp://h', '-p', '-k', '0'], /seconds from 1/],
  [['nvme+tcp://h', '-p', '--referrals'], /does not go with --persistent/],
] as const) {
  test(`unvme discover ${words.join(' ')}: refused`, async (t) => {
    const { code, stderr } = await unvme(['discover', ...words])
    t.is(code, 2)
    t.regex(stderr, message)
  })
}

test('commands of a device work on a target', async (t) => {
  const target = await startTarget('sim:?size=8M')
  t.teardown(() => target.close())
  const address = target.address('hdgst=1')
  const [from, to] = [inFolder('from'), inFolder('to')]
  fs.writeFileSync(from, pattern(2_000_000, 4))
  for (const words of [
    ['write', address, from, '--yes'],
    ['verify', address, from],
    ['read', address, to],
    ['flush', address],
    ['id-ctrl', address],
    ['smart-log', address],
    ['reset', address],
    ['bench', address, '--rw', 'randread', '--iodepth', '4', '--runtime', '100ms'],
  ]) {
    const { code, stderr } = await unvme(words)
    t.is(code, 0, `${words[0]}: ${stderr}`)
  }
  t.true(fs.readFileSync(to).subarray(0, 2_000_000).equals(fs.readFileSync(from)))
  const registers = await unvme(['show-regs', address])
  t.deepEqual(registers.stdout.match(/^\w+/gm), ['cap', 'vs', 'cc', 'csts'])
  const namespace = await unvme(['info', address, '-o', 'json'])
  t.like(JSON.parse(namespace.stdout), { transport: 'tcp', blockcount: 16_384 })
})
