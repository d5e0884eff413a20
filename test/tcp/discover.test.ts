// `unvme discover` and other commands on a target, as processes.

import fs from 'node:fs'
import test from 'ava'
import { readDiscoveryLog } from '../../lib/nvme/tcp/discover.ts'
import { encodeDiscoveryLog } from '../../lib/nvme/tcp/fabrics.ts'
import { unvme } from '../cli/command.ts'
import { testFolder } from '../support/folder.ts'
import { pattern } from '../support/pattern.ts'
import { NQN, startTarget } from '../support/tcp-target.ts'

const inFolder = testFolder()

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
