// Commands that end in every way there is, run as a process by ending.test.ts.

import { open } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { AbortError, OutOfRangeError, SystemCallError } from '../../lib/errors.ts'
import { defineCommand, flag, unflag, value, valueOr, yesOption } from '../../src/cli/define.ts'
import { confirm, note, print } from '../../src/cli/output.ts'
import { text } from '../../src/cli/parse.ts'
import { run } from '../../src/cli/run.ts'

const common = { group: 'Data', summary: 'An example', arguments: {}, examples: [] } as const

const watch = defineCommand({
  ...common,
  name: 'watch',
  options: {},
  async run({ signal }) {
    print('ready')
    await sleep(60_000, undefined, { signal }).catch((error) => {
      print('cleaned up')
      throw new AbortError(error.cause)
    })
  },
})

const ignore = defineCommand({
  ...common,
  name: 'ignore',
  options: {},
  async run() {
    print('ready')
    await sleep(60_000)
  },
})

const stubborn = defineCommand({
  ...common,
  name: 'stubborn',
  options: {},
  async run({ signal }) {
    signal.addEventListener('abort', () => print('aborted'))
    print('ready')
    await sleep(60_000)
  },
})

const endless = defineCommand({
  ...common,
  name: 'endless',
  options: {},
  async run() {
    for (;;) {
      print('y'.repeat(1000))
      await sleep(0)
    }
  },
})

const ask = defineCommand({
  ...common,
  name: 'ask',
  options: { yes: yesOption(), watch: flag('promise to end by Ctrl-C') },
  async run(context) {
    const { options } = context
    if (options.watch) void context.signal
    try {
      await confirm('Overwrite \u001b[31meverything\n?', options.yes)
      print('overwritten')
    } finally {
      note('cleaned up')
    }
  },
})

const stuck = defineCommand({
  ...common,
  name: 'stuck',
  options: {
    fifo: value('PATH', text, 'a FIFO without its other end'),
    watch: flag('promise to end by Ctrl-C'),
  },
  async run(context) {
    if (context.options.watch) void context.signal
    await import('../../lib/sys/libc.ts')
    const opened = open(context.options.fifo!, 'r')
    await sleep(0)
    print('ready')
    await opened
  },
})

const lines = defineCommand({
  ...common,
  name: 'lines',
  options: { watch: flag('promise to end by Ctrl-C') },
  async run(context) {
    const signal = context.options.watch ? context.signal : undefined
    for (let line = 0; line < 10 && !signal?.aborted; line++) {
      print('a line')
      await sleep(0)
    }
    note('cleaned up')
    if (signal?.aborted) throw new AbortError(signal.reason)
  },
})

const fail = defineCommand({
  ...common,
  name: 'fail',
  options: {
    how: value('WORD', text, 'what to throw'),
    depth: valueOr('N', Number, 32, 'an option with a default'),
    flush: unflag('leave something out'),
  },
  run({ options }) {
    switch (options.how) {
      case 'range':
        throw new OutOfRangeError('slba 12 is past the end')
      case 'system':
        throw new SystemCallError('it is taken', {
          code: 'EBUSY',
          errno: 16,
          syscall: 'open',
          path: '/dev/x',
        })
      case 'bug':
        throw new TypeError('undefined is not\na function')
      case 'node':
        throw Object.assign(new Error('ENOENT: no such file'), { code: 'ENOENT' })
      case 'device':
        throw new OutOfRangeError('model \u001b[2J\u009bA\nB')
      case 'code':
        return 1
      default:
        print(JSON.stringify(options))
    }
  },
})

await run([watch, ignore, stubborn, endless, ask, stuck, lines, fail], process.argv.slice(2))
