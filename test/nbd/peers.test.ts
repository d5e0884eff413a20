// The server with other projects' clients, and the client with their servers. Each is a Debian package.

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import fs from 'node:fs'
import type { ExecutionContext } from 'ava'
import { connectNbd } from '../../lib/nbd/client.ts'
import { compare, copy, open, serveNvmeTcp } from '../../src/index.ts'
import { testFolder } from '../support/folder.ts'
import { testWith } from '../support/left-out.ts'
import { startNbd } from '../support/nbd.ts'
import { pattern } from '../support/pattern.ts'
import { runTool } from '../support/tools.ts'

const file = testFolder()
const MIB = 2 ** 20

/** A sparse file: data at both ends, and somewhere between. */
function sparseFile(name: string, bytes: number): string {
  const fd = fs.openSync(file(name), 'w')
  fs.ftruncateSync(fd, bytes)
  for (const [i, at] of [0, 5 * MIB, bytes - 70_000].entries())
    fs.writeSync(fd, pattern(70_000, i + 1), 0, 70_000, at)
  fs.closeSync(fd)
  return file(name)
}

const allocated = (path: string) => fs.statSync(path).blocks * 512

/** A server that is another program, at a Unix socket. */
async function startPeer(
  t: ExecutionContext,
  name: string,
  words: readonly string[],
  path: string,
): Promise<ChildProcess> {
  const child = spawn(name, words, { stdio: 'ignore' })
  t.teardown(async () => {
    if (child.exitCode !== null) return
    child.kill()
    await once(child, 'exit')
  })
  while (!fs.existsSync(path)) {
    if (child.exitCode !== null) throw new Error(`${name} ended with ${child.exitCode}`)
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
  return child
}

const LIBNBD = { nbdinfo: 'libnbd-bin', nbdcopy: 'libnbd-bin' }

testWith('nbdinfo sees the export and its holes', LIBNBD, async (t) => {
  const { uri, ns } = await startNbd(t, `sim:${file('info.img')}?size=64M&lba=4096`)
  await ns.promises.write(pattern(8192, 1), 256)
  const [info] = JSON.parse(await runTool('nbdinfo', ['--json', uri])).exports
  t.like(info, {
    'export-size': 64 * MIB,
    is_read_only: false,
    can_flush: true,
    can_fua: true,
    can_fast_zero: true,
    can_multi_conn: true,
    can_trim: true,
    can_zero: true,
    can_df: true,
    can_cache: true,
    block_size_minimum: 1,
    block_size_preferred: 4096,
  })
  const map = JSON.parse(await runTool('nbdinfo', ['--map', '--json', uri]))
  t.deepEqual(
    map.map(({ offset, length, type }: { offset: number; length: number; type: number }) => [
      offset,
      length,
      type,
    ]),
    [
      [0, MIB, 3],
      [MIB, 8192, 0],
      [MIB + 8192, 63 * MIB - 8192, 3],
    ],
  )
})

testWith('nbdinfo --map: holes of a device that tells them, also over NVMe/TCP', LIBNBD, async (t) => {
  const device = await open('sim:?size=64M&thread=1')
  const target = await serveNvmeTcp([device], { nqn: 'nqn.2024-01.org.example:map', listen: '127.0.0.1:0' })
  // After the server of NBD.
  t.teardown(async () => {
    await target.close()
    await device.close()
  })
  const remote = `nvme+tcp://127.0.0.1:${target.listeners[0]!.port}/${target.nqn}`
  const { uri, ns } = await startNbd(t, remote)
  await ns.promises.write(pattern(65536, 1), 2048)
  await ns.promises.write(pattern(65536, 2), 8192)
  await ns.promises.deallocate([{ slba: 2048, nlb: 128 }])
  const map: { offset: number; length: number; description: string }[] = JSON.parse(
    await runTool('nbdinfo', ['--map', '--json', uri]),
  )
  t.deepEqual(
    map.map(({ offset, length, description }) => [offset, length, description]),
    [
      [0, 4 * MIB, 'hole,zero'],
      [4 * MIB, 65536, 'data'],
      [4 * MIB + 65536, 60 * MIB - 65536, 'hole,zero'],
    ],
  )
})

testWith('nbdcopy copies both ways, and leaves holes', LIBNBD, async (t) => {
  const { uri } = await startNbd(t, `sim:${file('copy.img')}?size=64M`)
  const source = sparseFile('copy-source', 64 * MIB)
  await runTool('nbdcopy', ['--flush', source, uri])
  t.true(allocated(file('copy.img')) < MIB)
  await runTool('nbdcopy', ['--synchronous', uri, file('copy-back')])
  t.true(fs.readFileSync(source).equals(fs.readFileSync(file('copy-back'))))
  t.true(allocated(file('copy-back')) < MIB)
})

const QEMU = { 'qemu-img': 'qemu-utils', 'qemu-io': 'qemu-utils' }

testWith('qemu-img converts, compares and benches', QEMU, async (t) => {
  const { uri } = await startNbd(t, `sim:${file('convert.img')}?size=64M`)
  const source = sparseFile('convert-source', 64 * MIB)
  await runTool('qemu-img', ['convert', '-n', '-f', 'raw', '-O', 'raw', source, uri])
  t.regex(await runTool('qemu-img', ['compare', '-f', 'raw', '-F', 'raw', source, uri]), /identical/)
  t.true(allocated(file('convert.img')) < MIB)
  const bench = await runTool('qemu-img', ['bench', '-f', 'raw', '-c', '2000', '-d', '32', uri])
  t.regex(bench, /Run completed/)
  await runTool('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', uri, file('convert.qcow2')])
  t.regex(await runTool('qemu-img', ['compare', '-F', 'raw', file('convert.qcow2'), source]), /identical/)
})

testWith('qemu-io writes with FUA, clears and discards any bytes', QEMU, async (t) => {
  const { uri, server, ns } = await startNbd(t, 'sim:?size=16M&lba=4096')
  const commands = [
    'write -P 1 0 1M',
    'write -f -P 2 100 5000',
    'write -z 64k 64k',
    'write -z -u 1000 70',
    'discard 128k 64k',
    'flush',
    'read -P 2 1070 4030',
    'read -P 0 1000 70',
    'read -P 2 100 900',
    'read -P 1 5100 2000',
    'read -P 0 64k 64k',
    'read -P 1 192k 64k',
    'aio_write -P 9 4M 3M',
    'aio_write -P 8 8M 1M',
    'aio_flush',
    'read -P 9 4M 3M',
    'read -P 8 8M 1M',
  ]
  const said = await runTool('qemu-io', ['-f', 'raw', ...commands.flatMap((command) => ['-c', command]), uri])
  t.notRegex(said, /failed|error/i)
  t.true(server.stats.unaligned > 0)
  const block = await ns.promises.read(Buffer.alloc(4096), 0)
  t.deepEqual([block[99], block[100], block[999], block[1000], block[1069], block[1070]], [1, 2, 2, 0, 0, 2])
})

testWith('fio verifies what it wrote, in blocks of any size', { fio: 'fio' }, async (t) => {
  const { path, uri } = await startNbd(t, 'sim:?size=16M')
  const engines = await runTool('fio', ['--enghelp'])
  t.regex(engines, /\bnbd\b/)
  const said = await runTool('fio', [
    ...['--name=x', '--ioengine=nbd', `--uri=${uri}`, '--rw=randrw', '--bsrange=512-65536', '--bs_unaligned'],
    ...[
      '--iodepth=16',
      '--size=16M',
      '--verify=crc32c',
      '--verify_state_save=0',
      '--output-format=json',
      `--output=${path}.json`,
    ],
  ])
  const [job] = JSON.parse(fs.readFileSync(`${path}.json`, 'utf8')).jobs
  t.is(job.error, 0, said)
  t.true(job.read.total_ios > 0)
  fs.rmSync(`${path}.json`)
})

testWith('nbdkit is a proxy of it', { nbdkit: 'nbdkit', 'qemu-io': 'qemu-utils' }, async (t) => {
  const { path } = await startNbd(t, `sim:${file('proxied.img')}?size=16M`)
  const proxy = file('proxy')
  await startPeer(t, 'nbdkit', ['-f', '-U', proxy, 'nbd', `socket=${path}`, 'shared=1'], proxy)
  const uri = `nbd+unix:///?socket=${proxy}`
  const said = await runTool('qemu-io', [
    '-f',
    'raw',
    '-c',
    'write -P 3 1M 1M',
    '-c',
    'flush',
    '-c',
    'read -P 3 1M 1M',
    uri,
  ])
  t.notRegex(said, /failed|error/i)
  // Through both: our client, their proxy, our server.
  t.is((await copy(uri, file('through'))).bytes, 16 * MIB)
  t.true(fs.readFileSync(file('through')).equals(fs.readFileSync(file('proxied.img'))))
})

testWith(
  'copy takes a qcow2 image from qemu-nbd to a device, and compare finds the difference',
  { ...QEMU, 'qemu-nbd': 'qemu-utils' },
  async (t) => {
    const source = sparseFile('qcow-source', 16 * MIB)
    await runTool('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', '-c', source, file('disk.qcow2')])
    const socket = file('qemu-nbd')
    await startPeer(
      t,
      'qemu-nbd',
      ['-r', '-t', '-e', '4', '-f', 'qcow2', '-k', socket, file('disk.qcow2')],
      socket,
    )
    const uri = `nbd+unix:///?socket=${socket}`
    const ns = await open('sim:?size=32M')
    t.is((await copy(uri, ns)).bytes, 16 * MIB)
    t.is((await compare(uri, ns, { bytes: 16 * MIB })).difference, null)
    await ns.promises.write(Buffer.alloc(512, 1), 4096)
    t.is((await compare(uri, ns, { bytes: 16 * MIB })).difference?.offset, 2 * MIB)
    t.is((await compare(source, uri)).difference, null)
    const client = await connectNbd(uri)
    t.true(client.readOnly && client.tellsExtents)
    const extents = await client.extents(0, 16 * MIB)
    t.true(extents.some(({ zero }) => zero) && extents.some(({ zero }) => !zero))
    t.is(
      extents.reduce((sum, { bytes }) => sum + bytes, 0),
      16 * MIB,
    )
    await t.throwsAsync(copy(ns, uri, { bytes: 512 }), {
      code: 'ERR_UNVME_UNSUPPORTED',
      message: /read-only/,
    })
    await client.close()
    await ns.close()
  },
)

testWith(
  'copy writes to nbdkit, whatever blocks that takes, and says what it refuses',
  { nbdkit: 'nbdkit' },
  async (t) => {
    const socket = file('blocks')
    const disk = file('blocks.img')
    fs.writeFileSync(disk, pattern(4 * MIB, 7))
    const filters = ['--filter=blocksize-policy', '--filter=error']
    const policy = [
      'blocksize-minimum=4096',
      'blocksize-preferred=4096',
      'blocksize-maximum=131072',
      'blocksize-error-policy=error',
    ]
    const faults = ['error=ENOSPC', 'error-pwrite-rate=100%', `error-file=${file('inject')}`]
    await startPeer(t, 'nbdkit', ['-f', '-U', socket, ...filters, 'file', disk, ...policy, ...faults], socket)
    const uri = `nbd+unix:///?socket=${socket}`
    const data = pattern(300_001, 8)
    fs.writeFileSync(file('blocks-source'), data)
    t.is((await copy(file('blocks-source'), uri)).bytes, data.length)
    t.true(fs.readFileSync(disk).equals(Buffer.concat([data, pattern(4 * MIB, 7).subarray(data.length)])))
    const client = await connectNbd(uri)
    t.like(client, { least: 4096, most: 131_072 })
    await client.close()
    fs.writeFileSync(file('inject'), '')
    await t.throwsAsync(copy(file('blocks-source'), uri), {
      code: 'ERR_UNVME_NBD',
      message: /write at .* error 28/,
    })
  },
)
