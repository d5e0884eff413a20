// UNVMe's test programs and the benchmark's matrix in the machine: on one controller in CI, on every shape where
// UNVME_TEST_SUITE=1 asks for it. Every program is a process of its own, as scripts/unvme-test starts
// them, and a start of Node takes some five seconds in there.

import { fileURLToPath } from 'node:url'
import type { ExecutionContext } from 'ava'
import { type MachineOptions, runInMachine } from '../../scripts/vm/machine.ts'
import { type ShapeName, shapeNames, shapes, suiteAddresses } from '../../scripts/vm/shapes.ts'
import { leftOutUnlessAsked, registerUnless } from './machine-test.ts'

const all = Boolean(process.env.UNVME_TEST_SUITE)
const register = registerUnless(leftOutUnlessAsked('the test programs'), { serial: true })

const root = fileURLToPath(new URL('../../../', import.meta.url))
const LIMIT_S = 1800

/** Runs a script of the machine's shell, in the checkout. Returns what it printed. */
async function inMachine(t: ExecutionContext, script: string, options: Omit<MachineOptions, 'command'>) {
  t.timeout((LIMIT_S + 60) * 1000)
  const command = ['sh', '-c', script]
  const { status, stdout, stderr, seconds } = await runInMachine({
    ...{ timeLimit: LIMIT_S, cwd: root, command },
    ...options,
  })
  t.is(status, 0, `${stdout.slice(-4000)}\n${stderr.slice(-2000)}`)
  t.log(`${seconds.toFixed(0)} s`)
  return { stdout, stderr }
}

const count = (text: string, pattern: RegExp) => text.match(pattern)?.length ?? 0

// Reads of those that keep nothing give zeroes.
const empty = (Object.keys(shapes) as ShapeName[]).filter((name) => shapes[name].null)
const keeping = shapeNames.filter((name) => !shapes[name].null)

const title = all ? 'every shape that keeps data' : 'one controller, and two namespaces of another at once'
register(`unvme-test passes on ${title}`, async (t) => {
  const names: ShapeName[] = all ? keeping : ['lba512', 'multi']
  const devices = all ? suiteAddresses(names) : [shapes.lba512.address]
  const several = all
    ? ''
    : `scripts/unvme-test mcd-test --yes -q 2 -s 256k ${suiteAddresses(['multi']).join(' ')}`
  const script = `set -e; scripts/unvme-test --quick --yes ${devices.join(' ')}; ${several}`
  const { stdout } = await inMachine(t, script, { shapes: names })
  t.true(stdout.includes(`unvme-test: all passed on ${devices.length}: ${devices.join(' ')}\n`), stdout)
  t.is(count(stdout, /^\$ unvme-test (?!mcd)/gm), 7 * devices.length)
  t.is(count(stdout, /^mcd-test: passed in /gm), 1)
})

register('on a device that keeps nothing they see that, and its latencies can be measured', async (t) => {
  const [device] = suiteAddresses(empty)
  const script = `scripts/unvme-test sim-test --yes -q 1 -s 4k ${device}; echo "status $?"
    scripts/unvme-test lat-test --yes -t 100ms -q 1 -d 4 ${device}`
  const { stdout, stderr } = await inMachine(t, script, { shapes: empty })
  t.regex(stdout, /^status 3$/m)
  t.regex(stderr, /^sim-test: .*: LBA 0, byte 0 is 00h, [0-9a-f]{2}h is expected \(ERR_UNVME_VERIFY\)$/m)
  t.regex(stdout, /^lat-test: passed in /m)
})

register("unvme-benchmark: the device, then the kernel's block device, side by side", async (t) => {
  const { address } = shapes.lba512
  const [jobs, depths] = all ? ['1 2', '1 4'] : ['1', '4']
  const script = `set -e
    OUTDIR=/tmp/vfio scripts/unvme-benchmark --yes ${address}
    scripts/unvme-setup reset ${address}
    OUTDIR=/tmp/kernel scripts/unvme-benchmark --yes /dev/nvme0n1
    scripts/unvme-benchmark compare /tmp/kernel /tmp/vfio`
  const env = { NUMJOBS: jobs!, IODEPTH: depths!, RUNTIME: '1', RAMPTIME: '200ms' }
  const { stdout } = await inMachine(t, script, { shapes: ['lba512'], env })
  t.log(stdout.slice(stdout.lastIndexOf('\nkernel: ')).trimEnd())
  t.regex(
    stdout,
    /^kernel: \/dev\/nvme0n1\nvfio: 00:04\.0\n\nrw +bs +jobs +depth +kernel IOPS +vfio IOPS +ratio /m,
  )
  const rows = all ? 8 : 2
  t.is(count(stdout, /^rand(read|write) +4 KiB +\d +\d +[\d.]+[kM]? +[\d.]+[kM]? +[\d.]+x /gm), rows, stdout)
})
