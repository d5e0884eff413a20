// What a command reads and writes beside a device: standard input and output, FIFOs, files whose size is not known.

import { execFileSync, spawn } from 'node:child_process'
import { closeSync, existsSync, openSync, readFileSync, truncateSync, writeFileSync } from 'node:fs'
import test from 'ava'
import { testFolder } from '../support/folder.ts'
import { testUnless } from '../support/left-out.ts'
import { pattern } from '../support/pattern.ts'
import { type Outcome, type Started, start, unvme, working } from './command.ts'

const file = testFolder()
const MIB = 1 << 20
const SYSFS = '/sys/devices/system/cpu/possible'

function written(name: string, bytes = MIB): string {
  writeFileSync(file(name), pattern(bytes))
  return file(name)
}

/** Runs a command with standard input or output open on a file. */
async function redirected(
  words: string[],
  { input, output, mode = 'a' }: { input?: string; output?: string; mode?: string },
): Promise<Outcome> {
  const stdin = input === undefined ? undefined : openSync(input, 'r')
  const stdout = output === undefined ? undefined : openSync(output, mode)
  const outcome = await unvme(words, {
    ...(stdin !== undefined && { stdin }),
    ...(stdout !== undefined && { stdout }),
  })
  for (const fd of [stdin, stdout]) if (fd !== undefined) closeSync(fd)
  return outcome
}

test('copy, read and write: standard input or output that is the other side is refused, and untouched', async (t) => {
  const image = written('same.img')
  const before = readFileSync(image)
  const cases: [string[], { input?: string; output?: string; mode?: string }][] = [
    [['copy', '-', image], { input: image }],
    [['copy', '/dev/stdin', image], { input: image }],
    [['copy', '-', `sim:${image}`], { input: image }],
    [['write', `sim:${image}`, '-', '--slba', '8'], { input: image }],
    [['copy', image, '-'], { output: image }],
    [['copy', `sim:${image}`, '-'], { output: image }],
    [['copy', '-', '-'], { input: image, output: image }],
    [['read', `sim:${image}`], { output: image }],
    [['read', `sim:${image}`, '--hex'], { output: image, mode: 'r+' }],
    [['read', `sim:${image}`, '/dev/stdout'], { output: image, mode: 'r+' }],
  ]
  for (const [words, where] of cases) {
    const { code, stderr } = await redirected(words, where)
    t.is(code, 2, words.join(' '))
    t.regex(stderr, /^unvme: .* are the same, or overlap \(ERR_OUT_OF_RANGE\)\n$/, words.join(' '))
    t.true(readFileSync(image).equals(before), words.join(' '))
  }
})

test('copy: what may be read and written at once is no side twice', async (t) => {
  const { code, stderr } = await redirected(['copy', '/dev/null', '/dev/null'], {
    input: '/dev/null',
    output: '/dev/null',
  })
  t.deepEqual([code, stderr], [0, ''])
})

test('copy, write and verify: a file that says 0 bytes is read to its end', async (t) => {
  const content = readFileSync('/proc/version')
  t.true(content.length > 0)
  const device = `sim:${file('proc.img')}?size=1M`
  t.is((await unvme(['write', device, '/proc/version'])).code, 0)
  t.true(readFileSync(file('proc.img')).subarray(0, content.length).equals(content))
  t.is((await unvme(['copy', '/proc/version', file('version'), '--verify'])).code, 0)
  t.true(readFileSync(file('version')).equals(content))
  t.is((await unvme(['copy', '/proc/version', device, '--jobs', '2', '--verify'])).code, 0)
  const equal = await unvme(['verify', '/proc/version', device])
  t.regex(equal.stdout, new RegExp(` are equal: ${content.length} bytes `))
  const differs = await unvme(['verify', '/proc/version', 'sim:?size=1M'])
  t.is(differs.code, 1)
  t.regex(differs.stdout, /differ after 0 equal bytes/)
  const short = await unvme(['verify', '/proc/version', file('proc.img')])
  t.is(short.code, 1, 'two files are of one length')
})

testUnless(
  !existsSync(SYSFS) && `no ${SYSFS}`,
  'copy: a file that says a page is read to its end',
  async (t) => {
    const { code, stderr } = await unvme(['copy', SYSFS, file('sysfs')])
    t.deepEqual([code, stderr], [0, ''])
    t.true(readFileSync(file('sysfs')).equals(readFileSync(SYSFS)))
  },
)

test('verify: one stream is refused as both sides; standard input has one name', async (t) => {
  const image = written('stream.img')
  for (const words of [
    ['-', '-'],
    ['-', '/dev/stdin'],
  ]) {
    const { code, stderr } = await unvme(['verify', ...words], { input: readFileSync(image) })
    // A socket, as Node gives it to a child, can't be opened by its path.
    if (words[1] === '/dev/stdin') t.not(code, 0)
    else t.deepEqual([code, /^unvme: stdin and stdin are the same/.test(stderr)], [2, true])
  }
  t.is((await redirected(['verify', '-', '-'], { input: image })).code, 2)
  t.regex((await redirected(['verify', '-', image], { input: image })).stdout, /^stdin and .* are equal/)
})

test('write: --no-flush with --force-unit-access is refused', async (t) => {
  const image = written('fua.img')
  const { code, stderr } = await unvme(['write', 'sim:?size=1M', image, '--no-flush', '-f'])
  t.is(code, 2)
  t.regex(stderr, /--force-unit-access and --no-flush/)
  t.is((await unvme(['write', 'sim:?size=1M', image, '-f'])).code, 0)
  t.is((await unvme(['write', 'sim:?size=1M', image, '-z', '0x200'])).code, 0)
})

test('verify: nothing is equal only with the words 0 bytes', async (t) => {
  writeFileSync(file('empty'), '')
  for (const words of [
    [file('empty'), 'sim:?size=1M'],
    ['sim:?size=1M', '-'],
    [file('empty'), '-'],
  ]) {
    const { code, stdout } = await unvme(['verify', ...words])
    t.is(code, 0)
    t.regex(stdout, / are equal: 0 bytes .*: nothing was compared\n$/)
  }
  const json = await unvme(['verify', file('empty'), 'sim:?size=1M', '-o', 'json'])
  t.like(JSON.parse(json.stdout), { equal: true, bytes: 0 })
})

test('verify: a pipe ends where it ends, and a device where it ends', async (t) => {
  const content = pattern(100_000)
  const device = `sim:${file('piped.img')}?size=1M`
  await unvme(['write', device, '-'], { input: content })
  for (const words of [
    ['-', device],
    [device, '-'],
  ]) {
    const equal = await unvme(['verify', ...words], { input: content })
    t.is(equal.code, 0)
    t.regex(equal.stdout, / are equal: 100000 bytes /)
    const changed = Buffer.from(content)
    changed[99_999]! ^= 1
    const differs = await unvme(['verify', ...words], { input: changed })
    t.is(differs.code, 1)
    t.regex(differs.stdout, /differ after 99999 equal bytes/)
    const long = Buffer.concat([readFileSync(file('piped.img')), Buffer.alloc(1)])
    const longer = await unvme(['verify', ...words], { input: long })
    t.is(longer.code, 1)
    t.regex(longer.stdout, /differ after 1048576 equal bytes/)
  }
})

test('copy --verify of a pipe: a checksum on the way, and a read of the target', async (t) => {
  const content = pattern(100_000)
  const device = `sim:${file('summed.img')}?size=1M`
  for (const target of [device, file('summed')]) {
    const { code, stdout, stderr } = await unvme(['copy', '-', target, '--verify'], { input: content })
    t.deepEqual([code, stderr], [0, ''])
    t.regex(stdout, /\nverified: 100000 bytes .*, equal by sha256 [0-9a-f]{64}\n$/)
  }
  t.true(readFileSync(file('summed')).equals(content))
  // Blocks that can't be read: the medium is asked, not the memory.
  const unread = await unvme(['copy', '-', 'sim:?size=1M&fault=read@8:status=281h', '--verify'], {
    input: content,
  })
  t.is(unread.code, 1)
  t.regex(unread.stderr, /Read failed: Unrecovered Read Error/)
})

test('copy, read, telemetry-log and io-passthru: a path of standard output gets the data, and nothing else', async (t) => {
  const image = written('output.img')
  const content = readFileSync(image)
  for (const path of ['/dev/stdout', '/dev/fd/1', '/proc/self/fd/1', file('out')]) {
    for (const words of [
      ['read', `sim:${image}`, path],
      ['copy', `sim:${image}`, path],
      ['copy', image, path, '-o', 'json'],
    ]) {
      const { code, stderr } = await redirected(words, { output: file('out'), mode: 'w' })
      t.deepEqual([code, stderr], [0, ''])
      t.true(readFileSync(file('out')).equals(content), words.join(' '))
    }
  }
  const block = await redirected(
    ['io-passthru', `sim:${image}`, '-o', '2', '-l', '512', '-i', '/dev/stdout', '-T'],
    { output: file('block'), mode: 'w' },
  )
  t.is(block.code, 0)
  t.true(readFileSync(file('block')).equals(content.subarray(0, 512)))
  await redirected(['telemetry-log', 'sim:', '-o', '/dev/stdout'], { output: file('telemetry'), mode: 'w' })
  t.is(readFileSync(file('telemetry')).length % 512, 0)
})

test('every command that takes data of a known length refuses an endless input, and reads no more of it', async (t) => {
  const cases: string[][] = [
    ['compare', 'sim:?size=1M', '-c', '1', '-d'],
    ['io-passthru', 'sim:?size=1M', '-o', '1', '-l', '512', '-i'],
    ['admin-passthru', 'sim:', '-o', '9', '-l', '4096', '-w', '-i'],
    ['set-feature', 'sim:', '-f', '1', '-v', '0', '-d'],
    ['fw-download', 'sim:', '-f'],
  ]
  for (const words of cases) {
    for (const [path, where] of [['/dev/zero', {}] as const, ['-', { input: '/dev/zero' }] as const]) {
      const { code, stdout, stderr } = await redirected([...words, path], where)
      t.is(code, 2, `${words[0]} ${path}`)
      t.is(stdout, '')
      t.regex(stderr, /is too long: it has more than \d+ bytes \(ERR_UNVME_USAGE\)\n$/, `${words[0]} ${path}`)
    }
  }
  // Without a length the device's end is the end.
  const whole = await unvme(['compare', 'sim:?size=1M', '-d', '/dev/zero'])
  t.is(whole.code, 2)
  t.regex(whole.stderr, /passes the end of namespace 1: it has 2048 blocks/)
  // What is asked for is no more than the beginning.
  t.is((await unvme(['compare', 'sim:?size=1M', '-z', '512', '-d', '/dev/zero'])).code, 0)
})

test('read and write: a FIFO brings and takes the data', async (t) => {
  const image = written('fifo.img')
  const fifo = file('through')
  execFileSync('mkfifo', [fifo])
  const reader = spawn('cat', [fifo])
  const chunks: Buffer[] = []
  reader.stdout.on('data', (chunk: Buffer) => chunks.push(chunk))
  const taken = new Promise((resolve) => reader.once('close', resolve))
  const read = await unvme(['read', `sim:${image}`, fifo])
  await taken
  t.is(read.code, 0)
  t.true(Buffer.concat(chunks).equals(readFileSync(image)))
  const write = start(['write', `sim:${file('from-fifo.img')}?size=1M`, fifo])
  const brought = new Promise((resolve) => spawn('cp', [image, fifo]).once('close', resolve))
  t.is((await write.ended).code, 0)
  t.is(await brought, 0)
  t.true(readFileSync(file('from-fifo.img')).equals(readFileSync(image)))
})

/** Sends a signal when the command does its work; returns the exit code. */
async function interrupted(command: Started, signal: NodeJS.Signals, file: string): Promise<number | null> {
  await working(command, file)
  command.child.kill(signal)
  return (await command.ended).code
}

test('commands that wait for the other end of a FIFO end by the first signal', async (t) => {
  const fifo = file('alone')
  execFileSync('mkfifo', [fifo])
  const never = file('never')
  for (const words of [
    ['write', 'sim:?size=1M', fifo],
    ['read', 'sim:?size=1M', fifo],
    ['copy', fifo, never],
    ['verify', fifo, 'sim:?size=1M'],
    ['compare', 'sim:?size=1M', '-d', fifo],
    ['io-passthru', 'sim:?size=1M', '-o', '1', '-l', '512', '-i', fifo],
    ['fw-download', 'sim:', '-f', fifo],
    ['set-feature', 'sim:', '-f', '1', '-v', '0', '-d', fifo],
  ]) {
    // Two copies to one file would refuse each other.
    const [int, term] = await Promise.all(
      (['SIGINT', 'SIGTERM'] as const).map((signal) =>
        interrupted(start(words.map((word) => (word === never ? `${word}-${signal}` : word))), signal, fifo),
      ),
    )
    t.deepEqual([int, term], [130, 143], words.join(' '))
  }
  // What a device sends is opened first, and waits for no reader.
  for (const words of [
    ['io-passthru', 'sim:?size=1M', '-o', '2', '-l', '512', '--cdw12=0', '-i', fifo],
    ['telemetry-log', 'sim:', '-o', fifo],
  ]) {
    const { code, stderr } = await start(words).ended
    t.is(code, 1, words.join(' '))
    t.regex(stderr, /^unvme: ENXIO: .*\n$/)
  }
})

test('commands for a long range see a signal between two commands', async (t) => {
  // Two thousand commands and more, which take half a minute.
  const image = file('long.img')
  writeFileSync(image, '')
  truncateSync(image, 2 ** 36)
  const data = file('long.bin')
  writeFileSync(data, '')
  truncateSync(data, 2 ** 36)
  const blocks = String(2 ** 27)
  for (const words of [
    ['verify-blocks', `sim:${image}`, '-c', blocks],
    ['write-zeroes', `sim:${image}`, '-c', blocks],
    ['compare', `sim:${image}`, '-d', data],
  ]) {
    const command = start(words)
    t.is(await interrupted(command, 'SIGINT', image), 130, words[0])
    t.deepEqual(await command.ended, { code: 130, stdout: '', stderr: '' }, words[0])
  }
})

test('a model with control characters shows them escaped', async (t) => {
  // As a kernel would show it, by a copy of its sysfs.
  const device = file('sys/devices/pci0000:00/0000:01:00.0')
  const attributes: Record<string, string> = {
    class: '0x010802',
    vendor: '0x144d',
    device: '0xa80a',
    'nvme/nvme0/model': 'A\u001b[2J\u009b1mB\u202e',
    'nvme/nvme0/serial': 'S\u0007\tN',
    'nvme/nvme0/firmware_rev': 'F\u007f',
    'nvme/nvme0/nvme0n1/nsid': '1',
    'nvme/nvme0/nvme0n1/size': '2048',
    'nvme/nvme0/nvme0n1/queue/logical_block_size': '512',
  }
  for (const [name, text] of Object.entries(attributes)) {
    execFileSync('mkdir', ['-p', `${device}/${name}/..`.replace(/\/[^/]*\/\.\.$/, '')])
    writeFileSync(`${device}/${name}`, `${text}\n`)
  }
  execFileSync('mkdir', ['-p', file('sys/bus/pci/devices'), file('sys/class/nvme'), file('sys/block')])
  execFileSync('ln', [
    '-s',
    '../../../devices/pci0000:00/0000:01:00.0',
    file('sys/bus/pci/devices/0000:01:00.0'),
  ])
  for (const words of [['list'], ['list', '-o', 'json'], ['setup', 'show']]) {
    const { stdout } = await unvme([...words, '--sysroot', file('.')])
    t.regex(stdout, /A\\(x1b|u001b)\[2J\\(x9b|u009b)1mB\\u202e/, words.join(' '))
    t.notRegex(stdout, /[^\P{Cc}\n]|\p{Bidi_Control}/u, words.join(' '))
  }
})
