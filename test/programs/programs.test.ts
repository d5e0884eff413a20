// UNVMe's test programs as processes, on small software controllers: what they print, exit codes, bad arguments.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import test from 'ava'
import { testFolder } from '../support/folder.ts'
import { run } from '../support/run.ts'
import { startServer } from '../support/server.ts'

const folder = fileURLToPath(new URL('../../examples/unvme/', import.meta.url))
const file = testFolder()
const program = (name: string, ...words: string[]) => run(`${folder}${name}.js`, words)
const FAULT = 'fault=read@100:status=281h'

const NAMES = ['unvme-info', 'sim-test', 'api-test', 'lat-test', 'mts-test', 'mcd-test', 'wrc', 'rw']

test.serial('each has help, with examples and exit codes, and refuses what it does not know', async (t) => {
  for (const name of NAMES) {
    const help = await program(name, '--help')
    t.is(help.code, 0, name)
    t.regex(help.stdout, new RegExp(`^Usage: ${name} \\[options\\] [<\\[]ADDR`), name)
    t.regex(help.stdout, new RegExp(`\\nExamples:\\n {2}${name} `), name)
    t.regex(help.stdout, /\n {2}3 {4}what was read is not what was written\n/, name)
    for (const words of [[], ['--nonsense', 'sim:'], ['nowhere:', 'sim:'], ['nowhere']]) {
      const { code, stdout, stderr } = await program(name, ...words)
      t.is(code, 2, `${name} ${words}`)
      t.is(stdout, '', `${name} ${words}`)
      t.regex(stderr, new RegExp(`^${name}: .*\\n$`), `${name} ${words}`)
    }
  }
})

test.serial('the page about them has each of them, with all of its short options', async (t) => {
  const page = readFileSync(new URL('../../../docs/test-programs.md', import.meta.url), 'utf8')
  for (const name of NAMES) {
    const row = page
      .split('\n')
      .find((line) => line.startsWith(`| [${name}](../examples/unvme/${name}.ts) |`))
    const { stdout } = await program(name, '--help')
    const letters = [...stdout.matchAll(/^ {2}-([a-z]), --(?!help|yes)/gm)].map(([, letter]) => letter!)
    const listed = [...row!.matchAll(/`-([a-z])[` ]/g)].map(([, letter]) => letter!)
    t.deepEqual(listed.sort(), letters.sort(), name)
  }
})

test.serial('unvme-info prints the attributes', async (t) => {
  const { code, stdout, stderr } = await program('unvme-info', 'sim:?size=16M&ns=2&mdts=2&qcount=5&qsize=64')
  t.is(stderr, '')
  t.is(code, 0)
  t.regex(
    stdout,
    /^sim:\S+: namespace 1 \(of 2\)\nvendor id {10}: 0x[0-9a-f]{4}\nmodel number {7}: unvme sim/,
  )
  for (const [name, value] of [
    ['block count', 32768],
    ['page count', 4096],
    ['block size', 512],
    ['page size', 4096],
    ['blocks per page', 8],
    ['max blocks per I/O', 32],
    ['max queue count', 5],
    ['max queue size', 64],
  ]) {
    t.regex(stdout, new RegExp(`^${name} +: ${value}$`, 'm'))
  }
})

test.serial('sim-test goes through every queue; a seed repeats a run', async (t) => {
  const image = file('sim.img')
  const words = ['-a', '8', '-s', '64k', '--seed', '7']
  const { code, stdout, stderr } = await program('sim-test', ...words, `sim:${image}?size=1M&qcount=3`)
  t.is(stderr, '')
  t.is(code, 0)
  t.regex(stdout, /^sim-test: sim:.*, namespace 1, 2048 blocks of 512 bytes, 3 queues of 256, seed 7\n/)
  t.deepEqual(stdout.match(/^queue \d: 128 blocks from LBA 8 on are as written$/gm)?.length, 3)
  t.regex(stdout, /\nsim-test: passed in \d+\.\d\d s\n$/)
  const written = readFileSync(image)
  t.true(written.subarray(0, 4096).every((byte) => byte === 0))
  t.false(written.subarray(4096, 8192).equals(written.subarray(8192, 12288)))
  t.true(written.subarray(4096 + 65536).every((byte) => byte === 0))
  await program('sim-test', ...words, `sim:${file('again.img')}?size=1M&qcount=3`)
  t.true(readFileSync(file('again.img')).equals(written))

  const past = await program('sim-test', '-a', '2000', '-s', '64k', 'sim:?size=1M')
  t.is(past.code, 2)
  t.regex(past.stderr, /^sim-test: --lba 2000 and 128 blocks: .* has 2048 blocks \(ERR_OUT_OF_RANGE\)\n$/)
})

test.serial('api-test has more operations than the queue holds, longer than a command', async (t) => {
  const words = ['-r', '3', '-z', '16', '-v', 'sim:?size=8M&mdts=2']
  const { code, stdout, stderr } = await program('api-test', ...words)
  t.is(stderr, '')
  t.is(code, 0)
  t.regex(stdout, /^queue 0: 45 operations of up to 96 blocks, \d+ in all$/m)
  const lengths = [...stdout.matchAll(/^ {2}LBA \d+, (\d+) blocks$/gm)].map(([, n]) => Number(n))
  t.is(lengths.length, 45)
  t.true(Math.max(...lengths) > 32, 'some are split')
  // One that has hardly any space.
  t.is((await program('api-test', '--memory', '64k', 'sim:?size=1M')).code, 0)
})

test.serial('lat-test measures reads and writes on each queue, in threads', async (t) => {
  const { code, stdout, stderr } = await program(
    'lat-test',
    '-t',
    '50ms',
    '-q',
    '2',
    '-d',
    '3',
    'sim:?size=4M',
  )
  t.is(stderr, '')
  t.is(code, 0)
  t.regex(stdout, /^in flight on each: 3 operations of 4096 bytes, for 0\.05 s$/m)
  for (const phase of ['read', 'write']) {
    const [, rows = ''] =
      new RegExp(`^${phase}, microseconds:\n.*\n.*\n((?:.+\n){3})`, 'm').exec(stdout) ?? []
    const numbers = rows
      .trim()
      .split('\n')
      .map((row) => row.trim().split(/ +/))
    t.deepEqual(
      numbers.map(([name]) => name),
      ['0', '1', 'all'],
    )
    const count = (row: number) => Number(numbers[row]![1])
    t.is(count(0) + count(1), count(2))
    for (const row of numbers) {
      const [submission, completion] = [row.slice(2, 5).map(Number), row.slice(5).map(Number)]
      for (const [min, avg, max] of [submission, completion])
        t.true(min! <= avg! && avg! <= max!, row.join(' '))
    }
  }
})

test.serial('mts-test has a thread for each session and queue, and fewer where the device has', async (t) => {
  const words = ['-t', '2', '-q', '2', '-m', '16', '-n', '5']
  const { code, stdout, stderr } = await program('mts-test', ...words, 'sim:?size=4M')
  t.is(stderr, '')
  t.is(code, 0)
  t.regex(stdout, /^sessions: 2, queues of each: 2, 5 operations of up to 16 blocks$/m)
  t.regex(stdout, /^session 1: \d+ blocks of queue 2, \d+ blocks of queue 3 are as written$/m)
  const few = await program('mts-test', ...words, 'sim:?size=4M&qcount=1')
  t.is(few.code, 0)
  t.regex(few.stdout, /^sessions: 1, queues of each: 1, /m)
})

test.serial(
  'where queues can not be shared with threads, the work is done in one, and it says so',
  async (t) => {
    const { address, stop } = await startServer({ device: 'sim:?size=4M', doorbells: 'shadow' })
    try {
      const mts = await program('mts-test', '-t', '2', '-q', '2', '-m', '16', '-n', '5', '--yes', address)
      t.is(mts.stderr, '')
      t.is(mts.code, 0)
      t.is(mts.stdout.match(/^the queues take turns in this thread: share: .*$/gm)?.length, 1)
      t.regex(mts.stdout, /^session 1: \d+ blocks of queue 2, \d+ blocks of queue 3 are as written$/m)
      const lat = await program('lat-test', '-t', '50ms', '-q', '2', '-d', '2', '--yes', address)
      t.is(lat.stderr, '')
      t.is(lat.code, 0)
      t.regex(lat.stdout, /^the queues take turns in this thread: /m)
      // It is somebody's device: nothing is written unasked.
      for (const name of ['sim-test', 'api-test', 'lat-test', 'mts-test']) {
        const asked = await program(name, address)
        t.is(asked.code, 2)
        t.regex(asked.stderr, /: Overwrite .* of vfio-user:.*\? Not asked without a terminal: give --yes /)
      }
      t.is((await program('wrc', '-r', '1', address)).code, 3)
      t.is((await program('rw', address)).code, 0)
    } finally {
      await stop()
    }
  },
)

test.serial('mcd-test works on several devices and namespaces at once', async (t) => {
  const image = file('two.img')
  const devices = ['sim:?size=4M', `sim:${image}?size=2M&ns=2&nsid=1`, `sim:${image}?size=2M&ns=2&nsid=2`]
  const { code, stdout, stderr } = await program('mcd-test', '-q', '2', '-s', '300k', ...devices)
  t.is(stderr, '')
  t.is(code, 0)
  t.is(stdout.match(/, queue [01]: 307200 bytes from LBA (0|600) on are as written$/gm)?.length, 6)
  const one = await program('mcd-test', 'sim:')
  t.is(one.stderr, 'mcd-test: 2 to 64 addresses are needed, 1 given (ERR_UNVME_USAGE)\n')
  t.is(one.code, 2)
  const same = await program('mcd-test', devices[1]!, devices[1]!)
  t.regex(same.stderr, /are the same namespace/)
  t.is(same.code, 2)
})

test.serial(
  'wrc writes a pattern and finds it, in any part; a mismatch is shown, and is exit code 3',
  async (t) => {
    const image = `sim:${file('wrc.img')}?size=1M&mdts=2`
    const pattern = ['0xfffffffffffffff0', '-i', '0x100000003']
    const write = await program('wrc', '-w', ...pattern, '-q', '3', '-d', '2', image)
    t.deepEqual(write, { code: 0, stdout: '2048 blocks from LBA 0 on written\n', stderr: '' })
    const bytes = readFileSync(file('wrc.img'))
    for (const i of [0, 1, 7, 64, 99_999]) {
      const expected = BigInt.asUintN(64, 0xfffffffffffffff0n + 0x100000003n * BigInt(i))
      t.is(bytes.readBigUInt64LE(8 * i), expected)
    }
    const part = await program('wrc', '-r', ...pattern, '-a', '77', '-n', '100', '-m', '7', image)
    t.deepEqual(part, { code: 0, stdout: '100 blocks from LBA 77 on hold the pattern\n', stderr: '' })

    await program('rw', '-w', '0', '-a', '99', image)
    const wrong = await program('wrc', '-r', ...pattern, image)
    t.is(wrong.code, 3)
    t.is(
      wrong.stdout,
      `LBA 99:\n0000c600 ${' 00'.repeat(8)} ${' 00'.repeat(8)}  |${'.'.repeat(16)}|\n*\n0000c800\n`,
    )
    t.regex(
      wrong.stderr,
      /^wrc: .*, queue 0: LBA 99, byte 0 is 00h, [0-9a-f]{2}h is expected \(ERR_UNVME_VERIFY\)\n$/,
    )

    const failed = await program('wrc', '-r', '0', `sim:?size=1M&${FAULT}`)
    t.is(failed.code, 1)
    t.regex(failed.stderr, /^wrc: Read failed: Unrecovered Read Error .* \(ERR_NVME_STATUS\)\n$/)
    for (const [words, message] of [
      [[], /--write or --read is needed/],
      [['-w', '0x10000000000000000'], /no number of 64 bits/],
      [['-w', 'ff'], /no number of 64 bits/],
      [['-r', '0', '-a', '2048'], /has 2048 blocks/],
      [['-r', '0', '-n', '2049'], /has 2048 blocks/],
      [['-r', '0', '-m', '64'], /takes 32 blocks in one I\/O/],
      [['-r', '0', '-d', '70000'], /70000/],
    ] as const) {
      const { code, stderr } = await program('wrc', ...words, 'sim:?size=1M&mdts=2')
      t.regex(stderr, message)
      t.is(code, 2)
    }
  },
)

test.serial('rw shows blocks in hex, rows that repeat as *', async (t) => {
  const image = `sim:${file('rw.img')}?size=1M`
  const written = await program('rw', '-w', '0x3837363534333231', '-a', '3', '-n', '2', image)
  t.deepEqual(written, {
    code: 0,
    stdout:
      '2 blocks written from LBA 3 on\n' +
      '00000600  31 32 33 34 35 36 37 38  31 32 33 34 35 36 37 38  |1234567812345678|\n*\n00000a00\n',
    stderr: '',
  })
  const read = await program('rw', '-a', '2', '-n', '2', image)
  t.is(
    read.stdout,
    `00000400 ${' 00'.repeat(8)} ${' 00'.repeat(8)}  |${'.'.repeat(16)}|\n*\n` +
      '00000600  31 32 33 34 35 36 37 38  31 32 33 34 35 36 37 38  |1234567812345678|\n*\n00000800\n',
  )
  const past = await program('rw', '-a', '2048', image)
  t.is(past.code, 2)
  t.regex(past.stderr, /last LBA 2047/)
})

test.serial('Ctrl-C ends them early, with the device closed: 130', async (t) => {
  for (const [name, ...words] of [
    ['lat-test', '-t', '1h', '-q', '2', 'sim:?size=4M'],
    ['mts-test', '-n', '100000000', '-m', '8', '-t', '1', '-q', '1', 'sim:?size=1G'],
    ['wrc', '-w', '1', '-i', '1', 'sim:?size=64G&latency=1ms'],
  ] as const) {
    const child = spawn(process.execPath, [`${folder}${name}.js`, ...words])
    let [stdout, stderr] = ['', '']
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text
    })
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text
    })
    setTimeout(() => child.kill('SIGINT'), 2000)
    const [code] = await once(child, 'close')
    t.is(code, 130, name)
    t.notRegex(stdout, /passed|written/, name)
    t.is(stderr, '', name)
  }
})

test.serial('a device that fails ends each of them with 1, and nothing is left hanging', async (t) => {
  const bad = `sim:?size=1M&${FAULT}`
  for (const [name, ...words] of [
    ['sim-test', '-s', '128k', bad],
    ['api-test', '-r', '1', bad],
    ['lat-test', '-t', '10s', '-q', '2', '-d', '4', bad],
    ['mts-test', '-t', '1', '-q', '2', '-m', '64', bad],
    ['mcd-test', '-q', '2', bad, 'sim:?size=1M'],
    ['rw', '-a', '100', bad],
  ] as const) {
    const { code, stderr } = await program(name, ...words)
    t.regex(stderr, new RegExp(`^${name}: Read failed: Unrecovered Read Error .*\\n$`), name)
    t.is(code, 1, name)
  }
})
