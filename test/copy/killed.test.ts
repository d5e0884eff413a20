// A copy that is killed while it writes its map: what the map says is done is in the target, and it goes on from there.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import test from 'ava'
import { parseRescueMap } from '../../src/copy/rescue-map.ts'
import { testFolder } from '../support/folder.ts'
import { pattern } from '../support/pattern.ts'
import { withoutTool } from '../support/tools.ts'

const file = testFolder()
const MIB = 1 << 20
const content = Buffer.concat([pattern(3 * MIB), Buffer.alloc(2 * MIB), pattern(3 * MIB + 1000, 9)])
const program = new URL('./killed-program.js', import.meta.url).pathname

/** Runs the program, and kills it after so many reports. Resolves to false where it had ended by itself. */
async function killedAfter(reports: number, words: readonly string[]): Promise<boolean> {
  const child = spawn(process.execPath, [program, ...words], { stdio: ['ignore', 'pipe', 'inherit'] })
  const closed = once(child, 'close')
  let lines = 0
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    lines += text.split('\n').length - 1
    if (lines >= reports) child.kill('SIGKILL')
  })
  const [code] = await closed
  return code === null
}

/** The same, at a thread's system call `name` that concerns the map. */
async function killedAt(name: string, when: number, words: readonly string[], map: string): Promise<boolean> {
  const call = ['-e', 'trace=all', '-e', `inject=${name}:signal=KILL:when=${when}`]
  const strace = ['-f', '-qq', '-o', '/dev/null', '-P', map, '-P', `${map}.new`, ...call]
  const child = spawn('strace', [...strace, process.execPath, program, ...words], {
    stdio: ['ignore', 'ignore', 'inherit'],
  })
  const [code] = await once(child, 'close')
  return code === null
}

for (const kind of ['file', 'image']) {
  test(`copy: killed at any moment, what the map of a ${kind} says is done is there, and it goes on`, async (t) => {
    writeFileSync(file('source'), content)
    const [out, map] = [file(`${kind}.out`), file(`${kind}.map`)]
    if (kind === 'image') writeFileSync(out, '')
    if (kind === 'image') truncateSync(out, 16 * MIB)
    const words = [file('source'), kind === 'file' ? out : `sim:${out}`, map]
    let before = 0
    const kill = async (how: (words: readonly string[]) => Promise<boolean>) => {
      const wasKilled = await how([...words, ...(existsSync(map) ? ['resume'] : [])])
      if (!existsSync(map)) return wasKilled
      const { done } = parseRescueMap(readFileSync(map, 'utf8'), map)
      const found = readFileSync(out)
      for (const [from, to] of done)
        t.true(found.subarray(from, to).equals(content.subarray(from, to)), `${from}-${to}`)
      t.true(done.bytes >= before)
      before = done.bytes
      return wasKilled
    }
    if (!withoutTool('strace', 'strace')) {
      for (const name of ['openat', 'write', 'fsync', 'close', 'rename', 'unlink', 'rename', 'write']) {
        t.true(await kill((words) => killedAt(name, before === 0 ? 1 : 2, words, map)), name)
      }
    }
    for (let reports = 5; await kill((words) => killedAfter(reports, words)); reports += 9);
    t.is(before, content.length)
    t.true(readFileSync(out).subarray(0, content.length).equals(content))
    // What a killed one has left is not in the way, and does not stay.
    const names = readdirSync(path.dirname(map)).filter((name) => name.startsWith(path.basename(map)))
    t.deepEqual(names, [path.basename(map)])
  })
}
