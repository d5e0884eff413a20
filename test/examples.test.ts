// Every example runs as a process, without arguments where it can, and says what it should.

import { createHash } from 'node:crypto'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import test from 'ava'
import { MAIN } from './cli/command.ts'
import { testFolder } from './support/folder.ts'
import { pattern } from './support/pattern.ts'
import { run } from './support/run.ts'
import { startServer } from './support/server.ts'

const file = testFolder()
const content = pattern(3_000_001)
writeFileSync(file('content'), content)
const folder = fileURLToPath(new URL('../examples/', import.meta.url))

const example = (name: string, ...words: string[]) => run(`${folder}${name}.js`, words)

const SHARED = ['admin/open.js', 'support/one-line.js']

/** What each prints without arguments. */
const OUTPUTS: Record<string, RegExp> = {
  abort:
    /^ABORT_ERR: The operation was aborted \(TimeoutError\)\n\d+ bytes were written before, 0 commands .*\na block written afterwards reads back\n$/,
  'adapters/bytes': /^\S+Z first\n\S+Z a second one\n$/,
  'adapters/file-disk': /^mbr 1: 33554432 bytes from 1048576, type 83h\n$/,
  'adapters/file-handle': /^\d+ bytes as \d+ of 67108864 on sim:\?size=64M\nreads back as it was\n$/,
  'adapters/sqlite': /^2 raw\n1 namespace\n$/,
  'admin/get-features': /^01h Arbitration +0x4 \{"ab":4,.*\n(0[2-9ab]h .*\n){10}$/,
  'admin/get-log-page':
    /^errors: 0 of 64 entries\ntemperature: 27 °C \(300 K\)\n(.*\n)*power on: 0 hours, 1 cycles\nfirmware slot 1: 1\.0 \(runs\)\n$/,
  'admin/identify':
    /^sim:\?size=64M: NVMe 1\.4\.0, namespaces 1\nvid +: 0\n(.*\n)*mn +: unvme simulated NVMe\n(.*\n)*131072 blocks of 512 bytes, with 0 bytes of metadata\n$/,
  'admin/set-features':
    /^Temperature Threshold: 0x157 \{"tmpth":343,.*\nset to 0x158, reads 0x158\nset to 0x157, reads 0x157\n$/,
  copy: new RegExp(`^${process.execPath} to sim:\\?size=512M: \\d+ bytes, \\d+ MB/s\\n$`),
  demo: /write pipeline.*\n.*CRC-32 equal\n.*blocks equal\n[\s\S]*CRC-32 equal\n.*blocks equal\n\nAll read back as written\.\n$/,
  faults: /^(again: Read failed: Unrecovered Read Error .*\n){2}read after all: precious, 4096 bytes\n$/,
  hash: /^3b6a07d0d404fab4e23b6d34bc6696a6a312dd92821332385e5af7c01c421351 {2}sim:\?size=64M\nb2eb30ed {2}crc32 of 67108864 bytes\n$/,
  'http-range':
    /^67108864 bytes of sim:\?size=64M at http:.*\n206 bytes 5620-5639\/67108864: 01234567890123456789\n$/,
  'iterate-blocks':
    /^LBA 100 to 102: 3 blocks\nLBA 70000 to 70000: 1 blocks\n2 ranges in use, of 131072 blocks of 512 bytes\n$/,
  passthrough:
    /^model unvme simulated NVMe, serial .*\nRead failed: Unrecovered Read Error .*slba 7, nlb 1\)\nwritten again, it reads 512 bytes\n$/,
  'pattern-write': /^wrote 67108864 bytes\n131072 blocks hold what was written\n$/,
  'random-reads':
    /^\d+ reads of 4096 bytes in .* s, depth 32\n[\d,]+ reads\/s\n[\d.]+ commands for each doorbell\n$/,
  'several-files': /^(equal {4}LBA +\d+, \d+ bytes {2}.*\n){20,}$/,
  threads:
    /^(thread 0: LBA 0 to 65535\nthread 1: LBA 65536 to 131071\n|thread 1: .*\nthread 0: .*\n)400 \+ 600 = 1000 blocks in use\n$/,
  'two-namespaces': /^namespace 1 of 2: .*\nnamespace 2 of 2: .*\n524288 bytes are the same in both\n$/,
  verify: /^sim:\?size=64M and sim:\?size=64M: 67108864 bytes are equal\n$/,
}

test('every example is run', (t) => {
  const names = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter(
    // What the others share; and UNVMe's programs, which have tests of their own.
    (name) => name.endsWith('.js') && !SHARED.includes(name) && !name.startsWith('unvme/'),
  )
  t.deepEqual(names.map((name) => name.replace('.js', '')).sort(), Object.keys(OUTPUTS).sort())
})

for (const [name, output] of Object.entries(OUTPUTS)) {
  test.serial(`${name}, without arguments`, async (t) => {
    const { code, stdout, stderr } = await example(name)
    t.is(stderr, '')
    t.regex(stdout, output)
    t.is(code, 0)
  })
}

/** Controllers that the examples were not written for, by what is odd about them. */
const ODD: Record<string, string> = {
  'one queue': 'sim:?size=4M&qcount=1',
  'queues of two entries': 'sim:?size=4M&qsize=2',
  'blocks of 4096 bytes, small transfers': 'sim:?size=4M&lba=4096&mdts=1',
  'namespaces 2 and 5': 'sim:?size=4M&ns=2,5&nsid=5',
  'no namespace': `sim:${file('none.img')}`,
  'a server without mapped doorbells': '',
}

/** Those that take no address first, or serve until they are ended. */
const NO_ADDRESS = ['demo', 'faults', 'http-range', 'copy', 'verify']

test.serial('every example ends with one clear line on a controller that it can not work on', async (t) => {
  t.timeout(300_000)
  const deleted = await run(MAIN, ['delete-ns', `sim:${file('none.img')}?size=4M`, '-n', '1', '--yes'])
  t.is(deleted.code, 0, deleted.stderr)
  const server = await startServer({ device: 'sim:?size=4M&ns=2', doorbells: 'shadow' })
  const names = Object.keys(OUTPUTS).filter((name) => !NO_ADDRESS.includes(name))
  for (const [what, address] of Object.entries(ODD)) {
    const check = async (name: string) => {
      const { code, stderr } = await example(name, address || server.address)
      t.regex(stderr, code === 0 ? /^$/ : /^[^\n]+ \(ERR_\w+\)\n$/, `${name}: ${what}`)
    }
    // One client at a time to a server, one program to an image.
    if (address === '' || address.includes('.img')) for (const name of names) await check(name)
    else await Promise.all(names.map(check))
  }
  await server.stop()
})

test('every example has a header that says what it shows and how to run it', (t) => {
  for (const name of Object.keys(OUTPUTS)) {
    const source = readFileSync(new URL(`../../examples/${name}.ts`, import.meta.url), 'utf8')
    const how = name === 'demo' ? 'npm run demo' : `node dist/examples/${name}.js`
    // What it shows, an empty line, and how it is run.
    t.regex(source, /^(\/\/ .*\n)+\/\/\n\/\/ {3}/, name)
    t.true(source.includes(`\n//   ${how}`), name)
    t.true(source.split('\n').length <= 105, name)
  }
})

test.serial('copy and verify: a file to a device, to another device, and back', async (t) => {
  const first = `sim:${file('first.img')}?size=4M`
  const second = `sim:${file('second.img')}?size=4M&lba=4096`
  t.is((await example('copy', file('content'), first)).code, 0)
  t.is((await example('copy', first, second)).code, 0)
  t.is((await example('copy', second, file('back'))).code, 0)
  t.true(readFileSync(file('back')).subarray(0, content.length).equals(content))
  const equal = await example('verify', file('content'), second)
  t.deepEqual([equal.code, equal.stderr], [0, ''])
  t.regex(equal.stdout, /: 3000001 bytes are equal\n$/)

  const changed = Buffer.from(content)
  changed[2_222_222] = changed[2_222_222]! ^ 1
  writeFileSync(file('changed'), changed)
  const differs = await example('verify', second, file('changed'))
  t.is(differs.code, 1)
  const hex = (bytes: Buffer) => bytes.subarray(2_222_222, 2_222_238).toString('hex').replace(/..\B/g, '$& ')
  t.is(
    differs.stdout,
    `${second}: LBA 542, byte 2190: ${hex(content)}\n${file('changed')}: LBA 4340, byte 142: ${hex(changed)}\n`,
  )
})

test.serial('the adapters’ examples go on where they were', async (t) => {
  const address = (name: string) => `sim:${file(`${name}.img`)}?size=4M&lba=4096`
  for (const [name, words, output] of [
    ['bytes', ['x'.repeat(5000)], /^\S+ x{5000}\n$/],
    ['bytes', ['y', 'z'], /^\S+ x{5000}\n\S+ y\n\S+ z\n$/],
    ['sqlite', ['b', 'a', 'b'], /^2 b\n1 a\n$/],
    ['sqlite', ['a', 'a'], /^3 a\n2 b\n$/],
    ['sqlite', [], /^3 a\n2 b\n$/],
    ['file-handle', [file('content')], /^3000001 bytes as \d+ of 4194304 on .*\nreads back as it was\n$/],
    ['file-disk', [], /^no partition table: .*\n$/],
  ] as const) {
    const { code, stdout, stderr } = await example(`adapters/${name}`, address(name), ...words)
    t.deepEqual([code, stderr], [0, ''], name)
    t.regex(stdout, output)
  }
  // What they do not know is not overwritten.
  const other = await example('adapters/sqlite', address('bytes'))
  t.is(other.code, 1)
  t.regex(other.stderr, /holds other data .* \(ERR_UNVME_SETUP\)\n$/)
  const another = await example('adapters/bytes', address('file-handle'))
  t.is(another.code, 1)
  t.regex(another.stderr, /holds something else/)
})

test.serial('several-files puts files into blocks of their own', async (t) => {
  writeFileSync(file('small'), 'small')
  const image = file('several.img')
  const { code, stdout } = await example(
    'several-files',
    `sim:${image}?size=4M`,
    file('small'),
    file('content'),
  )
  t.is(code, 0)
  t.is(stdout.split('\n').length, 3)
  const bytes = readFileSync(image)
  t.is(bytes.toString('latin1', 0, 6), 'small\0')
  t.true(bytes.subarray(512, 512 + content.length).equals(content))
})

test.serial('admin: on an image, a named namespace and a vfio-user socket; what fails', async (t) => {
  const image = `sim:${file('admin.img')}?size=1M&lba=4096&ns=2&nsid=2`
  const identified = await example('admin/identify', image)
  t.regex(identified.stdout, /, namespaces 1,2\n(.*\n)*namespace 2\n(.*\n)*256 blocks of 4096 bytes/)
  const server = await startServer({ device: 'sim:?size=1M&serial=SERVED' })
  t.regex((await example('admin/identify', server.address)).stdout, /\nsn +: SERVED\n/)
  const set = await example('admin/set-features', server.address, '6', '0')
  t.is(set.stdout, 'Volatile Write Cache: 0x1 {"wce":true}\nset to 0x0, reads 0x0\n')
  // Not saved, and a new client resets the controller.
  const { stdout } = await example('admin/get-features', server.address, '6', '0x0f')
  t.is(
    stdout.replace(/ +/g, ' '),
    '06h Volatile Write Cache 0x1 {"wce":true}\n0fh Keep Alive Timer Invalid Field in Command\n',
  )
  await server.stop()
  for (const name of ['identify', 'get-features', 'set-features', 'get-log-page']) {
    const { code, stderr } = await example(`admin/${name}`, 'nowhere')
    t.is(code, 1, name)
    t.regex(stderr, /'nowhere' is no PCI name/, name)
  }
})

test.serial('copy refuses what does not fit', async (t) => {
  const { code, stderr } = await example('copy', file('content'), 'sim:?size=1M')
  t.is(code, 1)
  t.regex(stderr, /has 3000001 bytes, sim:\?size=1M has space for 1048576/)
})

test.serial('hash is that of the bytes', async (t) => {
  const image = `sim:${file('hash.img')}?size=4M`
  await example('copy', file('content'), image)
  const { stdout } = await example('hash', image, '2', '100')
  const expected = createHash('sha256')
    .update(content.subarray(1024, 1024 + 51_200))
    .digest('hex')
  t.true(stdout.startsWith(`${expected}  `))
})
