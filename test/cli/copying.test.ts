// `unvme copy` with images, several targets, bad blocks and an end before its time; `unvme bmap` and `unvme wipe`.

import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import test from 'ava'
import fc from 'fast-check'
import { Meter, reportLines } from '../../src/cli/progress.ts'
import { testFolder } from '../support/folder.ts'
import { pattern } from '../support/pattern.ts'
import { start, unvme } from './command.ts'

const file = testFolder()
const MIB = 1 << 20
const content = pattern(3 * MIB)
writeFileSync(file('content'), content)

test.serial('copy: what was not sent is in the summary, and in JSON', async (t) => {
  writeFileSync(file('sparse'), content)
  truncateSync(file('sparse'), 100 * MIB)
  const { stdout, code } = await unvme([
    'copy',
    file('sparse'),
    `sim:${file('sparse.img')}?size=128M`,
    '--hash',
  ])
  t.is(code, 0)
  t.regex(
    stdout,
    /104857600 bytes .*\/s; 3\.1\d MB read, 3\.1\d MB written, 101\.7\d MB skipped\nsha256: [0-9a-f]{64}\n$/,
  )
  const json = await unvme([
    'copy',
    `sim:${file('sparse.img')}`,
    file('back'),
    '--bytes',
    '100M',
    '-o',
    'json',
  ])
  const { written, skipped, read } = JSON.parse(json.stdout)
  // The image has holes, and is not read there.
  t.true(read < 4 * MIB)
  t.is(written + skipped, 100 * MIB)
  t.true(statSync(file('back')).blocks * 512 < 4 * MIB)
  t.true(readFileSync(file('back')).equals(readFileSync(file('sparse'))))
})

test.serial('copy: several targets; the exit code says that one failed, and which', async (t) => {
  const words = [
    'copy',
    file('content'),
    file('one'),
    'sim:?size=4M&fault=write@100:status=280h',
    file('two'),
    '--verify',
  ]
  const { code, stdout } = await unvme(words)
  t.is(code, 1)
  t.regex(stdout, /to 3 targets: 3145728 bytes/)
  t.regex(stdout, /\n {2}sim:.*: failed after .*: Write failed: Write Fault/)
  t.regex(stdout, /verified: 3145728 bytes .*, equal\n/)
  for (const name of ['one', 'two']) t.true(readFileSync(file(name)).equals(content))
  const lines = await unvme(['copy', file('content'), file('one'), file('two'), '-o', 'jsonl'])
  const all = lines.stdout
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line))
  t.is(all.at(-1).type, 'result')
  t.is(all.at(-1).targets.length, 2)
})

test.serial(
  'copy: bad blocks are left out, reported, written down, and have an exit code of their own',
  async (t) => {
    const image = file('bad.img')
    writeFileSync(image, content)
    const source = `sim:${image}?fault=read@64+8:status=281h`
    t.is((await unvme(['copy', source, file('bad.out')])).code, 1)
    const map = file('bad.map')
    const { code, stdout } = await unvme([
      'copy',
      source,
      file('bad.out'),
      '--on-error',
      'fill',
      '--map',
      map,
    ])
    t.is(code, 3)
    t.regex(stdout, /4\.10 kB in 8 ranges .*:\n {2}LBA 64, 512 bytes: read failed: Unrecovered Read Error\n/)
    const wanted = Buffer.from(content).fill(0, 64 * 512, 72 * 512)
    t.true(readFileSync(file('bad.out')).equals(wanted))
    t.regex(readFileSync(map, 'utf8'), /^0x00008000 {2}0x00001000 {2}-$/m)
    // With the map, the rest is read when the device can read it.
    const again = await unvme([
      'copy',
      `sim:${image}`,
      file('bad.out'),
      '--map',
      map,
      '--resume',
      '-o',
      'json',
    ])
    t.is(again.code, 0, again.stderr)
    t.is(JSON.parse(again.stdout).read, 4096)
    t.true(readFileSync(file('bad.out')).equals(content))
  },
)

test.serial('copy: what Ctrl-C has ended is resumed, and the map goes away with the end', async (t) => {
  const image = file('ended.img')
  const words = ['copy', file('content'), `sim:${image}?size=4M`, '--chunk', '16k']
  const slow = [...words]
  slow[2] += '&latency=20ms'
  const started = start(slow)
  // In the middle of it: something is on the medium.
  while (!existsSync(image) || statSync(image).blocks === 0)
    await new Promise((resolve) => setTimeout(resolve, 5))
  started.child.kill('SIGINT')
  const { code, stderr } = await started.ended
  t.is(code, 130)
  t.regex(
    stderr,
    /^[\d.]+ [kM]?B of 3\.15 MB written(, up to LBA \d+)?; --resume goes on \(.*ended\.img\.unvme-map\)\n$/,
  )
  words[2] = `sim:${image}`
  const resumed = await unvme([...words, '--resume', '--verify'])
  t.is(resumed.code, 0, resumed.stderr)
  t.false(existsSync(`${image}.unvme-map`))
  t.true(readFileSync(image).subarray(0, content.length).equals(content))
  t.is((await unvme([...words, '--resume'])).code, 2)
  t.is((await unvme(['copy', file('content'), 'sim:', '--resume'])).code, 2)
})

test.serial('copy: one of several targets that has failed goes on alone', async (t) => {
  const image = file('failing.img')
  const whole = ['copy', file('content'), file('whole.out')]
  const failed = await unvme([...whole, `sim:${image}?size=4M&fault=write@4096:status=280h`])
  t.is(failed.code, 1)
  t.is(failed.stderr, `--resume goes on (${image}.unvme-map), with its target alone\n`)
  t.false(existsSync(file('whole.out.unvme-map')))
  const alone = await unvme(['copy', file('content'), `sim:${image}`, '--resume'])
  t.is(alone.code, 0, alone.stderr)
  t.regex(alone.stderr, /^[\d.]+ [kM]B were written before\n$/)
  t.true(readFileSync(image).subarray(0, content.length).equals(content))
})

test.serial(
  'copy: by threads, too, the map of an earlier copy does not outlive what is written now',
  async (t) => {
    const image = file('threads.img')
    writeFileSync(`${image}.unvme-map`, '0x0 ? 1\n0x0 0x300000 +\n')
    const { code } = await unvme(['copy', file('content'), `sim:${image}?size=4M`, '--jobs', '2'])
    t.is(code, 0)
    t.false(existsSync(`${image}.unvme-map`))
  },
)

test.serial('copy, write and verify: a compressed image; bmap: a map that copy heeds', async (t) => {
  spawnSync('gzip', ['-kf', file('content')])
  const device = `sim:${file('packed.img')}?size=4M`
  const { stdout } = await unvme(['write', device, `${file('content')}.gz`])
  t.regex(stdout, /content\.gz \(gzip\) to sim:.*: 3145728 bytes/)
  t.is((await unvme(['verify', `${file('content')}.gz`, device])).code, 0)
  t.is((await unvme(['verify', `${file('content')}.gz`, device, '--raw'])).code, 1)
  t.is((await unvme(['bmap', file('sparse')])).code, 0)
  const copied = await unvme(['copy', file('sparse'), `sim:${file('sparse.img')}`])
  t.regex(copied.stderr, /^block map: .*sparse\.bmap\n$/)
  const map = readFileSync(`${file('sparse')}.bmap`, 'utf8')
  writeFileSync(
    `${file('sparse')}.bmap`,
    map.replace(/chksum="./, (text) => `${text.slice(0, -1)}${text.endsWith('0') ? 1 : 0}`),
  )
  const damaged = await unvme(['copy', file('sparse'), `sim:${file('sparse.img')}`])
  t.regex(damaged.stderr, /is damaged: its sha256 is .*ERR_UNVME_VERIFY/)
  t.is((await unvme(['bmap', 'sim:'])).code, 2)
})

test.serial('wipe: each method leaves none of the marks, and says so', async (t) => {
  for (const method of ['auto', 'format-erase', 'sanitize-block', 'zeroes']) {
    const image = file(`wiped-${method}.img`)
    writeFileSync(image, content)
    const record = file(`${method}.json`)
    const { code, stdout } = await unvme([
      'wipe',
      `sim:${image}?operation=1ms`,
      '-m',
      method,
      '--record',
      record,
    ])
    t.is(code, 0)
    t.regex(stdout, /^wiped: /)
    const done = JSON.parse(readFileSync(record, 'utf8'))
    t.like(done, { result: 'wiped', samples: { blocks: 64, marked: 0 }, device: { nsid: 1, blocks: 6144 } })
    if (method === 'zeroes') t.is(done.overwritten.verified, content.length)
    t.true(readFileSync(image).every((byte) => byte === 0))
  }
  const failed = await unvme([
    'wipe',
    `sim:${file('wiped-zeroes.img')}?fault=write@3000+2:status=280h`,
    '-m',
    'zeroes',
  ])
  t.is(failed.code, 1)
})

test('progress lines of any targets are no longer than the terminal', (t) => {
  fc.assert(
    fc.property(
      fc.integer({ min: 20, max: 200 }),
      fc.array(fc.record({ name: fc.string({ minLength: 1, maxLength: 100 }), bytes: fc.nat(1e9) }), {
        maxLength: 4,
      }),
      fc.nat(1e9),
      (columns, targets, skipped) => {
        const meter = new Meter(1e9, 0)
        meter.sample(1000)
        const meters = targets.map(() => new Meter(1e9, 0))
        const report = { bytes: 0, read: 0, written: 0, skipped, bad: skipped, targets }
        for (const line of reportLines('copy', meter, meters, report, columns))
          t.true(line.length < columns, line)
      },
    ),
  )
})

test.serial('bmap: an image is not replaced by its own map', async (t) => {
  const { code, stderr } = await unvme(['bmap', file('content'), file('content')])
  t.is(code, 2)
  t.regex(stderr, /is the image: it would be overwritten/)
  t.true(readFileSync(file('content')).equals(content))
})
