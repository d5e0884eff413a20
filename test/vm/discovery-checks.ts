// Runs in the virtual machine: the discovery service of Linux's target, asked by nvme-cli and by `unvme`, which must say the
// same; referrals that lead in a circle, and to where no one listens; and changes while `unvme discover -p` is connected.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { start, unvme } from '../cli/command.ts'
import { check, runChecks } from './checks.ts'
import { linkPort, makePort, makeSubsystem, sh, unlinkPort } from './nvmet-guest.ts'

const [FIRST, SECOND] = ['nqn.2024-01.org.example:first', 'nqn.2024-01.org.example:second']
const HERE = '127.0.0.1'
const DISCOVERY = 'nqn.2014-08.org.nvmexpress.discovery'
const WORDS = [
  ...['discover', '-t', 'tcp', '-a', HERE, '-s', '4420', '-q', 'nqn.2024-01.org.example:host'],
  ...['-I', '6f9619ff-8b86-d011-b42d-00cf4fc964ff'],
]

const ask = async (words: readonly string[]) => {
  const { code, stdout, stderr } = await unvme(words)
  assert.equal(code, 0, stderr)
  return stdout
}

check('two ports that refer to each other, and one of them to no one', () => {
  makeSubsystem(FIRST)
  sh(
    'modprobe nvme-tcp; cd /sys/kernel/config/nvmet/subsystems; mkdir $1; echo 1 >$1/attr_allow_any_host'.replaceAll(
      '$1',
      SECOND,
    ),
  )
  makePort(1, HERE)
  makePort(2, HERE, 4421)
  linkPort(1, FIRST)
  linkPort(2, SECOND)
  for (const [port, to] of [
    [1, 4421],
    [1, 4499],
    [2, 4420],
  ] as const) {
    sh(`
      mkdir /sys/kernel/config/nvmet/ports/${port}/referrals/to-${to}
      cd /sys/kernel/config/nvmet/ports/${port}/referrals/to-${to}
      echo tcp >addr_trtype
      echo ipv4 >addr_adrfam
      echo ${HERE} >addr_traddr
      echo ${to} >addr_trsvcid
      echo 1 >enable`)
  }
})

check('unvme discover -o json is what nvme-cli says, field by field', async () => {
  const theirs = JSON.parse(execFileSync('nvme', [...WORDS, '-o', 'json'], { encoding: 'utf8' }))
  const ours = JSON.parse(await ask([...WORDS, '-o', 'json']))
  assert.ok(theirs.records.length >= 4, `${theirs.records.length} records`)
  assert.deepEqual(ours, theirs)
})

check('unvme discover prints what nvme-cli prints', async () => {
  const theirs = execFileSync('nvme', WORDS, { encoding: 'utf8' })
  assert.equal(withoutBlanks(await ask(WORDS)), withoutBlanks(theirs))
})

/** nvme-cli ends some lines with a blank. */
const withoutBlanks = (text: string) => text.replace(/ +$/gm, '').trim()

check('unvme discover --referrals asks each service once', async () => {
  const { services, left } = JSON.parse(await ask([...WORDS, '--referrals', '-o', 'json']))
  assert.equal(left, 0)
  assert.deepEqual(
    services
      .map(({ service, depth }: { service: string; depth: number }) => [service.split(':').pop(), depth])
      .sort(),
    [
      ['4420', 0],
      ['4421', 1],
      ['4499', 1],
    ],
  )
  const dead = services.find(({ error }: { error?: string }) => error !== undefined)
  assert.match(dead.error, /4499.*ECONNREFUSED/)
})

check('unvme list of the service names all subsystems by addresses that open', async () => {
  const { stdout, stderr, code } = await unvme(['list', `nvme+tcp://${HERE}:4420`, '-o', 'json'])
  assert.equal(code, 0)
  assert.match(stderr, /^not asked: .*4499/m)
  const { Subsystems } = JSON.parse(stdout)
  assert.deepEqual(Subsystems.map(({ NQN }: { NQN: string }) => NQN).sort(), [FIRST, SECOND])
  const { Address } = Subsystems.find(({ NQN }: { NQN: string }) => NQN === FIRST)
  const { negotiated } = JSON.parse(await ask(['info', Address, '-o', 'json']))
  assert.deepEqual([negotiated.inCapsule, negotiated.maxH2cData], [16_384, 4_194_304])
})

check('unvme discover -p shows what is added, and taken away, until Ctrl-C', async () => {
  const { child, ended } = start([...WORDS, '-p', '-k', '60', '-o', 'json'])
  let [stdout, stderr] = ['', '']
  child.stdout!.on('data', (text: string) => (stdout += text))
  child.stderr!.on('data', (text: string) => (stderr += text))
  const line = async (n: number) => {
    while (stdout.split('\n').length <= n + 1) await Promise.race([once(child.stdout!, 'data'), over])
    const { records } = JSON.parse(stdout.split('\n')[n]!)
    return records.map(({ subnqn }: { subnqn: string }) => subnqn).filter((nqn: string) => nqn !== DISCOVERY)
  }
  const over = ended.then(({ code }) => {
    throw new Error(`it ended with ${code}: ${stderr}`)
  })
  over.catch(() => {})
  assert.deepEqual(await line(0), [FIRST])
  linkPort(1, SECOND)
  assert.deepEqual((await line(1)).sort(), [FIRST, SECOND])
  unlinkPort(1, SECOND)
  assert.deepEqual(await line(2), [FIRST])
  // All of the port, and its connections with it.
  unlinkPort(1, FIRST)
  linkPort(1, SECOND)
  while ((await line(stdout.split('\n').length - 2)).join() !== SECOND) {
    await Promise.race([once(child.stdout!, 'data'), over])
  }
  assert.match(stderr, /connected again/)
  child.kill('SIGINT')
  assert.equal((await ended).code, 130)
})

await runChecks()
