// Runs modules of test/device without ava, which takes longer to load in the virtual machine than most tests to run:
// all in one process, one test after another. Status 0 where all passed.
// Loading what they have in common takes eight seconds there, so that they share a process, and one that
// ends it ends the run.

import path from 'node:path'
import { pathToFileURL } from 'node:url'
import { inspect } from 'node:util'
import { takeTests } from './device-suite.ts'

const print = (line: string) => process.stdout.write(`${line}\n`)
let passed = 0
let failed = 0

function fail(what: string, error: unknown): void {
  failed++
  process.exitCode = 1
  print(`  ✘ ${what}\n${inspect(error, { depth: 6 }).replace(/^/gm, '      ')}`)
}

for (const event of ['uncaughtException', 'unhandledRejection']) {
  process.on(event, (error) => fail('outside of any test', error))
}
for (const file of process.argv.slice(2)) {
  print(file)
  await import(pathToFileURL(path.resolve(file)).href).catch((error) => fail('the file', error))
  for (const { title, lacks, run } of await takeTests()) {
    const started = performance.now()
    if (lacks !== null) print(`  - ${title} (left out: ${lacks})`)
    else
      await run((line) => print(`    ℹ ${line}`)).then(
        () => {
          passed++
          print(`  ✔ ${title} (${Math.round(performance.now() - started)}ms)`)
        },
        (error) => fail(title, error),
      )
  }
}
print(`\n  ${passed} passed${failed > 0 ? `, ${failed} failed` : ''}`)
if (passed === 0) process.exitCode = 1
setTimeout(() => {
  print('  ✘ the process does not end by itself')
  process.exit(1)
}, 60_000).unref()
