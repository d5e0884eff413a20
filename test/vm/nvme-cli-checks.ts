// Checks in the virtual machine that JSON of `unvme` equals that of nvme-cli, field by field, on one controller:
// first under the kernel's driver, then under VFIO. All fields are the same; only the name of the device is not.
// Trade-off: our commands run in this process (test/cli runs each as its own): starting Node takes seconds in there.

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import fs from 'node:fs'
import { commands } from '../../src/cli/commands/index.ts'
import { run } from '../../src/cli/run.ts'
import { check, runChecks } from './checks.ts'

const ADDRESS = '00:04.0'
/** Features that QEMU's controller has, and nvme-cli asks for as dwords. */
const FEATURES = [1, 2, 4, 5, 6, 7, 8, 9, 0x0a, 0x0b]

type Json = Record<string, unknown>

interface Compared {
  name: string
  theirs: readonly string[]
  ours: readonly string[]
  /** Brings nvme-cli's JSON into a form that can be compared: where a key is the device's name. */
  adapt?(json: Json): Json
}

const compared: readonly Compared[] = [
  { name: 'id-ctrl', theirs: ['id-ctrl', '/dev/nvme0'], ours: ['id-ctrl', ADDRESS] },
  { name: 'id-ns', theirs: ['id-ns', '/dev/nvme0', '-n', '1'], ours: ['id-ns', ADDRESS] },
  {
    name: 'id-ns of an inactive namespace',
    theirs: ['id-ns', '/dev/nvme0', '-n', '5'],
    ours: ['id-ns', ADDRESS, '-n', '5'],
  },
  { name: 'list-ns', theirs: ['list-ns', '/dev/nvme0'], ours: ['list-ns', ADDRESS] },
  { name: 'smart-log', theirs: ['smart-log', '/dev/nvme0'], ours: ['smart-log', ADDRESS] },
  { name: 'error-log', theirs: ['error-log', '/dev/nvme0'], ours: ['error-log', ADDRESS] },
  {
    name: 'fw-log',
    theirs: ['fw-log', '/dev/nvme0'],
    ours: ['fw-log', ADDRESS],
    // The key is the name of the device, which is the kernel's there and the PCI name here.
    adapt: (json) => ({ [`0000:${ADDRESS}`]: json.nvme0 }),
  },
]

interface Answers {
  theirs: Map<string, Json>
  features: Map<number, number>
}

let answers: Answers | undefined

/** nvme-cli's answers, before anything of ours has touched the controller; after that it is VFIO's. */
async function collect(): Promise<Answers> {
  if (answers) return answers
  waitFor('/dev/nvme0n1')
  const theirs = new Map(
    compared.map(({ name, theirs: words }) => [name, JSON.parse(output('nvme', ...words, '-o', 'json'))]),
  )
  const features = new Map(FEATURES.map((fid) => [fid, featureValue(fid)]))
  await unvme('setup', ADDRESS)
  answers = { theirs, features }
  return answers
}

// It has no JSON for features: `get-feature:0x07 (Number of Queues), Current value:0x003f003f`.
function featureValue(fid: number): number {
  const line = output('nvme', 'get-feature', '/dev/nvme0', '-f', String(fid), '-n', '1')
  const [, value] = /Current value:(?:0x)?([0-9a-f]+)/.exec(line) ?? []
  assert(value, line)
  return Number.parseInt(value, 16)
}

function output(command: string, ...words: string[]): string {
  const env = { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` }
  const { status, stdout, stderr, error } = spawnSync(command, words, { encoding: 'utf8', env })
  assert.equal(status, 0, `${command} ${words.join(' ')}: ${error?.message ?? stderr}`)
  return stdout
}

/** What `unvme` prints with these words. */
async function unvme(...words: string[]): Promise<string> {
  const { write } = process.stdout
  let printed = ''
  process.stdout.write = ((text: string) => {
    printed += text
    return true
  }) as typeof write
  try {
    await run(commands, words)
  } finally {
    process.stdout.write = write
  }
  assert.equal(process.exitCode ?? 0, 0, `unvme ${words.join(' ')}`)
  return printed
}

function waitFor(file: string): void {
  const end = Date.now() + 60_000
  while (!fs.existsSync(file) && Date.now() < end)
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 100)
}

/** `path: theirs / ours` for each field that is not the same in both. */
function differences(theirs: unknown, ours: unknown, path = ''): string[] {
  if (typeof theirs !== 'object' || typeof ours !== 'object' || theirs === null || ours === null) {
    return theirs === ours ? [] : [`${path}: ${JSON.stringify(theirs)} / ${JSON.stringify(ours)}`]
  }
  const keys = new Set([...Object.keys(theirs), ...Object.keys(ours)])
  return [...keys].flatMap((key) =>
    differences((theirs as Json)[key], (ours as Json)[key], path ? `${path}.${key}` : key),
  )
}

for (const { name, ours, adapt = (json: Json) => json } of compared) {
  check(`${name} equals nvme-cli's`, async () => {
    const theirs = adapt((await collect()).theirs.get(name)!)
    const own = JSON.parse(await unvme(...ours, '-o', 'json'))
    assert.deepEqual(differences(theirs, own), [])
  })
}

check("get-feature equals nvme-cli's", async () => {
  const { features } = await collect()
  const { features: all } = JSON.parse(await unvme('get-feature', ADDRESS, '-o', 'json'))
  const own = new Map(
    (all as { feature: number; value: number }[]).map(({ feature, value }) => [feature, value]),
  )
  const found = FEATURES.filter((fid) => features.get(fid) !== own.get(fid))
  const text = found.map((fid) => `${fid}: ${features.get(fid)} / ${own.get(fid)}`)
  assert.deepEqual(text, [])
})

await runChecks()
