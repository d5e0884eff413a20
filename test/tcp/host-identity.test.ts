// Who this host is, as processes find it: made once, kept, shared by those that come at the same time.

import { execFileSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import test from 'ava'
import { testFolder } from '../support/folder.ts'
import { testUnless } from '../support/left-out.ts'
import { run } from '../support/run.ts'

const inFolder = testFolder()
const PROGRAM = new URL('./host-identity-program.js', import.meta.url).pathname
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/

let folders = 0

/** A configuration folder, and a folder in place of /etc/nvme with these files. */
function setUp(system: Record<string, string> = {}, own: Record<string, string> = {}) {
  const base = inFolder(`machine-${folders++}`)
  for (const [folder, files] of Object.entries({ system, 'config/unvme': own })) {
    fs.mkdirSync(path.join(base, folder), { recursive: true })
    for (const [name, text] of Object.entries(files)) fs.writeFileSync(path.join(base, folder, name), text)
  }
  const find = (environment: NodeJS.ProcessEnv = { XDG_CONFIG_HOME: path.join(base, 'config') }) =>
    run(PROGRAM, [path.join(base, 'system')], base, environment)
  return { base, find, file: (name: string) => path.join(base, 'config/unvme', name) }
}

test('processes that come at the same time have one identity, and each sees all of it', async (t) => {
  for (let round = 0; round < 3; round++) {
    const { find, file } = setUp()
    fs.rmSync(path.dirname(file('hostid')), { recursive: true })
    const all = await Promise.all(Array.from({ length: 6 }, () => find()))
    for (const { code, stderr } of all) t.is(code, 0, stderr)
    t.is(new Set(all.map(({ stdout }) => stdout)).size, 1)
    const { hostnqn, hostid } = JSON.parse(all[0]!.stdout)
    t.regex(hostid, UUID)
    t.is(hostnqn, `nqn.2014-08.org.nvmexpress:uuid:${hostid}`)
    t.is(fs.readFileSync(file('hostnqn'), 'utf8'), `${hostnqn}\n`)
    t.is(fs.readFileSync(file('hostid'), 'utf8'), `${hostid}\n`)
    t.deepEqual(
      fs.readdirSync(path.dirname(file('hostid'))).sort(),
      ['hostid', 'hostnqn'],
      'nothing else stays',
    )
    t.is(fs.statSync(file('hostnqn')).mode & 0o7133, 0, 'for others to read, and for no one else to write')
  }
})

const ID = '6f9619ff-8b86-d011-b42d-00cf4fc964ff'
const NAME = 'nqn.2024-01.org.example:host'

test('the files of the system count, with upper case, blanks and line ends', async (t) => {
  const { find, file } = setUp({ hostnqn: ` ${NAME}\r\n`, hostid: `${ID.toUpperCase()}\n\n` })
  t.deepEqual(JSON.parse((await find()).stdout), { hostnqn: NAME, hostid: ID })
  t.false(fs.existsSync(file('hostnqn')), 'and nothing is made')
  const uuid = setUp({ hostnqn: `nqn.2014-08.org.nvmexpress:uuid:${ID}\n` })
  t.is(JSON.parse((await uuid.find()).stdout).hostid, ID)
})

test('a name of the system without an id goes with an id of the user’s, which is kept', async (t) => {
  const { find, file } = setUp({ hostnqn: NAME })
  const { hostnqn, hostid } = JSON.parse((await find()).stdout)
  t.is(hostnqn, NAME)
  t.is(fs.readFileSync(file('hostid'), 'utf8').trim(), hostid)
  t.is(JSON.parse((await find()).stdout).hostid, hostid)
})

test('an id that was kept is used for a name that is missing', async (t) => {
  const { find } = setUp({}, { hostid: `${ID}\n` })
  t.is(JSON.parse((await find()).stdout).hostnqn, `nqn.2014-08.org.nvmexpress:uuid:${ID}`)
})

for (const [where, system, own] of [
  ['system/hostnqn', { hostnqn: 'disk' }, {}],
  ['system/hostid', { hostnqn: NAME, hostid: '1' }, {}],
  ['hostnqn', {}, { hostnqn: 'nqn.2024-01.org.example:a b' }],
  ['hostnqn', {}, { hostnqn: `nqn.2024-01.org.example:${'x'.repeat(300)}` }],
  ['hostnqn', {}, { hostnqn: '' }],
  ['hostid', {}, { hostnqn: NAME, hostid: 'none' }],
] as const) {
  test(`a file that holds something else is named: ${where} ${JSON.stringify({ ...system, ...own }).slice(0, 60)}`, async (t) => {
    const { find } = setUp(system, own)
    const { code, stderr } = await find()
    t.is(code, 1)
    t.regex(stderr, new RegExp(`^ERR_UNVME_SETUP: .*${where} holds no (host NQN|UUID), but "`))
  })
}

test('without a home, and where no file can be made, an error says so; a relative folder is none', async (t) => {
  const { base, find } = setUp()
  for (const environment of [
    { XDG_CONFIG_HOME: '', HOME: '' },
    { XDG_CONFIG_HOME: 'config', HOME: 'relative' },
  ]) {
    const { code, stderr } = await find(environment)
    t.is(code, 1)
    t.regex(stderr, /^ERR_UNVME_SETUP: no host NQN: .* no home .*give hostnqn= and hostid=/)
  }
  t.deepEqual(fs.readdirSync(base).sort(), ['config', 'system'])
  fs.writeFileSync(path.join(base, 'file'), '')
  const { stderr } = await find({ XDG_CONFIG_HOME: path.join(base, 'file') })
  t.regex(stderr, /^ERR_UNVME_SETUP: no host NQN: .* none can be kept in .*file\/unvme/)
})

testUnless(
  process.getuid?.() !== 0 && 'not root',
  'a user who may not read the system’s files has an identity of its own',
  (t) => {
    const { base } = setUp({ hostnqn: NAME, hostid: ID })
    fs.chmodSync(path.join(base, 'system/hostnqn'), 0o600)
    fs.chmodSync(path.join(base, 'system/hostid'), 0o600)
    fs.chmodSync(path.join(base, 'config/unvme'), 0o777)
    fs.chmodSync(path.dirname(base), 0o755)
    const words = ['--reuid', '65534', '--clear-groups', process.execPath, PROGRAM, path.join(base, 'system')]
    const env = { ...process.env, XDG_CONFIG_HOME: path.join(base, 'config') }
    const { hostnqn } = JSON.parse(execFileSync('setpriv', words, { encoding: 'utf8', env }))
    t.regex(hostnqn, /:uuid:/)
  },
)
