// Runs in the virtual machine: devices of the kernel's own driver, by io_uring and by ioctl. The device suite on them:
// kernel-suite.test.ts; the same values as nvme-cli's: nvme-cli-kernel.test.ts.

import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import fs from 'node:fs'
import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { commands } from '../../src/cli/commands/index.ts'
import { run } from '../../src/cli/run.ts'
import { copy, open, openController } from '../../src/index.ts'
import { check, runChecks } from './checks.ts'

const MAIN = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url))
const INDEX = new URL('../../src/index.js', import.meta.url).href
const BUSYBOX = '/run/unvme-vm/bin/busybox'
const BLOCKS = 8

function unvme(...words: string[]) {
  return spawnSync(process.execPath, [MAIN, ...words], { encoding: 'utf8', input: '' })
}

function must(command: string, ...words: string[]): void {
  const { status, error, stderr } = spawnSync(command, words, { encoding: 'utf8' })
  assert.equal(status, 0, `${command} ${words.join(' ')}: ${error?.message ?? stderr}`)
}

/** Its devices, by the kernel's names; on the host, which imports this for the checks' names, there are none. */
function devicesAt(pci: string) {
  const folder = `/sys/bus/pci/devices/0000:${pci}/nvme`
  const name = process.env.UNVME_VM === undefined ? 'nvme0' : fs.readdirSync(folder)[0]!
  return {
    controller: `/dev/${name}`,
    block: `/dev/${name}n1`,
    generic: `/dev/${name.replace('nvme', 'ng')}n1`,
  }
}

const free = devicesAt('00:05.0')
const used = devicesAt('00:04.0')

/** What a program prints that runs as a process of its own; `program` has `open` and `address`. */
async function runProgram(program: string, address: string, words: readonly string[] = [process.execPath]) {
  const text = `import { open, openController } from '${INDEX}'\nconst address = '${address}'\n${program}`
  const [command, ...rest] = [...words, '--input-type=module', '-e', text]
  const child = spawn(command!, rest, { stdio: ['ignore', 'pipe', 'pipe'] })
  let stdout = ''
  let stderr = ''
  child.stdout.on('data', (data) => {
    stdout += data
  })
  child.stderr.on('data', (data) => {
    stderr += data
  })
  const [code, signal] = await once(child, 'close')
  return { code, signal, stdout, stderr }
}

check('open: block device, character device and controller are one device, opened once', async () => {
  await using ns = await open(free.block)
  await using other = await open(free.generic)
  await using handle = await openController(free.controller)
  assert.equal(ns.id, 1)
  assert.equal(other.controller, ns.controller)
  assert.equal(handle.controller, ns.controller)
  assert.equal(ns.controller.transport.kind, 'kernel')
  assert.match(ns.controller.transport.how ?? '', /^io_uring/)
  const link = '/run/disk-by-another-name'
  fs.symlinkSync(free.block, link)
  assert.equal(fs.realpathSync(link), free.block)
})

check('open: what is no whole namespace is refused, and says what is', async () => {
  await assert.rejects(open('/dev/nvme9n1'), {
    code: 'ERR_UNVME_ADDRESS',
    message: /there is no such device/,
  })
  await assert.rejects(open(`${free.generic}?nsid=2`), {
    code: 'ERR_UNVME_ADDRESS',
    message: /is namespace 1/,
  })
  await assert.rejects(open(`${free.controller}?nsid=9`), {
    code: 'ERR_UNVME_ADDRESS',
    message: /no active namespace 9/,
  })
  await using handle = await openController(free.controller)
  assert.throws(() => handle.controller.transport.readProperty(0), {
    code: 'ERR_UNVME_UNSUPPORTED',
    message: /registers are the kernel/,
  })
})

check('a transfer beyond what the kernel takes in one command is split', async () => {
  await using ns = await open(free.block)
  const most = ns.maxbpio * ns.blocksize
  const limit = Number(
    fs.readFileSync(`/sys/class/block/${path.basename(free.block)}/queue/max_hw_sectors_kb`),
  )
  assert.ok(most <= limit * 1024)
  const data = Buffer.alloc(4 * most + ns.blocksize, 0)
  for (let i = 0; i < data.length; i += 4) data.writeUInt32LE(i, i)
  await ns.promises.write(data, 1)
  const back = await ns.promises.read(Buffer.alloc(data.length), 1)
  assert.ok(back.equals(data))
  const buf = ns.alloc(data.length)
  ns.read(0, buf, 1, data.length / ns.blocksize)
  assert.ok(buf.equals(data))
})

check('what the kernel reads and what this driver writes is the same', async () => {
  const data = Buffer.alloc(1 << 20, 0x5a)
  {
    await using ns = await open(free.block)
    await ns.promises.write(data, 0)
    await ns.promises.flush()
  }
  must(BUSYBOX, 'sh', '-c', 'echo 3 >/proc/sys/vm/drop_caches')
  const fd = fs.openSync(free.block, 'r')
  const back = Buffer.alloc(data.length)
  fs.readSync(fd, back, 0, back.length, 0)
  fs.closeSync(fd)
  assert.ok(back.equals(data))
})

/** What a command prints that succeeds, run in this process: starting another one takes seconds in here. */
async function succeeds(...words: string[]): Promise<string> {
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
  assert.equal(process.exitCode ?? 0, 0, `unvme ${words.join(' ')}: ${printed}`)
  return printed
}

check('read, write, copy, verify, bench, info and list work by a path below /dev', async () => {
  fs.writeFileSync('/run/source', Buffer.alloc(1 << 16, 0xc3))
  const steps = [
    ['write', free.block, '/run/source', '--yes'],
    ['read', free.generic, '/run/back', '--bytes', '65536'],
    ['verify', '/run/source', free.generic, '--bytes', '65536'],
    ['copy', free.generic, 'sim:?size=1M', '--bytes', '65536'],
    ['bench', free.generic, '--rw', 'randread', '--bs', '4k', '--iodepth', '8', '--runtime', '1'],
    ['bench', free.generic, '--rw', 'randread', '--numjobs', '2', '--runtime', '1'],
    ['id-ctrl', free.controller],
    ['smart-log', free.controller],
    ['reset', free.controller],
  ]
  for (const words of steps) {
    if (words[0] !== 'bench') await succeeds(...words)
    else assert.equal(unvme(...words).status, 0, words.join(' '))
  }
  assert.ok(fs.readFileSync('/run/back').equals(fs.readFileSync('/run/source')))
  assert.match(await succeeds('info', free.block), /transport +: kernel, io_uring/)
  assert.match(
    await succeeds('info', `${free.block}?io=ioctl`),
    /transport +: kernel, ioctl \(as asked for\)/,
  )
  assert.match(await succeeds('list'), new RegExp(`0000:00:05\\.0/1 .* ${free.block} `))
})

check('one system call for a batch of commands, and none while waiting for it', async () => {
  const batches = 40
  const depth = 32
  const program = `
    const ns = await open(address, { qsize: 64, interrupts: false })
    const bufs = Array.from({ length: ${depth} }, () => ns.alloc(4096))
    const read = () => {
      const descriptors = bufs.map((buf, i) => ns.aread(0, buf, i * ${BLOCKS}, 1))
      for (const descriptor of descriptors) if (!ns.apoll(descriptor, 5000)) throw new Error('late')
    }
    for (let i = 0; i < 5; i++) read()
    process.stdout.write(process.pid + '\\n')
    process.kill(process.pid, 'SIGSTOP')
    for (let i = 0; i < ${batches}; i++) read()
    process.kill(process.pid, 'SIGKILL')`
  const text = `import { open } from '${INDEX}'\nconst address = '${free.generic}'\n${program}`
  const child = spawn(process.execPath, ['--input-type=module', '-e', text], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const [line] = await once(child.stdout, 'data')
  const pid = Number(String(line))
  await delay(200)
  const trace = spawn('strace', ['-f', '-c', '-o', '/run/calls', '-p', String(pid)], { stdio: 'ignore' })
  const ended = once(trace, 'close')
  await delay(1000)
  process.kill(pid, 'SIGCONT')
  await ended
  const lines = fs.readFileSync('/run/calls', 'utf8').split('\n')
  const calls = Number(
    lines
      .find((one) => one.endsWith('io_uring_enter'))
      ?.trim()
      .split(/\s+/)[3],
  )
  assert.ok(calls >= batches, `${calls} calls`)
  // One for what is sent. What comes while none is sent may ask for one more, which is seldom.
  assert.ok(calls <= 1.25 * batches, `${calls} calls of io_uring_enter for ${batches} batches of ${depth}`)
})

check('1000 times open and close leave nothing behind', async () => {
  const holdings = () => ({
    files: fs.readdirSync('/proc/self/fd').length,
    maps: fs.readFileSync('/proc/self/maps', 'utf8').split('\n').length,
  })
  const cycle = async () => {
    const ns = await open(free.block)
    const buf = ns.alloc(4096)
    await ns.promises.read(buf, 0)
    await ns.close()
  }
  const settle = async () => {
    for (let i = 0; i < 5; i++) {
      globalThis.gc?.()
      await delay(20)
    }
  }
  for (let i = 0; i < 50; i++) await cycle()
  await settle()
  const before = holdings()
  const cycles = 1000
  for (let i = 0; i < cycles; i++) await cycle()
  await settle()
  const after = holdings()
  assert.ok(after.files <= before.files, `${after.files} descriptors, before ${before.files}`)
  // One that a cycle leaves would be there a thousand times; V8's heap has some dozens more or less.
  assert.ok(after.maps <= before.maps + cycles / 10, `${after.maps} mappings, before ${before.maps}`)
})

check('a namespace that is mounted is read, and not written unless forced', async () => {
  must(BUSYBOX, 'mke2fs', '-b', '4096', used.block)
  for (const module of ['crc32c_generic', 'ext4']) must(BUSYBOX, 'modprobe', module)
  must(BUSYBOX, 'mount', '-t', 'ext2', '-o', 'ro', used.block, '/mnt')
  try {
    const inUse = { code: 'ERR_UNVME_IN_USE', message: /is mounted on \/mnt/ }
    await using ns = await open(used.block)
    const before = await ns.promises.read(Buffer.alloc(1 << 16), 0)
    const buf = ns.alloc(4096)
    await assert.rejects(ns.promises.write(Buffer.alloc(4096), 0), inUse)
    await assert.rejects(ns.promises.writeZeroes(0, 8), inUse)
    await assert.rejects(ns.promises.deallocate([{ slba: 0, nlb: 8 }]), inUse)
    assert.throws(() => ns.write(0, buf, 0, 8), inUse)
    await assert.rejects(ns.promises.cmd({ opcode: 1, buf, cdw10: 0, cdw12: 7 }), inUse)
    await assert.rejects(copy('sim:?size=1M', ns), inUse)
    await assert.rejects(ns.controller.admin({ opcode: 0x80, nsid: 1 }), inUse)
    await assert.rejects(ns.controller.admin({ opcode: 0x84, nsid: 0, cdw10: 2 }), inUse)
    assert.ok((await ns.promises.read(Buffer.alloc(1 << 16), 0)).equals(before))
    for (const words of [
      ['write', used.block, '/run/source', '--yes'],
      ['format', used.controller, '--yes'],
    ]) {
      const { status, stderr } = unvme(...words)
      assert.equal(status, 1, words.join(' '))
      assert.match(stderr, /is mounted on \/mnt .*ERR_UNVME_IN_USE/s, words.join(' '))
    }
    assert.ok((await ns.promises.read(Buffer.alloc(1 << 16), 0)).equals(before))
  } finally {
    must(BUSYBOX, 'umount', '/mnt')
  }
  must(BUSYBOX, 'mount', '-t', 'ext2', '-o', 'ro', used.block, '/mnt')
  const forced = unvme('write', used.block, '/run/source', '--yes', '--force')
  must(BUSYBOX, 'umount', '/mnt')
  assert.equal(forced.status, 0, forced.stderr)
})

check('a namespace that was written is held: it is not mounted under the writer', async () => {
  const ns = await open(used.block)
  must(BUSYBOX, 'mke2fs', '-b', '4096', used.block)
  await ns.promises.write(await ns.promises.read(Buffer.alloc(4096), 0), 0)
  const mount = () => spawnSync(BUSYBOX, ['mount', '-t', 'ext2', '-o', 'ro', used.block, '/mnt']).status
  assert.notEqual(mount(), 0)
  await ns.close()
  assert.equal(mount(), 0)
  must(BUSYBOX, 'umount', '/mnt')
})

check('format by the kernel: its block device has the new block size at once', async () => {
  const blockBytes = () =>
    Number(fs.readFileSync(`/sys/class/block/${path.basename(used.block)}/queue/logical_block_size`))
  assert.equal(blockBytes(), 512)
  await succeeds('format', used.controller, '-b', '4096', '--yes')
  assert.equal(blockBytes(), 4096)
  await using ns = await open(used.block)
  assert.equal(ns.blocksize, 4096)
  await ns.close()
  await succeeds('format', used.controller, '-b', '512', '--yes')
  assert.equal(blockBytes(), 512)
})

check('a reset by the kernel, under load: streams go on, and what they read is right', async () => {
  await using ns = await open(free.block, { qsize: 64 })
  const bytes = 16 << 20
  const data = Buffer.alloc(bytes)
  for (let i = 0; i < bytes; i += 4) data.writeUInt32LE(i * 7, i)
  await ns.promises.write(data, 0)
  let at = 0
  let resets = 0
  for await (const chunk of ns.blocks({ slba: 0, nlb: bytes / ns.blocksize })) {
    assert.ok(Buffer.from(chunk.data ?? chunk).equals(data.subarray(at, at + (chunk.data ?? chunk).length)))
    at += (chunk.data ?? chunk).length
    if (at > (resets + 1) * (4 << 20) && resets < 3) {
      resets++
      fs.writeFileSync(`/sys/class/nvme/${path.basename(free.controller)}/reset_controller`, '1')
    }
  }
  assert.equal(at, bytes)
  assert.equal(resets, 3)
  await assert.doesNotReject(ns.promises.flush())
})

check('kill -9 with a full ring leaves the device usable', async () => {
  const program = `
    const ns = await open(address, { qsize: 256 })
    const bufs = Array.from({ length: 255 }, () => ns.alloc(65536))
    const go = () => { for (const [i, buf] of bufs.entries()) ns.promises.read(buf, i * 16).catch(() => {}) }
    for (;;) { go(); process.stdout.write('.'); await new Promise(setImmediate) }`
  for (let round = 0; round < 3; round++) {
    const text = `import { open } from '${INDEX}'\nconst address = '${free.generic}'\n${program}`
    const child = spawn(process.execPath, ['--input-type=module', '-e', text], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    await once(child.stdout, 'data')
    await delay(100)
    child.kill('SIGKILL')
    await once(child, 'exit')
    await using ns = await open(free.block)
    await ns.promises.read(Buffer.alloc(1 << 20), 0)
  }
})

check('a user without CAP_SYS_ADMIN is told what is needed; with it, the files are enough', async () => {
  for (const file of Object.values(free)) fs.chownSync(file, 65534, 65534)
  const nobody = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups']
  const program = `
    const ns = await open(address).catch((error) => { console.log(error.code, error.message); process.exit(3) })
    const back = await ns.promises.read(Buffer.alloc(4096), 0)
    await ns.promises.write(back, 0)
    await ns.close()
    console.log('done')`
  const refused = await runProgram(program, free.block, [
    ...nobody,
    '--bounding-set=-all',
    '--inh-caps=-all',
    process.execPath,
  ])
  assert.equal(refused.code, 3, refused.stderr)
  assert.match(refused.stdout, /^ERR_UNVME_SETUP .*CAP_SYS_ADMIN.*unvme setup/)
  const caps = ['--inh-caps=+sys_admin', '--ambient-caps=+sys_admin']
  const allowed = await runProgram(program, free.block, [...nobody, ...caps, process.execPath])
  assert.equal(allowed.stdout, 'done\n', allowed.stderr)
  const closed = await runProgram(program, used.block, [...nobody, process.execPath])
  assert.equal(closed.code, 3)
  assert.match(closed.stdout, /^ERR_UNVME_SETUP no rights for \/dev\/nvme/)
  for (const file of Object.values(free)) fs.chownSync(file, 0, 0)
})

check('where io_uring is refused commands go by ioctl, and it says why', async () => {
  // A filter of system calls, as containers have: io_uring_setup (425) is EPERM.
  const program = `
    const { createRequire } = await import('node:module')
    const koffi = createRequire('${INDEX}')('koffi')
    const libc = koffi.load('libc.so.6')
    const prctl = libc.func('int prctl(int option, uintptr_t a, uintptr_t b, uintptr_t c, uintptr_t d)')
    const op = (code, jt, jf, k) => { const b = Buffer.alloc(8); b.writeUInt16LE(code); b[2] = jt; b[3] = jf; b.writeUInt32LE(k, 4); return b }
    const filter = Buffer.concat([op(0x20, 0, 0, 0), op(0x15, 0, 1, 425), op(0x06, 0, 0, 0x00050001), op(0x06, 0, 0, 0x7fff0000), Buffer.alloc(64)])
    const header = Buffer.alloc(128)
    header.writeUInt16LE(4)
    header.writeBigUInt64LE(BigInt(koffi.address(filter)), 8)
    if (prctl(38, 1, 0, 0, 0) !== 0 || prctl(22, 2, koffi.address(header), 0, 0) !== 0) throw new Error('prctl')
    const ns = await open(address)
    const data = Buffer.alloc(1 << 16, 0x77)
    await ns.promises.write(data, 0)
    const back = await ns.promises.read(Buffer.alloc(1 << 16), 0)
    console.log(ns.controller.transport.how, back.equals(data))
    await ns.close()`
  const { stdout, stderr } = await runProgram(program, free.block)
  assert.match(stdout, /^ioctl \(no io_uring: the system refuses io_uring .*EPERM\)\) true$/m, stderr)
})

check('submission-queue polling: commands without a system call each', async () => {
  await using ns = await open(`${free.generic}?sqpoll=1`)
  assert.match(ns.controller.transport.how ?? '', /polled by the kernel/)
  const data = Buffer.alloc(1 << 20, 0x21)
  await ns.promises.write(data, 64)
  assert.ok((await ns.promises.read(Buffer.alloc(1 << 20), 64)).equals(data))
})

await runChecks()
