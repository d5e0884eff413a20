import { spawn } from 'node:child_process'
import test from 'ava'
import fc from 'fast-check'
import { clockText, Meter, progressLine, startProgress } from '../../src/cli/progress.ts'
import { cleanEnvironment, MAIN } from './command.ts'

// What clears the rest of a line.
const CLEAR = '\u001b[K'

test('the rate is that of the last samples, the time left follows from it', (t) => {
  const meter = new Meter(1000, 0)
  t.is(meter.rate, 0)
  t.is(meter.secondsLeft, undefined)
  for (let i = 1; i <= 40; i++) {
    // A fast start, then 10 bytes each 250 ms.
    meter.bytes = i < 20 ? i * 30 : 570 + (i - 19) * 10
    meter.sample(i * 250)
  }
  t.is(meter.rate, 40)
  t.is(meter.secondsLeft, (1000 - 780) / 40)
})

test('clockText', (t) => {
  t.deepEqual([0, 0.2, 59, 60, 3599.5, 3661].map(clockText), [
    '0:00',
    '0:01',
    '0:59',
    '1:00',
    '1:00:00',
    '1:01:01',
  ])
})

test('a line never fills the terminal, whatever its width', (t) => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 300 }),
      fc.option(fc.nat(Number.MAX_SAFE_INTEGER)),
      fc.double({ min: 0, max: 1, noNaN: true }),
      (columns, total, share) => {
        const meter = new Meter(total ?? undefined, 0)
        meter.bytes = Math.floor((total ?? 1e15) * share)
        meter.sample(1000)
        t.true(progressLine('verify', meter, columns).length < Math.max(columns, 1))
      },
    ),
  )
})

test('what the line says', (t) => {
  const meter = new Meter(200_000_000, 0)
  meter.bytes = 50_000_000
  meter.sample(500)
  t.is(
    progressLine('copy', meter, 80),
    'copy  25 %  ━━━━─────────────   50.00 MB of 200.00 MB  100.00 MB/s  0:02 left',
  )
  t.is(progressLine('copy', meter, 60), 'copy  25 %   50.00 MB of 200.00 MB  100.00 MB/s  0:02 left')
  t.is(progressLine('copy', meter, 40), ' 25 % 100.00 MB/s 0:02 left')
  const endless = new Meter(undefined, 0)
  endless.bytes = 1000
  endless.sample(1000)
  t.is(progressLine('write', endless, 80), 'write    1.00 kB    1.00 kB/s')
})

test('nothing is written where there is no terminal', (t) => {
  const progress = startProgress('copy', 10, {
    isTTY: false,
    columns: 80,
    write: () => t.fail('written') as never,
  })
  progress.update(5)
  progress.stop()
  t.pass()
})

test('a terminal gets a line that is drawn over, and taken away', async (t) => {
  const written: string[] = []
  let progress!: ReturnType<typeof startProgress>
  await new Promise<void>((resolve) => {
    progress = startProgress('copy', 10, {
      isTTY: true,
      columns: 80,
      write: (text: string) => {
        written.push(text)
        if (written.length === 2) resolve()
        return true
      },
    } as NodeJS.WriteStream)
    progress.update(5)
  })
  progress.stop()
  t.true(written.slice(0, 2).every((text) => text.startsWith('\rcopy  50 %  ━') && text.endsWith(CLEAR)))
  t.is(written.at(-1), `\r${CLEAR}`)
})

// Debian's bsdutils, which every system has, makes the terminal: script of util-linux.
test('the command on a real terminal', async (t) => {
  const words = [process.execPath, MAIN, 'copy', "'sim:?size=64M&lbastatus=0&latency=60ms'", '/dev/null']
  const child = spawn('script', ['-qec', words.join(' '), '/dev/null'], { env: cleanEnvironment() })
  let output = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output += text
  })
  const code = await new Promise((resolve) => child.on('close', resolve))
  t.is(code, 0)
  const lines = output.split('\r').filter((text) => text !== '')
  t.regex(lines[0]!, /^copy +\d+ % .* of 67\.11 MB .*\/s/)
  t.true(lines[0]!.endsWith(CLEAR))
  t.regex(output, /\/dev\/null: 67108864 bytes .*\/s\r\n$/)
  t.true(output.includes(`\r${CLEAR}sim:?size=64M`))
})
