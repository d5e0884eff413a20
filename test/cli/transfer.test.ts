import { spawn } from 'node:child_process'
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import test from 'ava'
import { testFolder } from '../support/folder.ts'
import { pattern } from '../support/pattern.ts'
import { cleanEnvironment, MAIN, unvme } from './command.ts'

const file = testFolder()
const BYTES = 1_234_567
const content = pattern(BYTES)
writeFileSync(file('content'), content)

/** A fresh disk image of 4 MiB. */
function image(name: string, lba = 512): string {
  return `sim:${file(name)}?size=4M&lba=${lba}`
}

const RESULT = /: 1234567 bytes \(1\.23 MB\) in \d+\.\d\d s, [\d.]+ [kMG]?B\/s\n$/

test("info: the attributes in UNVMe's order", async (t) => {
  const { code, stdout, stderr } = await unvme(['info', 'sim:?size=8M&lba=4096&ns=2&nsid=2&qsize=64'])
  t.is(stderr, '')
  t.is(code, 0)
  const fields = new Map(stdout.split('\n').map((line) => line.split(/ +: /) as [string, string]))
  t.is(fields.get('namespace'), '2 (of 2)')
  t.is(fields.get('block count'), '2048 (8.39 MB)')
  t.is(fields.get('block size'), '4096')
  t.is(fields.get('blocks per page'), '1')
  t.is(fields.get('max queue size'), '64')
  t.is(fields.get('max I/Os per queue'), '63')
})

test.serial('info -o json has the names of the API; -n chooses a namespace', async (t) => {
  const { code, stdout } = await unvme(['info', 'sim:?size=8M&ns=3,7', '-n', '7', '-o', 'json'])
  t.is(code, 0)
  const info = JSON.parse(stdout)
  t.is(info.id, 7)
  t.is(info.nscount, 2)
  t.is(info.blockcount, 16384)
  t.is(info.transport, 'sim')
  const wrong = await unvme(['info', 'sim:?size=8M&ns=3,7', '-n', '1'])
  t.is(wrong.code, 2)
  t.regex(wrong.stderr, /no active namespace 1; active: 3, 7 \(ERR_UNVME_ADDRESS\)\n$/)
})

test.serial('copy: a file to a device and back, to the byte, with nothing on stderr', async (t) => {
  const device = image('round-trip', 4096)
  const there = await unvme(['copy', file('content'), device, '--verify', '--dst-slba', '3'])
  t.is(there.stderr, '')
  t.is(there.code, 0)
  const [copied, verified, end] = there.stdout.split('\n')
  t.regex(`${copied}\n`, RESULT)
  t.regex(verified!, /^verified: 1234567 bytes .*, equal$/)
  t.is(end, '')
  const back = await unvme(['copy', device, file('back'), '--slba', '3', '--bytes', String(BYTES)])
  t.deepEqual([back.code, back.stderr], [0, ''])
  t.true(readFileSync(file('back')).equals(content))
})

test.serial('copy: device to device, by blocks, as JSON', async (t) => {
  const from = image('from')
  const to = image('to', 4096)
  t.is((await unvme(['write', from, file('content'), '--slba', '100'])).code, 0)
  const words = [
    'copy',
    from,
    to,
    '--slba',
    '100',
    '--dst-slba',
    '10',
    '--nlb',
    '2048',
    '--verify',
    '-o',
    'json',
  ]
  const { code, stdout } = await unvme([...words, '--chunk', '64k', '--depth', '4'])
  t.is(code, 0)
  const result = JSON.parse(stdout)
  t.is(result.bytes, 1 << 20)
  t.true(result.equal)
  t.true(result.bytesPerSecond > 0)
  const read = await unvme(['read', to, file('part'), '--slba', '10', '--bytes', '1M'])
  t.is(read.code, 0)
  t.true(readFileSync(file('part')).equals(content.subarray(0, 1 << 20)))
})

test.serial('write from standard input, read to standard output', async (t) => {
  const device = image('pipes')
  const written = await unvme(['write', device, '-'], { input: content })
  t.regex(written.stdout, RESULT)
  t.true(written.stdout.startsWith('stdin to sim:'))
  const child = spawn(process.execPath, [MAIN, 'read', device, '--bytes', String(BYTES)])
  const chunks: Buffer[] = []
  for await (const chunk of child.stdout) chunks.push(chunk)
  t.true(Buffer.concat(chunks).equals(content))
  const copied = await unvme(['copy', '-', device, '--bytes', '10000000'], { input: content })
  t.is(copied.code, 2)
  t.regex(copied.stderr, /do not fit: .* has space for 4194304/)
  const short = await unvme(['copy', '-', device, '--bytes', '2000000'], { input: content })
  t.is(short.code, 1)
  t.is(short.stderr, 'unvme: stdin ended after 1234567 of 2000000 bytes (ERR_UNVME_END_OF_SOURCE)\n')
  const long = await unvme(['write', device, '-', '--slba', '8000'], { input: content })
  t.is(long.code, 1)
  t.regex(long.stderr, /the range of 192 blocks from slba 8000 is full after 98304 bytes.*END_OF_RANGE/)
})

test.serial('read --hex: rows, repeated ones once, and the end', async (t) => {
  const device = image('hex')
  writeFileSync(file('hex-data'), 'unvme reads and writes blocks')
  await unvme(['write', device, file('hex-data'), '--slba', '1'])
  const { code, stdout } = await unvme(['read', device, '--slba', '1', '--nlb', '2', '--hex'])
  t.is(code, 0)
  t.is(
    stdout,
    [
      '00000200  75 6e 76 6d 65 20 72 65  61 64 73 20 61 6e 64 20  |unvme reads and |',
      '00000210  77 72 69 74 65 73 20 62  6c 6f 63 6b 73 00 00 00  |writes blocks...|',
      '00000220  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|',
      '*',
      '00000600',
      '',
    ].join('\n'),
  )
})

test.serial('copy and verify by several threads', async (t) => {
  const device = image('jobs', 4096)
  const copied = await unvme(['copy', file('content'), device, '--jobs', '3', '--verify'])
  t.deepEqual([copied.code, copied.stderr], [0, ''])
  t.regex(copied.stdout, /: 1234567 bytes .*\nverified: 1234567 bytes .*, equal\n$/)
  const back = ['copy', device, file('jobs.back'), '--bytes', String(BYTES), '--jobs', '2']
  t.regex((await unvme(back)).stdout, RESULT)
  t.true(readFileSync(file('jobs.back')).equals(content))
  t.is((await unvme(['verify', file('content'), device, '--jobs', '2'])).code, 0)
  const files = await unvme(['copy', file('content'), file('jobs.back'), '--jobs', '2'])
  t.deepEqual([files.code, files.stdout], [1, ''])
  t.regex(files.stderr, /^unvme: jobs: 2 need a device and a file, not .* \(ERR_UNVME_UNSUPPORTED\)\n$/)
})

test.serial('verify: the first LBA and byte that differ, both contents, exit code 1', async (t) => {
  const device = image('differs', 4096)
  const changed = Buffer.from(content)
  changed[70_007] = changed[70_007]! ^ 0xff
  await unvme(['write', device, file('content'), '--slba', '2'])
  writeFileSync(file('changed'), changed)
  const equal = await unvme(['verify', file('content'), device, '--dst-slba', '2'])
  t.is(equal.code, 0)
  t.true(equal.stdout.includes(' are equal: 1234567 bytes '))

  const { code, stdout, stderr } = await unvme(['verify', device, file('changed'), '--slba', '2'])
  t.deepEqual([code, stderr], [1, ''])
  const lines = stdout.trimEnd().split('\n')
  t.is(lines.length, 7)
  t.true(lines[0]!.endsWith('differ after 70007 equal bytes:'))
  t.true(lines[1]!.endsWith('  LBA 19, byte 375'))
  t.true(lines[4]!.endsWith('  byte 70007'))
  const row = (bytes: Buffer) => bytes.subarray(70_000, 70_016).toString('hex').replace(/..\B/g, '$& ')
  t.true(lines[2]!.replace(/ +/g, ' ').startsWith(`00013170 ${row(content)} |`), lines[2])
  t.true(lines[5]!.replace(/ +/g, ' ').startsWith(`00011170 ${row(changed)} |`), lines[5])

  const json = await unvme(['verify', device, file('changed'), '--slba', '2', '-o', 'json'])
  t.is(json.code, 1)
  const { equal: same, difference } = JSON.parse(json.stdout)
  t.false(same)
  t.like(difference.a, { lba: 19, byte: 375, position: 78199 })
  t.true(difference.b.data.startsWith(changed.subarray(70_007, 70_010).toString('hex')))
})

test.serial('what is wrong is said in one line before anything is written', async (t) => {
  const device = image('refused')
  const path = file('refused')
  writeFileSync(path, pattern(4 << 20))
  const before = readFileSync(path)
  const refused = async (code: number, words: string[], message: RegExp) => {
    const outcome = await unvme(words)
    t.deepEqual([outcome.code, outcome.stdout], [code, ''], words.join(' '))
    t.regex(outcome.stderr, /^unvme: [^\n]*\n$/)
    t.regex(outcome.stderr, message)
  }
  writeFileSync(file('too-large'), Buffer.alloc((4 << 20) + 1))
  await Promise.all([
    refused(2, ['copy', file('content'), 'sim:?size=1M'], /1234567 bytes of .* has space for 1048576/),
    refused(2, ['copy', file('content'), 'zim:'], /unknown address "zim:".*ERR_UNVME_ADDRESS/),
    refused(1, ['copy', file('missing'), 'sim:'], /ENOENT.*missing/),
    refused(1, ['copy', file('content'), `sim:${file('missing')}`], /does not exist.*ERR_UNVME_IMAGE/),
    refused(2, ['copy', file('content'), 'sim:', '--slba', '1'], /slba 1 is for a device/),
    refused(
      2,
      ['copy', file('content'), 'sim:', '--nlb', '1', '--bytes', '513'],
      /--nlb 1 is 512 bytes .*--bytes is 513/,
    ),
    refused(2, ['copy', file('content'), file('other'), '--nlb', '1'], /--nlb counts blocks of a device/),
    refused(2, ['copy', 'sim:', 'sim:', '--nlb', '0'], /--nlb <N>.*0 blocks: counts are one-based here/),
    refused(2, ['copy', 'sim:', 'sim:', '--depth', '0'], /--depth <N>.*0 is not in 1 to 255/),
    refused(2, ['copy', 'sim:', 'sim:', '--chunk', '1000'], /1000 bytes are no multiple of .* 512/),
    refused(2, ['copy', 'sim:', '/dev/null', '--verify'], /\/dev\/null can be read only once/),
    refused(2, ['copy', 'sim:'], /missing required argument 'DST'/),
    refused(2, ['read', file('content')], /is no address of a device/),
    refused(2, ['read', 'sim:', '--slba', '9999999'], /slba 9999999 is after the last LBA 2097151/),
    refused(2, ['read', 'sim:', '--slba', '-1'], /-1 is not in 0 to/),
    refused(2, ['read', 'sim:', '--slba', '1.5'], /'1.5' is not a whole number/),
    refused(2, ['read', 'sim:?size=1M', '--nlb', '2049'], /has 1048576 bytes, 1049088 are asked for/),
    refused(2, ['write', file('content'), 'sim:'], /is no address of a device/),
    refused(2, ['verify', 'sim:?size=2M', 'sim:?size=1M'], /has 1048576 bytes, 2097152 are to be compared/),
    refused(1, ['verify', file('content'), file('missing')], /ENOENT/),
  ])
  await refused(2, ['copy', device, path], /are the same, or overlap/)
  await refused(2, ['write', device, file('too-large')], /do not fit/)
  t.true(readFileSync(path).equals(before))
  t.false(existsSync(file('other')))
})

test.serial('a command that fails: its opcode, LBA and status, and exit code 1', async (t) => {
  const words = ['write', 'sim:?size=4M&fault=write@300:status=280h', file('content'), '--chunk', '4k']
  const { code, stdout, stderr } = await unvme(words)
  t.deepEqual([code, stdout], [1, ''])
  t.is(
    stderr,
    'unvme: Write failed: Write Fault (sct 2, sc 80h; opcode 01h, qid 1, nsid 1, slba 296, nlb 8) (ERR_NVME_STATUS)\n',
  )
})

test.serial('Ctrl-C ends a copy with exit code 130, and says how far it came', async (t) => {
  const path = file('interrupted')
  const words = ['copy', '/dev/zero', `sim:${path}?size=1G&latency=5ms`, '--sparse', 'never']
  const child = spawn(process.execPath, [MAIN, ...words], { env: cleanEnvironment() })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text
    })
  }
  const ended = new Promise((resolve) => child.on('close', resolve))
  // In the middle of it: something is written, and the whole takes more than a second.
  while (!existsSync(path) || statSync(path).blocks === 0) await sleep(10)
  child.kill('SIGINT')
  t.is(await ended, 130)
  t.regex(
    output,
    /^[\d.]+ [kMG]?B written(, up to LBA \d+)?(; --resume goes on \(.*interrupted\.unvme-map\))?\n$/,
  )
})

test.serial('a reader of the output that goes away ends a read', async (t) => {
  const child = spawn(process.execPath, [MAIN, 'read', 'sim:?size=1G'], { env: cleanEnvironment() })
  let stderr = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text
  })
  child.stdout.once('data', () => child.stdout.destroy())
  const code = await new Promise((resolve) => child.on('close', resolve))
  t.is(stderr, '')
  t.is(code, 141)
})
