// The commands that change a device, each as a process on the software controller; disk images keep its state.

import { statSync, writeFileSync } from 'node:fs'
import anyTest, { type ExecutionContext } from 'ava'
import { refuseUsed } from '../../src/cli/admin/command.ts'
import { FakeMachine } from '../setup/fake-machine.ts'
import { testFolder } from '../support/folder.ts'
import { startServer } from '../support/server.ts'
import { type Outcome, unvme } from './command.ts'

const test = anyTest
const file = testFolder()

/** Runs a command line that has to succeed; returns what it prints. */
async function ok(t: ExecutionContext, line: string, input = ''): Promise<string> {
  const { code, stdout, stderr } = await unvme(line.split(' '), { input })
  t.is(stderr, '', line)
  t.is(code, 0, line)
  return stdout
}

/** Runs one that has to fail, with nothing on stdout unless given. */
async function fails(
  t: ExecutionContext,
  code: number,
  line: string,
  message: RegExp,
  { input = '', stdout = /^$/ }: { input?: string | Buffer; stdout?: RegExp } = {},
): Promise<void> {
  const outcome: Outcome = await unvme(line.split(' '), { input })
  t.regex(outcome.stderr, message, line)
  t.regex(outcome.stdout, stdout, line)
  t.is(outcome.code, code, line)
}

const json = async (t: ExecutionContext, line: string) => JSON.parse(await ok(t, `${line} -o json`))

test('device-self-test: short, extended, shown, ended', async (t) => {
  const address = `sim:${file('self-test.img')}?size=1M`
  const passed = /Operation result +: 0 \(Operation completed without error\)\n/
  t.is(await ok(t, `device-self-test ${address}`), 'Current operation  : 0 (none)\nCurrent completion : 0%\n')
  const short = await ok(t, `device-self-test ${address}&operation=0 -s short`)
  t.regex(short, /^Short device self-test started\nOperation result/)
  t.regex(short, passed)
  t.regex(await ok(t, `device-self-test ${address}&operation=20ms -s 2 --wait -n 1`), passed)
  // An extended one goes on in the next command, and the next.
  const slow = `${address}&operation=3600s`
  t.is(await ok(t, `device-self-test ${slow} -s extended`), 'Extended device self-test started\n')
  t.regex(await ok(t, `device-self-test ${slow} -s 0`), /^Current operation {2}: 0x2 \(extended\)\n/)
  await fails(t, 1, `device-self-test ${slow} -s 1`, /Device Self-test In Progress/)
  t.is(await ok(t, `device-self-test ${slow} -s abort`), 'The device self-test that ran, if any, is ended\n')
  const { 'List of Valid Reports': results } = await json(t, `self-test-log ${address}`)
  t.is(results[0]['Self test result'], 1)
  await fails(t, 1, `device-self-test ${address} -s vendor`, /Device Self Test failed: Invalid Field/)
  await fails(t, 2, `device-self-test ${address} -s shrt`, /'shrt' is none of .*; did you mean 'short'\?/)
  await fails(t, 2, `device-self-test ${address} -s 3`, /'3' is none of show, short, extended, vendor, abort/)
})

test('format: by size, by number, all; what is refused', async (t) => {
  const address = `sim:${file('format.img')}?size=1M&ns=2`
  await ok(t, `write-zeroes ${address} -n 1`)
  t.is(await ok(t, `format ${address} -n 1 -b 4k`), 'Success formatting namespace:1\n')
  t.is((await json(t, `id-ns ${address} -n 1`)).flbas, 1)
  t.is((await json(t, `id-ns ${address} -n 2`)).flbas, 0)
  t.is(await ok(t, `format ${address} -n 1`), 'Success formatting namespace:1\n')
  t.is((await json(t, `id-ns ${address} -n 1`)).flbas, 1)
  t.is(await ok(t, `format ${address} -n 0xffffffff -l 0 -s 2 -r`), 'Success formatting namespace:all\n')
  t.is((await json(t, `id-ns ${address} -n 1`)).flbas, 0)
  await fails(t, 1, `format ${address} -n 2 -l 0 -i 1`, /Format NVM failed: Invalid Format/)
  await fails(t, 1, `format ${address} -n 99`, /Identify failed: Invalid Namespace or Format/)
  await fails(t, 2, `format ${address}`, /has namespaces 1, 2: --namespace-id says which/)
  await fails(t, 2, `format ${address} -n 1 -l 2`, /there is no LBA format 2: 0 to 1/)
  await fails(t, 2, `format ${address} -n 1 -l 1 -b 512`, /--lbaf and --block-size both say which format/)
  await fails(
    t,
    2,
    `format ${address} -n 1 -b 520`,
    /no LBA format has blocks of 520 bytes: there are 512, 4096/,
  )
  await fails(t, 2, `format ${address} -n 0xffffffff`, /all namespaces: --lbaf or --block-size says which/)
  await fails(t, 2, `format ${address} -n 5`, /namespace 5 is not active/)
  await fails(t, 2, `format ${address} -s 3`, /3 is not in 0 to 2/)
})

test('sanitize: data is gone, the log tells; what is refused', async (t) => {
  const image = `sim:${file('sanitize.img')}?size=1M`
  const address = `${image}&operation=20ms`
  await ok(t, `write ${address} - --slba 8`, 'secret')
  const started = 'Sanitize started: overwrite\nSanitize: Completed successfully\n'
  t.is(await ok(t, `sanitize ${address} -a start-overwrite -n 3 -i -p 0xdeadbeef -w`), started)
  t.regex(await ok(t, `read ${address} --slba 8 --nlb 1 --hex`), /^00001000 {2}00 00 .*\n\*\n00001200\n$/)
  const log = await json(t, `sanitize-log ${address}`)
  const [{ cdw10_info, sstat }] = Object.values(log) as [{ cdw10_info: number; sstat: { status: string } }]
  t.is(cdw10_info, 0x133)
  t.is(sstat.status, '(1) Completed successfully')
  const slow = `${image}&operation=3600s`
  t.is(await ok(t, `sanitize ${slow} -a 2`), 'Sanitize started: block erase\n')
  await fails(t, 1, `sanitize ${slow} -a 4`, /Sanitize In Progress/)
  await fails(t, 1, `format ${slow}`, /Sanitize In Progress/)
  await ok(t, `flush ${image}&operation=0`)
  t.is(await ok(t, `sanitize ${address} -a exit-failure`), 'Failure mode ended\n')
  await fails(t, 1, `sanitize ${image}&operation=0 -a 4 --no-dealloc`, /Sanitize failed: Invalid Field/)
  await fails(t, 2, `sanitize ${address}`, /required option '-a, --sanact <ACTION>' not specified/)
  await fails(t, 2, `sanitize ${address} -a erase`, /'erase' is none of exit-failure, start-block-erase/)
  await fails(t, 2, `sanitize ${address} -a 3 -n 17`, /17 is not in 1 to 16/)
})

test('fw-download and fw-commit: an image in a slot, and the slot that runs', async (t) => {
  const address = `sim:${file('firmware.img')}?size=1M`
  const image = file('firmware.bin')
  writeFileSync(image, `unvme firmware 2.1\n${'.'.repeat(9000)}`)
  // 9019 bytes.
  const sent = 'Firmware download success: 9.02 kB, and 1 byte of zeroes behind it\n'
  t.is(
    await ok(t, `fw-download ${address} -f ${image}`),
    `${sent}Not committed: the device forgets it now (see --action)\n`,
  )
  t.is(
    await ok(t, `fw-download ${address} -f ${image} -s 2 -a replace -x 8k`),
    `${sent}Success committing firmware action:0 slot:2\n`,
  )
  const slots = await ok(t, `fw-log ${address}`)
  t.is(slots, 'afi  : 0x1 (slot 1)\nfrs1 : 1.0\nfrs2 : 2.1\n')
  t.is(await ok(t, `fw-commit ${address} --slot 2`), 'Success committing firmware action:2 slot:2\n')
  t.is((await json(t, `id-ctrl ${address}`)).fr, '2.1     ')
  t.is(
    await ok(t, `fw-commit ${address} -s 1 -a activate-now`),
    'Success committing firmware action:3 slot:1\n',
  )
  await fails(t, 1, `fw-commit ${address} -s 3`, /Firmware Commit failed: Invalid Firmware Slot/)
  await fails(t, 1, `fw-download ${address} -f ${image} -s 1 -a 0`, /Invalid Firmware Slot/, {
    stdout: /^Firm/,
  })
  await fails(t, 1, `fw-download ${address} -f ${file('none.bin')}`, /ENOENT/)
  writeFileSync(file('empty.bin'), '')
  await fails(t, 2, `fw-download ${address} -f ${file('empty.bin')}`, /empty\.bin is empty/)
  await fails(t, 2, `fw-download ${address} -f ${image} -x 6`, /--xfer 6: a multiple of 4 is needed/)
  await fails(t, 2, `fw-download ${address}`, /required option '-f, --fw <FILE>' not specified/)
  await fails(t, 2, `fw-commit ${address} -a 4`, /'4' is none of replace, /)
  await fails(t, 2, `fw-commit ${address} -s 8`, /8 is not in 0 to 7/)
})

test('create-ns, attach-ns, detach-ns, delete-ns', async (t) => {
  const address = `sim:${file('namespaces.img')}?size=1M&spare=1M`
  t.is(await ok(t, `create-ns ${address} -S 512KiB -b 4096`), 'create-ns: Success, created nsid:2\n')
  t.is(await ok(t, `list-ns ${address}`), '[   0]:0x1\n')
  t.is(await ok(t, `list-ns ${address} --all`), '[   0]:0x1\n[   1]:0x2\n')
  t.is(await ok(t, `attach-ns ${address} -n 2`), 'attach-ns: Success, nsid:2\n')
  const id = await json(t, `id-ns ${address} -n 2`)
  t.deepEqual([id.nsze, id.flbas], [128, 1])
  await fails(t, 1, `attach-ns ${address} -n 2 -c 1`, /Namespace Already Attached/)
  await fails(t, 1, `attach-ns ${address} -n 2 -c 1,2`, /Controller List Invalid/)
  t.is(await ok(t, `detach-ns ${address}&nsid=2`), 'detach-ns: Success, nsid:2\n')
  t.is(await ok(t, `delete-ns ${address} -n 2`), 'delete-ns: Success, deleted nsid:2\n')
  t.is(await ok(t, `create-ns ${address} -s 8`), 'create-ns: Success, created nsid:2\n')
  t.is(await ok(t, `delete-ns ${address} -n 0xffffffff`), 'delete-ns: Success, deleted nsid:all\n')
  t.is(await ok(t, `list-ns ${address} --all`), '')
  await fails(t, 1, `create-ns ${address} -s 999999`, /Namespace Insufficient Capacity/)
  await fails(t, 1, `create-ns ${address} -s 8 -c 4`, /Thin Provisioning Not Supported/)
  await fails(t, 1, `delete-ns ${address} -n 7`, /Namespace Management failed: Invalid Namespace or Format/)
  await fails(t, 2, `create-ns ${address}`, /--nsze or --nsze-si says how large/)
  await fails(t, 2, `create-ns ${address} -s 8 -S 4k`, /--nsze and --nsze-si both say how much/)
  await fails(t, 2, `create-ns ${address} -s 8 -f 1 -b 512`, /--flbas and --block-size both say/)
  await fails(t, 2, `delete-ns ${address}`, /--namespace-id says which namespace of/)
  await fails(t, 2, `attach-ns ${address} -n 2 -c one`, /'one' is not a whole number/)
  await fails(t, 2, `detach-ns ${address}`, /--namespace-id says which namespace of/)
})

test('reset and subsystem-reset', async (t) => {
  t.regex(await ok(t, 'reset sim:?size=1M'), /^sim:\?size=1M: controller reset, ready again after \d+ ms\n$/)
  t.regex(await ok(t, 'subsystem-reset sim:?size=1M'), /: NVM subsystem reset, ready again after \d+ ms\n$/)
  await fails(t, 2, 'reset', /missing required argument 'ADDR'/)
  await fails(t, 2, 'reset sim:?size=1M now', /too many arguments/)
  await fails(t, 2, 'subsystem-rest sim:', /did you mean 'subsystem-reset'\?/)
  await fails(t, 2, 'subsystem-reset nowhere', /unknown address "nowhere"/)
})

test('flush, write-zeroes, verify-blocks: counts are one-based', async (t) => {
  const address = `sim:${file('blocks.img')}?size=1M`
  await ok(t, `write ${address} -`, 'x'.repeat(4096))
  t.is(await ok(t, `flush ${address}`), 'NVMe Flush: success\n')
  t.is(await ok(t, `flush ${address} -n 0xffffffff`), 'NVMe Flush: success\n')
  t.is(await ok(t, `write-zeroes ${address} -s 1 -c 2 -f -d`), 'NVMe Write Zeroes Success: LBA 1 to 2\n')
  const expected = Buffer.alloc(4096, 'x').fill(0, 512, 1536)
  t.is(await ok(t, `compare ${address}`, expected.toString('latin1')), 'NVMe Compare Success: LBA 0 to 7\n')
  t.is(await ok(t, `write-zeroes ${address} -s 7`), 'NVMe Write Zeroes Success: LBA 7\n')
  t.is(await ok(t, `verify-blocks ${address} -c 2048 -l`), 'NVMe Verify Success: LBA 0 to 2047\n')
  await fails(t, 1, `verify-blocks ${address}&fault=verify@100:status=281h -c 200`, /slba 0, nlb 200\)/)
  await fails(t, 2, `flush ${address} -n 2`, /namespace 2/)
  for (const name of ['write-zeroes', 'verify-blocks']) {
    await fails(t, 2, `${name} ${address} -s 2047 -c 2`, /LBA 2047 to 2048 passes the end of namespace 1/)
    await fails(t, 2, `${name} ${address} -c 0`, /0 blocks: counts are one-based here/)
  }
  await fails(t, 2, `flush ${address} --nsid 1`, /unknown option '--nsid'/)
})

test('compare: a file or standard input, whole blocks', async (t) => {
  const address = `sim:${file('compare.img')}?size=1M`
  const data = file('compare.bin')
  // More than one command takes.
  writeFileSync(data, Buffer.alloc(900 * 512, 'unvme'))
  await ok(t, `write ${address} ${data} --slba 100`)
  t.is(await ok(t, `compare ${address} -s 100 -d ${data}`), 'NVMe Compare Success: LBA 100 to 999\n')
  t.is(await ok(t, `compare ${address} -s 100 -c 900 -d ${data}`), 'NVMe Compare Success: LBA 100 to 999\n')
  await fails(
    t,
    2,
    `compare ${address} -s 100 -c 899 -d ${data}`,
    /compare\.bin is too long: .* 460288 bytes/,
  )
  t.is(await ok(t, `compare ${address} -s 100 -z 1k -d ${data}`), 'NVMe Compare Success: LBA 100 to 101\n')
  await ok(t, `write-zeroes ${address} -s 998`)
  await fails(
    t,
    1,
    `compare ${address} -s 100 -d ${data}`,
    /Compare failed: Compare Failure \(.*slba \d+, nlb \d+\)/,
  )
  const odd = Buffer.alloc(513)
  await fails(t, 2, `compare ${address}`, /513 bytes of data are no whole number of blocks of 512/, {
    input: odd,
  })
  await fails(t, 2, `compare ${address} -c 2`, /the data has 513 bytes, of 1024/, { input: odd })
  await fails(
    t,
    2,
    `compare ${address} -c 2 -z 512 -d ${data}`,
    /--block-count is 1024 bytes, --data-size 512/,
  )
  await fails(t, 2, `compare ${address}`, /0 bytes of data are no whole number of blocks/)
  await fails(t, 1, `compare ${address} -d ${file('none')}`, /ENOENT/)
})

test('dsm: ranges as lists', async (t) => {
  const image = file('dsm.img')
  const address = `sim:${image}?size=1M`
  await ok(t, `write ${address} -`, 'y'.repeat(65536))
  const before = statSync(image).blocks
  t.is(await ok(t, `dsm ${address} -d -s 0,16 -b 8,112`), 'NVMe DSM: success, 2 ranges\n')
  t.true(statSync(image).blocks < before)
  t.is(await ok(t, `compare ${address} -s 8`, 'y'.repeat(4096)), 'NVMe Compare Success: LBA 8 to 15\n')
  t.is(await ok(t, `compare ${address} -s 16`, '\0'.repeat(512)), 'NVMe Compare Success: LBA 16\n')
  t.is(await ok(t, `dsm ${address} -c 3 -s 8 -b 8 -a 0x12`), 'NVMe DSM: success, 1 range\n')
  await fails(t, 2, `dsm ${address} -d`, /--slbs and --blocks say which ranges/)
  await fails(t, 2, `dsm ${address} -s 0 -b 1`, /-d, -w or -r says what the ranges are for/)
  await fails(t, 2, `dsm ${address} -d -c 4 -s 0 -b 1`, /--cdw11 stands in place of -d, -w and -r/)
  await fails(t, 2, `dsm ${address} -d -s 0,1 -b 1`, /need as many values each/)
  await fails(t, 2, `dsm ${address} -d -s 2048 -b 1`, /LBA 2048 passes the end of namespace 1/)
  await fails(t, 2, `dsm ${address} -d -s 0, -b 1,1`, /'' is not a whole number/)
})

test('get-lba-status: what is allocated, by parts, for programs, and as bytes', async (t) => {
  const image = file('allocated.img')
  const address = `sim:${image}`
  const empty = await ok(t, `get-lba-status ${address}?size=8M`)
  t.is(
    empty,
    'Number of LBA Status Descriptors(NLSD): 0\nCompletion Condition(CMPC): 2\n\tAll of the range has been looked at\n',
  )
  const data = Buffer.alloc(8 * 2 ** 20)
  data.fill(1, 2 ** 20, 2 ** 20 + 8192)
  data.fill(1, 4 * 2 ** 20, 6 * 2 ** 20)
  await ok(t, `write ${address} - --quiet`, data as never)
  const text = await ok(t, `get-lba-status ${address} -a 2`)
  t.regex(text, /^\{ DSLBA: 0x0000000000000800, NLB: 0x0000007f, Status: 0x02 \}$/m)
  t.regex(text, /^\{ DSLBA: 0x0000000000002000, NLB: 0x00000fff, Status: 0x02 \}$/m)
  t.deepEqual(await json(t, `get-lba-status ${address} -s 2052 --range-len 6200 --max-dw 5`), {
    'Number of LBA Status Descriptors (NLSD)': 1,
    'Completion Condition (CMPC)': 1,
    'cmpc-definition': 'The list is full, and there is more behind its last descriptor',
    'LSD entry 0': { DSLBA: '0x0000000000000804', NLB: '0x0000007b', Status: '0x02' },
  })
  t.is((await ok(t, `get-lba-status ${address} -m 5 -o binary`)).length, 24)
  await fails(t, 1, `get-lba-status ${address} -a tracked`, /Invalid Field in Command/)
  await fails(t, 1, `get-lba-status ${address}?lbastatus=0`, /Invalid Command Opcode/)
  await fails(t, 1, `get-lba-status ${address} -s 16384`, /LBA Out of Range/)
  await fails(t, 2, `get-lba-status ${address} -a any`, /allocated/)
})

test('admin-passthru and io-passthru', async (t) => {
  const address = `sim:${file('passthru.img')}?size=1M&serial=PASS`
  const identify = await ok(t, `admin-passthru ${address} -o 6 -l 4096 -4 1 -b`)
  t.is(identify.slice(4, 24), 'PASS'.padEnd(20))
  const shown = await ok(t, `admin-passthru ${address} -o 0x0a -4 7 -s`)
  t.regex(shown, /^opcode {3}: 0xa \(Get Features\)\nnsid {5}: 0\ncdw10 {4}: 0x00000007\n/)
  t.regex(shown, /\nGet Features \(admin command\): success, result 0x000f000f\n$/)
  t.regex(await ok(t, `admin-passthru ${address} -o 0x84 -4 2 --dry-run`), /^opcode {3}: 0x84 \(Sanitize\)\n/)
  const block = file('block.bin')
  writeFileSync(block, Buffer.alloc(1024, 'passthru'))
  t.is(
    await ok(t, `io-passthru ${address} -o 1 -l 1024 -4 100 -6 1 -i ${block}`),
    'Write (I/O command): success, result 0x00000000\n',
  )
  const read = await ok(t, `io-passthru ${address} -o 2 -l 512 -4 101 -T`)
  t.regex(
    read,
    /^Read \(I\/O command\): success, result 0x00000000\nlatency: \d+ us\n00000000 {2}70 61 73 73/,
  )
  t.is((await ok(t, `io-passthru ${address} -o 2 -l 512 -4 101 -b`)).slice(0, 4), 'pass')
  await fails(t, 2, `io-passthru ${address} -o 2 -l 4 -4 101 -b`, /Read .* 512 bytes of data, 4 were given/)
  await fails(
    t,
    2,
    `admin-passthru ${address} -o 6 -l 512 -4 1`,
    /Identify .* 4096 bytes of data, 512 were given/,
  )
  await ok(t, `io-passthru ${address} -o 2 -l 1024 -4 100 -6 1 -i ${file('back.bin')}`)
  t.is(statSync(file('back.bin')).size, 1024)
  t.is(
    await ok(t, `io-passthru ${address} -n 0xffffffff -o 0`),
    'Flush (I/O command): success, result 0x00000000\n',
  )
  await fails(t, 1, `admin-passthru ${address} -o 0xff`, /Vendor Specific failed: Invalid Command Opcode/)
  await fails(t, 1, `io-passthru ${address} -o 2 -l 512 -4 5000`, /Read failed: LBA Out of Range/)
  await fails(t, 2, `admin-passthru ${address}`, /required option '-o, --opcode <N>' not specified/)
  await fails(t, 2, `admin-passthru ${address} -o 256`, /256 is not in 0 to 255/)
  await fails(t, 2, `admin-passthru ${address} -o 6 -w -l 4096`, /say that data goes from the device/)
  await fails(t, 2, `io-passthru ${address} -o 1 -r -l 512`, /say that data goes to the device/)
  await fails(t, 2, `io-passthru ${address} -o 2 -r -w`, /data goes one way/)
  await fails(t, 2, `io-passthru ${address} -o 0 -l 512`, /--read or --write says which way the data/)
})

test('what is no software controller of this process asks first; without a terminal --yes is needed', async (t) => {
  const server = await startServer({ device: 'sim:?size=1M&spare=1M' })
  const { address } = server
  const cases: [string, RegExp][] = [
    ['format', /^unvme: Destroy all data by a format to blocks of 512 bytes: namespace 1 of vfio-user:/],
    ['sanitize -a 2', /^unvme: Destroy all data by block erase: every namespace of vfio-user:/],
    ['delete-ns -n 1', /^unvme: Delete with all of its data: namespace 1 of /],
    ['fw-commit -s 1', /^unvme: Activate the firmware in slot 1 of /],
    [
      `fw-download -f ${file('firmware.bin')} -a 0`,
      /^unvme: Replace the firmware in a slot of the device's choice of /,
    ],
    ['write-zeroes -s 8 -c 8', /^unvme: Overwrite with zeroes LBA 8 to 15: namespace 1 of /],
    ['dsm -d -s 1,4 -b 1,2', /^unvme: Deallocate LBA 1, LBA 4 to 5: namespace 1 of /],
    ['admin-passthru -o 0x80', /^unvme: Send admin command 0x80 \(Format NVM\), which may destroy data of /],
    ['io-passthru -o 1 -l 512', /^unvme: Send I\/O command 0x1 \(Write\), which may destroy data of /],
  ]
  for (const [words, question] of cases) {
    const [name, ...rest] = words.split(' ')
    const line = [name, address, ...rest].join(' ')
    await fails(t, 2, line, question)
    await fails(t, 2, line, /, SIM\w+ *\)\? Not asked without a terminal: give --yes \(ERR_UNVME_USAGE\)\n$/)
  }
  t.is(await ok(t, `format ${address} -b 4096 --yes`), 'Success formatting namespace:1\n')
  // What destroys nothing asks nothing.
  t.is(await ok(t, `dsm ${address} -r -s 0 -b 1`), 'NVMe DSM: success, 1 range\n')
  t.is(await ok(t, `create-ns ${address} -s 8`), 'create-ns: Success, created nsid:2\n')
  t.is(await ok(t, `flush ${address}`), 'NVMe Flush: success\n')
  await server.stop()
})

test('what destroys refuses a device that the system uses', async (t) => {
  const machine = new FakeMachine()
  t.teardown(() => machine.remove())
  machine.add('0000:00:04.0', { driver: 'nvme', controller: 0, namespaces: [{ nsid: 1, partitions: 1 }] })
  machine.add('0000:00:05.0', { driver: 'nvme', controller: 1, namespaces: [{ nsid: 1 }] })
  machine.mount('259:1', '/dev/nvme0n1p1', '/srv')
  const error = { code: 'ERR_UNVME_IN_USE', message: /^00:04\.0\/1: nvme0n1p1 is mounted on \/srv$/ }
  await t.throwsAsync(refuseUsed('00:04.0/1', machine), error)
  await t.notThrowsAsync(refuseUsed('00:05.0', machine))
  await t.notThrowsAsync(refuseUsed('sim:', machine))
})
