// The commands that show what a controller says, each as a process on the software controller.

import { readFileSync, writeFileSync } from 'node:fs'
import test from 'ava'
import { testFolder } from '../support/folder.ts'
import { startServer } from '../support/server.ts'
import { type Outcome, unvme } from './command.ts'

const file = testFolder()

async function ok(t: { is: (a: unknown, b: unknown, m?: string) => void }, line: string): Promise<string> {
  const { code, stdout, stderr } = await unvme(line.split(' '))
  t.is(stderr, '', line)
  t.is(code, 0, line)
  return stdout
}

const lines = (text: string) => text.trimEnd().split('\n')
const fieldOf = (text: string, name: string) =>
  lines(text)
    .find((line) => line.startsWith(`${name} `))
    ?.replace(/^[^:]*: /, '')

test('id-ctrl: fields by name, flags with -H, JSON by nvme-cli keys, the bytes', async (t) => {
  const address = 'sim:?size=1M&serial=ABC&mdts=5'
  const normal = await ok(t, `id-ctrl ${address}`)
  t.is(fieldOf(normal, 'sn'), 'ABC'.padEnd(20))
  t.is(fieldOf(normal, 'mn'), 'unvme simulated NVMe'.padEnd(40))
  t.is(fieldOf(normal, 'mdts'), '5')
  t.is(fieldOf(normal, 'ver'), '0x10400')
  t.is(fieldOf(normal, 'sqes'), '0x66')
  t.regex(normal, /\nps +0 : mp:10\.00W operational enlat:0 exlat:0 rrt:0 rrl:0\n/)
  const human = await ok(t, `id-ctrl ${address} -H --vendor-specific`)
  t.regex(human, /\n {2}\[8:8\] {3}: 0x1 {2}Namespace Attribute Notices Supported\n/)
  t.regex(human, /\n {2}70°C \(343 Kelvin\)\n/)
  t.regex(human, /\nvs\[\]:\n00000000 {2}00 /)
  const json = JSON.parse(await ok(t, `id-ctrl ${address} -o json`))
  t.is(json.sn, 'ABC'.padEnd(20))
  t.is(json.tnvmcap, '1048576')
  t.is(json.fguid, '00000000-0000-0000-0000-000000000000')
  t.is(json.psds[0].max_power, 1000)
  const binary = await ok(t, `id-ctrl ${address} -o binary`)
  t.is(binary.slice(4, 24), 'ABC'.padEnd(20))
})

test('id-ns and list-ns: the namespace of the address, of -n, the only one, or none', async (t) => {
  const address = 'sim:?size=1M&ns=2,5'
  const normal = await ok(t, `id-ns ${address}&nsid=5`)
  t.is(fieldOf(normal, 'nsze'), '0x800')
  t.regex(normal, /\nlbaf {2}0 : ms:0 {3}lbads:9 {2}rp:0 \(in use\)\nlbaf {2}1 : ms:0 {3}lbads:12 rp:0\n$/)
  const human = await ok(t, 'id-ns sim:?size=1M&lba=4096 -H')
  t.regex(human, /\nLBA Format {2}1 : Data Size: 4096 bytes - .* 0 Best \(in use\)\n$/)
  const json = JSON.parse(await ok(t, `id-ns ${address} -n 2 -o json`))
  t.is(json.nsze, 2048)
  t.is(json.nvmcap, '1048576')
  t.deepEqual(json.lbafs[1], { ms: 0, ds: 12, rp: 0 })
  const inactive = await unvme(['id-ns', address, '-n', '3'])
  t.is(inactive.code, 0)
  t.is(inactive.stderr, 'namespace 3 is not active\n')
  t.is(fieldOf(inactive.stdout, 'nsze'), '0')
  t.deepEqual(await unvme(['id-ns', address]), {
    code: 2,
    stdout: '',
    stderr: `unvme: ${address} has namespaces 2, 5: --namespace-id says which (ERR_UNVME_USAGE)\n`,
  })
  t.is(await ok(t, `list-ns ${address}`), '[   0]:0x2\n[   1]:0x5\n')
  t.deepEqual(JSON.parse(await ok(t, `list-ns ${address} -n 3 -o json`)), { nsid_list: [{ nsid: 5 }] })
})

test('smart-log and error-log: both units, and what failed', async (t) => {
  const normal = await ok(t, 'smart-log sim:?size=1M')
  t.is(fieldOf(normal, 'temperature'), '27°C (300 Kelvin)')
  t.is(fieldOf(normal, 'Data Units Read'), '0 (0 B)')
  t.regex(await ok(t, 'smart-log sim:?size=1M -H'), /\n {2}\[1:1\] {3}: 0 {4}Temperature over .*: no\n/)
  const json = JSON.parse(await ok(t, 'smart-log sim:?size=1M -o json'))
  t.is(json.temperature, 300)
  t.is(json.temperature_sensor_1, 300)
  t.false('temperature_sensor_2' in json)
  t.is(json.power_cycles, '1')
  t.is(await ok(t, 'error-log sim:?size=1M'), 'no errors in 64 entries\n')
  t.is(JSON.parse(await ok(t, 'error-log sim:?size=1M -e 3 -o json')).errors.length, 3)
})

test('fw-log, effects-log and get-log', async (t) => {
  t.is(fieldOf(await ok(t, 'fw-log sim:?size=1M'), 'frs1'), '1.0')
  t.deepEqual(JSON.parse(await ok(t, 'fw-log sim:?size=1M -o json'))['sim:?size=1M'], {
    'Active Firmware Slot (afi)': 1,
    'Firmware Rev Slot 1': '2314885530819505713 (1.0.....)',
  })
  const effects = await ok(t, 'effects-log sim:?size=1M -H')
  t.regex(effects, /\nACS6 {5}\[Identify +\] 0x00000001\n/)
  t.regex(
    effects,
    /\nIOCS1 {5}\[Write +\] 0x00000003\n(.*\n)*? {2}\[1:1\] {3}: 0x1 {2}Logical block content change: yes\n/,
  )
  const [set] = JSON.parse(await ok(t, 'effects-log sim:?size=1M -o json'))
  t.is(set.admin_cmd_set['ACS_6 (Identify)'], 1)
  t.is(set.io_cmd_set['IOCS_1 (Write)'], 3)
  const dump = await ok(t, 'get-log sim:?size=1M -i 3 -l 16')
  t.is(
    dump,
    'log-id:0x03 (Firmware Slot Information) namespace-id:0xffffffff\n' +
      '00000000  01 00 00 00 00 00 00 00  31 2e 30 20 20 20 20 20  |........1.0     |\n',
  )
  const json = JSON.parse(await ok(t, 'get-log sim:?size=1M -i 3 -l 3 --lpo 8 -o json'))
  t.is(json.data, '312e30')
  t.is(await ok(t, 'get-log sim:?size=1M --aen 0x30002 -i 0 -l 11 -b'), '\u0001\0\0\0\0\0\0\u00001.0')
})

test('ns-descs, list-ctrl, changed-ns-list-log and telemetry-log', async (t) => {
  const address = 'sim:?size=1M&ns=1,4&serial=LISTS'
  const descriptors = await ok(t, `ns-descs ${address} -n 4`)
  t.regex(descriptors, /^nguid {3}: [0-9a-f]{32}\neui64 {3}: [0-9a-f]{16}\n$/)
  const [first] = JSON.parse(await ok(t, `ns-descs ${address} -n 4 -o json`))['ns-descs']
  t.like(first, { loc: 0, nidt: 2, nidl: 16, type: 'nguid' })
  t.is(await ok(t, `list-ctrl ${address}`), 'num of ctrls present: 1\n[   0]:0x1\n')
  t.deepEqual(JSON.parse(await ok(t, `list-ctrl ${address} -n 4 -o json`)), {
    num_ctrl: 1,
    ctrl_list: [{ ctrl_id: 1 }],
  })
  t.is(await ok(t, `list-ctrl ${address} -c 2`), 'num of ctrls present: 0\n')
  t.is(await ok(t, `changed-ns-list-log ${address}`), '')
  const telemetry = file('telemetry.bin')
  const said = await ok(t, `telemetry-log ${address} -o ${telemetry}`)
  const bytes = readFileSync(telemetry)
  t.is(said, `telemetry-log: ${bytes.length} bytes written to ${telemetry}\n`)
  t.is(bytes[0], 7)
  t.true(bytes.length > 512)
  t.truthy(JSON.parse(bytes.toString('latin1', 512).replace(/\0+$/, '')).health)
  await ok(t, `telemetry-log ${address} -o ${telemetry} -c`)
  t.is(readFileSync(telemetry).length, 512)
})

test('get-feature: one, all, defaults, capabilities; set-feature', async (t) => {
  t.is(
    await ok(t, 'get-feature sim:?size=1M -f 7'),
    'get-feature:0x07 (Number of Queues), Current value:0x000f000f\n',
  )
  t.regex(
    await ok(t, 'get-feature sim:?size=1M -f 4 -s default -H'),
    /Default value:0x00000157\n(.*\n)*.*70°C \(343 Kelvin\)\n$/,
  )
  t.regex(
    await ok(t, 'get-feature sim:?size=1M -f 6 -s 3 -H'),
    /capabilities value:0x00000005\n {2}saveable, changeable\n$/,
  )
  const all = JSON.parse(await ok(t, 'get-feature sim:?size=1M -o json')).features
  t.deepEqual(all[0].fields, { ab: 4, lpw: 0, mpw: 0, hpw: 0 })
  t.true(all.some(({ name }: { name: string }) => name === 'Timestamp'))
  t.is(
    await ok(t, 'set-feature sim:?size=1M -f 0x0a -v 1 --save'),
    'set-feature:0x0a (Write Atomicity Normal), value:0x00000001, cdw12:0x00000000, save:1\n',
  )
})

test('set-feature: says what has become of a value that is not saved', async (t) => {
  const last = async (line: string) => lines(await ok(t, line)).at(-1)
  t.is(
    await last('set-feature sim:?size=1M -f 6 -v 0'),
    'Not saved: the reset of the controller that ends this command undoes it, it is 0x00000001 again; --save keeps it',
  )
  t.regex(
    (await last('set-feature sim:?size=1M -f 4 -v 0x100140')) ?? '',
    /undoes it, it is 0x00000000 again;/,
  )
  t.regex(
    (await last('set-feature sim:?size=1M -f 3 -v 0 -n 1 -d package.json')) ?? '',
    /its data is another again; the controller can not save this feature$/,
  )
  t.regex(
    (await last('set-feature sim:?size=1M -f 0xe -v 1700000000000')) ?? '',
    /^Not saved: the value lasts over a reset/,
  )
  t.is(lines(await ok(t, 'set-feature sim:?size=1M -f 6 -v 0 --save')).length, 1)
  // Of another controller, which goes on when the command ends.
  const { address, stop } = await startServer()
  t.regex(
    (await last(`set-feature ${address} -f 0xe -v 1700000000000`)) ?? '',
    /^Not saved: the value lasts over the reset of the controller that ends this command/,
  )
  t.regex(await ok(t, `get-feature ${address} -f 0xe -H`), /Timestamp: 17\d+ ms \(.*\), set by the host/)
  t.regex((await last(`set-feature ${address} -f 6 -v 0`)) ?? '', /undoes it/)
  t.regex(await ok(t, `get-feature ${address} -f 6`), /value:0x00000001\n$/)
  await stop()
})

test('set-feature: data of another length than the feature has is said', async (t) => {
  const short = file('short.bin')
  writeFileSync(short, 'abc')
  const long = file('long.bin')
  writeFileSync(long, Buffer.alloc(20, 1))
  const second = async (line: string) => lines(await ok(t, line))[1]
  t.is(
    await second(`set-feature sim:?size=1M -f 0x81 -v 0 -d ${short}`),
    'data: 3 bytes of 8, the others were sent as zeroes',
  )
  t.is(
    await second(`set-feature sim:?size=1M -f 0x81 -v 0 -d ${long}`),
    'data: the first 8 bytes count, of 20',
  )
  t.regex((await second(`set-feature sim:?size=1M -f 0x81 -v 0 -d ${long} -l 8`)) ?? '', /^Not saved/)
  t.is(
    await second(`set-feature sim:?size=1M -f 6 -v 0 -d ${short}`),
    'data: Volatile Write Cache has none, so it does not count',
  )
  const none = await unvme(['set-feature', 'sim:?size=1M', '-f', '0x81', '-v', '0'])
  t.is(none.code, 2)
  t.regex(none.stderr, /Host Identifier has 8 bytes of data: --data says which/)
})

test('get-feature: fewer bytes than the feature has are its beginning', async (t) => {
  t.is((await ok(t, 'get-feature sim:?size=1M -f 0x81 -l 3 -b')).length, 3)
  t.regex(await ok(t, 'get-feature sim:?size=1M -f 0x81 -l 3 -H'), /00 00 00/)
})

test('show-regs: registers and their fields', async (t) => {
  const text = await ok(t, 'show-regs sim:?size=1M&qsize=64 -H')
  t.is(fieldOf(text, 'vs'), '0x10400')
  t.regex(text, /\n {2}Maximum Queue Entries Supported \(MQES\): 64\n/)
  t.regex(text, /\n {2}Ready \(RDY\): Yes\n/)
  const json = JSON.parse(await ok(t, 'show-regs sim:?size=1M -o json'))
  t.is(json.csts, 1)
  t.is(json.vs, 0x10400)
})

test('what the device refuses: exit code 1, with the status by name', async (t) => {
  const cases: [string, RegExp][] = [
    [
      'get-log sim:?size=1M -i 0x55',
      /^unvme: Get Log Page failed: Invalid Log Page \(sct 1, sc 09h, .*\(ERR_NVME_STATUS\)\n$/,
    ],
    ['get-feature sim:?size=1M -f 0xf', /^unvme: Get Features failed: Invalid Field in Command/],
    ['set-feature sim:?size=1M -f 2 -v 3', /^unvme: Set Features failed: Invalid Field in Command/],
    ['set-feature sim:?size=1M -f 2 -v 0 -s', /^unvme: Set Features failed: Feature Identifier Not Saveable/],
    ['id-ns sim:?size=1M -n 99', /^unvme: Identify failed: Invalid Namespace or Format/],
    ['ns-descs sim:?size=1M -n 2', /^unvme: Identify failed: Invalid Namespace or Format/],
    ['list-ctrl sim:?size=1M -n 2', /^unvme: Identify failed: Invalid Namespace or Format/],
    ['cmdset-ind-id-ns sim:?size=1M', /^unvme: Identify failed: Invalid Field in Command/],
    ['persistent-event-log sim:?size=1M', /^unvme: Get Log Page failed: Invalid Log Page/],
    ['telemetry-log sim:?size=1M -o /nowhere/t.bin', /^unvme: ENOENT/],
  ]
  for (const [line, message] of cases) {
    const { code, stdout, stderr }: Outcome = await unvme(line.split(' '))
    t.regex(stderr, message, line)
    t.is(stdout, '', line)
    t.is(code, 1, line)
  }
})

test('bad arguments: exit code 2, and what is wrong', async (t) => {
  const cases: [string, RegExp][] = [
    ['id-ctrl', /missing required argument 'ADDR'/],
    ['id-ctrl sim:?size=1M -o xml', /'xml' is none of normal, json, binary/],
    ['id-ctrl sim:?sizee=1M', /unknown option 'sizee'; the nearest is 'size' \(ERR_UNVME_ADDRESS\)/],
    ['id-ctr sim:', /unknown command 'id-ctr'; did you mean .*'id-ctrl'/],
    ['id-ns sim:?nsid=1 -n 2', /names namespace 1, the options namespace 2 \(ERR_UNVME_ADDRESS\)/],
    ['list-ns sim: -n 0', /0 is not in 1 to 4294967294/],
    ['smart-log sim: --namespace-id all', /'all' is not a whole number/],
    ['error-log sim: -e 0', /0 is not in 1 to 256/],
    ['fw-log sim: --slot 1', /unknown option '--slot'/],
    ['effects-log sim: -c 256', /256 is not in 0 to 255/],
    ['self-test-log sim: -e 21', /21 is not in 1 to 20/],
    ['sanitize-log sim: extra', /too many arguments/],
    ['get-log sim:', /required option '-i, --log-id <ID>' not specified/],
    [
      'get-log sim:?size=1M -i 2 --lpo 3',
      /log page offset 3: a multiple of 4 is needed \(ERR_OUT_OF_RANGE\)/,
    ],
    ['get-feature sim: -f 1 -s curent', /'curent' is none of .*; did you mean 'current'\?/],
    ['set-feature sim: -f 1', /required option '-v, --value <DWORD>' not specified/],
    ['set-feature sim: -f 1 -v 0x100000000', /--value 4294967296 does not fit in a dword/],
    ['ns-descs sim: -n -1', /'-1' is not a whole number|-1 is not in 0 to/],
    ['list-ctrl sim: -c 65536', /65536 is not in 0 to 65535/],
    ['cmdset-ind-id-ns', /missing required argument 'ADDR'/],
    ['changed-ns-list-log sim: --ra', /unknown option '--ra'/],
    ['telemetry-log sim:', /required option '-o, --output-file <FILE>' not specified/],
    ['telemetry-log sim: -o t.bin -d 5', /5 is not in 1 to 4/],
    ['persistent-event-log sim: -a 3', /'3' is none of read, establish/],
    ['show-regs nowhere', /unknown address "nowhere"/],
  ]
  for (const [line, message] of cases) {
    const { code, stdout, stderr } = await unvme(line.split(' '))
    t.regex(stderr, message, line)
    t.is(stdout, '', line)
    t.is(code, 2, line)
  }
})
