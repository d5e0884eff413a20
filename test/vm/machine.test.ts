// The virtual machine itself: that it hands in what it is given, hands out what comes, and leaves nothing behind.

import { execFileSync, spawnSync } from 'node:child_process'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { type MachineResult, runInMachine } from '../../scripts/vm/machine.ts'
import { shapeNames, shapes } from '../../scripts/vm/shapes.ts'
import { leftOut, registerUnless } from './machine-test.ts'

const missing = leftOut('the machine itself')
const test = registerUnless(missing, { serial: true })
const BOOT = 300_000

const sh = (script: string) => ['sh', '-c', script]

test('output, status, working folder, environment and odd words arrive', async (t) => {
  t.timeout(BOOT)
  const word = `it's "quoted" $HOME \\ \n two lines`
  const result = await runInMachine({
    command: [...sh('printf %s "$1"; pwd >&2; echo "$GIVEN" >&2; id -u >&2; exit 7'), 'sh', word],
    env: { GIVEN: 'a value' },
  })
  t.is(result.status, 7)
  t.is(result.stdout, word)
  t.is(result.stderr, `${process.cwd()}\na value\n0\n`)
  t.true(result.bootSeconds > 0 && result.bootSeconds < result.seconds)
})

test("files are the host's, writable in the machine and unchanged outside", async (t) => {
  t.timeout(BOOT)
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'unvme-'))
  t.teardown(() => fs.rmSync(folder, { recursive: true }))
  fs.writeFileSync(path.join(folder, 'kept'), 'outside')
  // 5 MB are more than any buffer on the way holds.
  const { status, stdout } = await runInMachine({
    command: sh('cat kept; echo inside >kept; echo new >new; cat kept new; head -c 5000000 /dev/zero'),
    cwd: folder,
  })
  t.is(status, 0)
  t.is(stdout.slice(0, 18), 'outsideinside\nnew\n')
  t.is(stdout.length, 18 + 5_000_000)
  t.deepEqual(fs.readdirSync(folder), ['kept'])
  t.is(fs.readFileSync(path.join(folder, 'kept'), 'utf8'), 'outside')
})

/** For each PCI function: name, class, driver, and how many functions its IOMMU group has. */
const LIST = `for d in /sys/bus/pci/devices/*; do
  echo "$(basename $d) $(cat $d/class) $(basename "$(readlink $d/driver)") $(ls $d/iommu_group/devices | wc -l)"
done`

test('every shape is there, bound to vfio-pci, in a group of its own; one can be unplugged', async (t) => {
  t.timeout(BOOT)
  const gone = 'while [ -e /sys/bus/pci/devices/0000:01:00.0 ]; do sleep 0.1; done'
  const back = 'until [ -e /sys/bus/pci/devices/0000:01:00.0 ]; do sleep 0.1; done'
  const wrong = 'vm-host unplug lba512 || echo refused'
  const { status, stdout, stderr } = await runInMachine({
    command: sh(`${LIST}; echo --; vm-host unplug hot && ${gone} && vm-host plug hot && ${back}; ${wrong}`),
    shapes: shapeNames,
  })
  t.is(status, 0, stderr)
  const [list = '', after] = stdout.split('--\n')
  const functions = new Map(list.split('\n').map((line) => [line.slice(5, 12), line.slice(13)]))
  for (const name of shapeNames) {
    t.is(functions.get(shapes[name].address), `0x010802 vfio-pci ${name === 'group' ? 2 : 1}`, name)
  }
  t.is(functions.get('00:0d.1'), '0x010802 vfio-pci 2')
  t.is(after, 'refused\n')
  t.is(stderr, 'vm-host: lba512 is no hot-pluggable controller\n')
})

const TOOLS = `for tool in modprobe insmod rmmod lsmod depmod modinfo; do
  for place in $(command -v $tool) /sbin/$tool /bin/$tool; do
    [ -e $place ] && echo $tool $(readlink -f $place)
  done
done | sort -u`

test("a kernel module loads by the machine's own tools, with kmod on the host and without", async (t) => {
  t.timeout(BOOT)
  const settings = 'ls -A /etc/modprobe.d /etc/modprobe.conf 2>/dev/null | grep -v :'
  const { status, stdout, stderr } = await runInMachine({
    command: sh(
      `${TOOLS}; ${settings}; /sbin/modprobe ext4 && lsmod | grep -o '^ext4' && grep -c '\text4' /proc/filesystems`,
    ),
  })
  t.is(status, 0, stderr)
  const busybox = '/run/unvme-vm/bin/busybox'
  const tools = ['depmod', 'insmod', 'lsmod', 'modinfo', 'modprobe', 'rmmod'].map(
    (tool) => `${tool} ${busybox}\n`,
  )
  t.is(stdout, `${tools.join('')}ext4\n1\n`)
})

const BLOCKS = `for d in /sys/class/nvme/*/nvme*n*; do
  [ -e $d/size ] || continue
  echo "$(basename "$(readlink -f $d/../device)") $(cat $d/nsid 2>/dev/null) $(cat $d/size $d/queue/logical_block_size $d/metadata_bytes 2>/dev/null | tr '\\n' ' ')"
done | sort`

test("the kernel's driver sees the namespaces as the table has them", async (t) => {
  t.timeout(BOOT)
  const { status, stdout, stderr } = await runInMachine({
    command: sh(BLOCKS),
    driver: 'nvme',
    shapes: ['lba4096', 'multi', 'null512'],
  })
  t.is(status, 0, stderr)
  const expected = (['lba4096', 'multi', 'null512'] as const).flatMap((name) =>
    shapes[name].namespaces.map(
      ({ nsid, bytes, lbaBytes }) => `0000:${shapes[name].address} ${nsid} ${bytes / 512} ${lbaBytes} `,
    ),
  )
  t.deepEqual(
    stdout
      .trimEnd()
      .split('\n')
      .map((line) => `${line.trimEnd()} `),
    expected,
  )
})

test('a file system made on the host is mounted in the machine, and what that writes stays', async (t) => {
  t.timeout(BOOT)
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'unvme-'))
  t.teardown(() => fs.rmSync(folder, { recursive: true }))
  const image = path.join(folder, 'disk.img')
  fs.mkdirSync(path.join(folder, 'content'))
  fs.writeFileSync(path.join(folder, 'content', 'from-host'), 'of the host')
  const env = { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` }
  execFileSync('mke2fs', ['-q', '-t', 'ext4', '-d', path.join(folder, 'content'), image, '64M'], { env })
  const { status, stdout, stderr } = await runInMachine({
    command: sh(
      'mount /dev/nvme0n1 /mnt && cat /mnt/from-host && echo machine >/mnt/from-machine && umount /mnt',
    ),
    disks: { lba512: image },
    shapes: ['lba512'],
    driver: 'nvme',
  })
  t.is(status, 0, stderr)
  t.is(stdout, 'of the host')
  const check = spawnSync('e2fsck', ['-fn', image], { env, encoding: 'utf8' })
  t.is(check.status, 0, check.stdout)
  t.is(
    execFileSync('debugfs', ['-R', 'cat from-machine', image], { env, stdio: 'pipe' }).toString(),
    'machine\n',
  )
})

test('several at the same time: a user, a signal, a time limit, an abort', async (t) => {
  t.timeout(BOOT)
  const abort = new AbortController()
  const timer = setTimeout(() => abort.abort(), 1000)
  const started: Promise<MachineResult>[] = [
    runInMachine({ command: ['id', '-un'], user: 'nobody' }),
    runInMachine({ command: sh('sleep 100 & kill -KILL $$') }),
    runInMachine({ command: ['sleep', '1000'], timeLimit: 5 }),
    runInMachine({ command: ['sleep', '1000'], signal: abort.signal }),
  ]
  const [user, signal, limit, aborted] = await Promise.all(started)
  clearTimeout(timer)
  t.like(user, { status: 0, stdout: 'nobody\n' })
  t.is(signal?.status, 128 + 9)
  t.is(limit?.status, 124)
  t.is(aborted?.status, 130)
})

test('the command line ends with QEMU and its folder gone, however it is ended', async (t) => {
  t.timeout(BOOT)
  const run = path.resolve('scripts/vm/run')
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'unvme-'))
  t.teardown(() => fs.rmSync(folder, { recursive: true }))
  const env = { ...process.env, TMPDIR: folder }
  const interrupted = spawnSync('timeout', ['-s', 'INT', '3', run, '--', 'sleep', '1000'], { env })
  t.is(interrupted.status, 124, String(interrupted.stderr))
  const folders = fs.readdirSync(folder).filter((name) => name.startsWith('unvme-vm-'))
  t.deepEqual(folders, [])
  const killed = spawnSync('timeout', ['-s', 'KILL', '3', run, '--', 'sleep', '1000'], { env })
  t.is(killed.signal, 'SIGKILL')
  const left = fs
    .readdirSync('/proc')
    .filter((pid) => /^\d+$/.test(pid) && commandLine(pid).includes(`path=${folder}`))
  t.deepEqual(left, [])
  // With its standard input closed, as under some schedulers.
  const closed = spawnSync('sh', ['-c', `exec "${run}" -- sh -c 'echo out; exit 3' <&-`], { env })
  t.is(closed.status, 3, String(closed.stderr))
  t.is(String(closed.stdout), 'out\n')
})

function commandLine(pid: string): string {
  try {
    return fs.readFileSync(`/proc/${pid}/cmdline`, 'utf8')
  } catch {
    return ''
  }
}
