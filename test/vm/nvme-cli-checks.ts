// Checks in the virtual machine that JSON of `unvme` equals that of nvme-cli, field by field, on one controller:
// first under the kernel's driver, then under VFIO. What rightly differs is named here, each with its reason.
// Our commands run in this process (test/cli runs each as its own): starting Node takes seconds in there.

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import fs from 'node:fs'
import { commands } from '../../src/cli/commands/index.ts'
import { run } from '../../src/cli/run.ts'
import { check, runChecks } from './checks.ts'

// Under the kernel's driver both look at the same time: nvme-cli-kernel.test.ts.
const ADDRESS = process.env.UNVME_CHECK_ADDRESS ?? '00:04.0'
const KERNEL = ADDRESS.startsWith('/dev/')
/** The device's name as the key of some JSON. */
const NAME = KERNEL ? ADDRESS.slice('/dev/'.length) : `0000:${ADDRESS}`

/** Features whose values differ between the two drivers, and why. All others that the controller has are equal. */
const OTHER_VALUES: Readonly<Record<number, string>> = {
  14: 'a timestamp: a clock that goes on, set by the kernel, and from zero again after the reset between the two',
}

/** Fields of features that nvme-cli calls by another name. */
const OTHER_NAMES: Readonly<Record<string, string>> = { NCQA: 'NCQ', NSQA: 'NSQ' }

/** Fields of features whose values are equal and written in other words, and why. */
const OTHER_WORDS: Readonly<Record<string, string>> = {
  WH: 'nvme-cli puts a word behind the number',
  THSEL: 'nvme-cli puts the number before the words',
  TMPSEL: 'nvme-cli puts the number before the words',
  TLER: 'a timeout of 0 is none, and not one of 0 ms',
  TIME: 'us, usec',
  CD: 'what the bit does, in place of True and False',
  DN: 'what the bit does, in place of True and False',
}

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
  { name: 'ns-descs', theirs: ['ns-descs', '/dev/nvme0', '-n', '1'], ours: ['ns-descs', ADDRESS] },
  {
    name: 'changed-ns-list-log',
    theirs: ['changed-ns-list-log', '/dev/nvme0'],
    ours: ['changed-ns-list-log', ADDRESS],
    // The device's name, twice.
    adapt: (json) => ({ 'Changed Namespace List Log': NAME, [NAME]: json.nvme0 }),
  },
  { name: 'smart-log', theirs: ['smart-log', '/dev/nvme0'], ours: ['smart-log', ADDRESS] },
  { name: 'error-log', theirs: ['error-log', '/dev/nvme0'], ours: ['error-log', ADDRESS] },
  {
    name: 'fw-log',
    theirs: ['fw-log', '/dev/nvme0'],
    ours: ['fw-log', ADDRESS],
    // The key is the name of the device, which is the kernel's there and the PCI name here.
    adapt: (json) => ({ [NAME]: json.nvme0 }),
  },
]

interface Feature {
  value: number
  /** Hexadecimal; empty where it has none. */
  data: string
  /** What -H says of it: fields that have a short name, by that. */
  fields: Map<string, string>
}

interface Answers {
  theirs: Map<string, Json>
  features: Map<number, Feature>
}

let answers: Answers | undefined

/** nvme-cli's answers, before anything of ours has touched the controller; after that it is VFIO's. */
async function collect(): Promise<Answers> {
  if (answers) return answers
  waitFor('/dev/nvme0n1')
  const theirs = new Map(
    compared.map(({ name, theirs: words }) => [name, JSON.parse(output('nvme', ...words, '-o', 'json'))]),
  )
  const features = new Map(
    Array.from({ length: 255 }, (_, i) => [i + 1, theirFeature(i + 1)] as const).filter(
      (entry): entry is [number, Feature] => entry[1] !== null,
    ),
  )
  if (!KERNEL) await unvme('setup', ADDRESS)
  answers = { theirs, features }
  return answers
}

// It has no JSON for features: `get-feature:0x07 (Number of Queues), Current value:0x003f003f`, and fields below.
function theirFeature(fid: number): Feature | null {
  const words = ['get-feature', '/dev/nvme0', '-f', String(fid), '-n', '1']
  const { status, stdout } = spawnSync('nvme', [...words, '-H'], { encoding: 'utf8', env: ENV })
  if (status !== 0) return null
  const [, value] = /Current value:(?:0x)?([0-9a-f]+)/.exec(stdout) ?? []
  assert(value, stdout)
  const raw = spawnSync('nvme', [...words, '-b'], { env: ENV })
  // Where there is no data it prints the same line as without -b.
  const data = raw.stdout.includes('get-feature:') ? '' : raw.stdout.toString('hex')
  return { value: Number.parseInt(value, 16), data, fields: fieldsOf(stdout) }
}

/** `Arbitration Burst (AB): No limit`. */
function fieldsOf(text: string): Map<string, string> {
  return new Map(
    [...text.matchAll(/\(([A-Z0-9]+)\)\s*: (.*?)\s*$/gm)].map(([, name, words]) => [
      OTHER_NAMES[name!] ?? name!,
      words!,
    ]),
  )
}

const ENV = { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` }

function output(command: string, ...words: string[]): string {
  const { status, stdout, stderr, error } = spawnSync(command, words, { encoding: 'utf8', env: ENV })
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

interface OwnFeature {
  feature: number
  value: number
  data?: string
}

check("get-feature: the same features with the same values and data as nvme-cli's", async () => {
  const { features } = await collect()
  const { features: own } = JSON.parse(await unvme('get-feature', ADDRESS, '-o', 'json')) as {
    features: OwnFeature[]
  }
  const text = (values: readonly (readonly [number, number, string])[]) =>
    values
      .filter(([fid]) => OTHER_VALUES[fid] === undefined)
      .map(([fid, value, data]) => `${fid}: ${value} ${data}`)
  assert.deepEqual(
    text(own.map(({ feature, value, data = '' }) => [feature, value, data])),
    text([...features].map(([fid, { value, data }]) => [fid, value, data])),
  )
  assert.deepEqual(
    own.map(({ feature }) => feature),
    [...features.keys()],
  )
  assert(features.size >= 10)
})

check("get-feature -H: the same fields as nvme-cli's, and what they mean", async () => {
  const { features } = await collect()
  const sections = (await unvme('get-feature', ADDRESS, '-H')).split(/^(?=get-feature:)/m)
  const own = new Map(
    sections.map((text) => [Number(/^get-feature:(0x[0-9a-f]+)/.exec(text)![1]), fieldsOf(text)]),
  )
  const found = [...features].flatMap(([fid, { fields }]) =>
    [...fields]
      .filter(([name]) => OTHER_WORDS[name] === undefined || !own.get(fid)?.has(name))
      .map(([name, words]) => [`${fid} ${name}: ${words}`, `${fid} ${name}: ${own.get(fid)?.get(name)}`]),
  )
  assert(found.length >= 10)
  assert.deepEqual(
    found.map(([, ours]) => ours),
    found.map(([theirs]) => theirs),
  )
})

await runChecks()
