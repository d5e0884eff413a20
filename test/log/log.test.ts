// What is logged, and where it goes: each case is a process of its own, since the environment is read once.

import { readFileSync } from 'node:fs'
import path from 'node:path'
import test from 'ava'
import { testFolder } from '../support/folder.ts'
import { run } from '../support/run.ts'

const file = testFolder()
const PROGRAM = path.join(import.meta.dirname, 'program.js')
const LINE = /^\d{4}-\d\d-\d\dT[\d:.]+Z \d+ unvme:(\w+) (.*)$/

const lines = (name: string) =>
  readFileSync(file(name), 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => LINE.exec(line)?.slice(1))

test('nothing is logged unless it is asked for', async (t) => {
  t.deepEqual(await run(PROGRAM, []), { code: 0, stdout: 'false\n', stderr: '' })
})

test('DEBUG shows what it names on stderr', async (t) => {
  const all = await run(PROGRAM, [], undefined, { DEBUG: 'unvme:*' })
  t.is(all.stdout, 'true\n')
  t.regex(all.stderr, /unvme:one 7 of eight\n.*unvme:two \{ a: 1 \}\n.*not in the file\n$/)
  const one = await run(PROGRAM, [], undefined, { DEBUG: 'unvme:two' })
  t.is(one.stdout, 'false\n')
  t.false(one.stderr.includes('unvme:one'))
})

test('UNVME_LOG names a file that all of it is appended to', async (t) => {
  for (const expected of [2, 4]) {
    const { code, stdout, stderr } = await run(PROGRAM, [], undefined, { UNVME_LOG: file('a.log') })
    t.deepEqual({ code, stdout, stderr }, { code: 0, stdout: 'true\n', stderr: '' })
    t.is(lines('a.log').length, expected)
  }
  t.deepEqual(lines('a.log').slice(0, 2), [
    ['one', '7 of eight'],
    ['two', '{ a: 1 }'],
  ])
})

test('openLogFile and closeLogFile do the same while a program runs', async (t) => {
  const { stdout } = await run(PROGRAM, [file('b.log')])
  t.is(stdout, 'true\n')
  t.deepEqual(lines('b.log'), [
    ['one', '7 of eight'],
    ['two', '{ a: 1 }'],
  ])
})

test('a log file that can not be opened or written is a warning, and the program goes on', async (t) => {
  for (const [log, message] of [
    [file('none/a.log'), /Warning: there is no log file \(UNVME_LOG\): ENOENT/],
    ['/dev/full', /Warning: the log file is closed: ENOSPC/],
  ] as const) {
    const { code, stdout, stderr } = await run(PROGRAM, [], undefined, { UNVME_LOG: log })
    t.is(code, 0)
    t.regex(stdout, /^(true|false)\n$/)
    t.regex(stderr, message)
  }
})
