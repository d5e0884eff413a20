// What VFIO must show on a real kernel with an emulated IOMMU; run in the machine by vfio.test.ts, and by
// iommufd.test.ts, which says by UNVME_TEST_IOMMUFD which of the kernel's two interfaces is meant.

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import fs from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { type DmaArena, mapView, retireView, viewOf } from '../../lib/memory/mapping.ts'
import { readPciCommand, readPciFacts, readPciMemory } from '../../lib/pci/sysfs.ts'
import { openVfio as openWith, type VfioFunction } from '../../lib/vfio/index.ts'
import { startAdminRing } from './admin-ring.ts'
import { check, readHoldings, runChecks } from './checks.ts'

const ADDRESS = '00:04.0'
const NAME = `0000:${ADDRESS}`
const GROUP = ['0000:00:0d.0', '0000:00:0d.1'] as const
const ALL_ONES = 0xffff_ffff
const MiB = 2 ** 20

const iommufd = process.env.UNVME_TEST_IOMMUFD === 'always' ? 'always' : 'never'
const openVfio = (name: string) => openWith(name, { iommufd })

async function withFunction(
  run: (pci: VfioFunction) => void | Promise<void>,
  address = ADDRESS,
): Promise<void> {
  const pci = await openVfio(address)
  try {
    await run(pci)
  } finally {
    await pci.close()
  }
}

/** Runs a program of this folder in another process, with sh's commands before it. */
function runProgram(code: string, before = ''): { status: number | null; stdout: string; stderr: string } {
  const index = fileURLToPath(new URL('../../lib/vfio/index.js', import.meta.url))
  const program = `const { openVfio: openWith } = await import('${index}');
    const openVfio = (name) => openWith(name, { iommufd: '${iommufd}' }); ${code}`
  const script = `${before} "$0" --input-type=module -e "$1"`
  return spawnSync('sh', ['-c', script, process.execPath, program], { encoding: 'utf8' })
}

const bind = (name: string, driver: string) => {
  const device = `/sys/bus/pci/devices/${name}`
  if (fs.existsSync(`${device}/driver`)) fs.writeFileSync(`${device}/driver/unbind`, name)
  fs.writeFileSync(`${device}/driver_override`, driver)
  fs.writeFileSync('/sys/bus/pci/drivers_probe', name)
  assert.equal(readPciFacts(name).driver, driver)
}

check('a function opens: registers, doorbells, command register', () =>
  withFunction((pci) => {
    assert.equal(pci.address, NAME)
    assert.equal(pci.transport, 'vfio')
    assert.equal(pci.iommu, iommufd === 'always' ? 'iommufd' : 'type1')
    assert.equal(pci.vectors, 65)
    // CAP: MQES 2048, as QEMU's controller has it, and the NVM command set.
    assert.equal((pci.readRegister(0) & 0xffff) + 1, 2048)
    assert.equal((pci.readRegister(4) >>> 5) & 1, 1)
    assert.equal(pci.readRegister(8), 0x0001_0400)
    // BAR 0 has 16 KiB.
    assert.equal(pci.doorbells.length, (0x4000 - 0x1000) / 4)
    assert.deepEqual(readPciCommand(NAME), { memory: true, busMaster: true, intxDisabled: true })
    assert.throws(() => pci.readRegister(0x4000), { code: 'ERR_OUT_OF_RANGE' })
    assert.throws(() => pci.readRegister(2), { code: 'ERR_OUT_OF_RANGE' })
  }),
)

check('the command register is as before after close, and again after quiesce', async () => {
  assert.equal(readPciCommand(NAME).busMaster, false)
  await withFunction((pci) => {
    pci.quiesce()
    assert.equal(readPciCommand(NAME).busMaster, false)
  })
})

check('Identify by a hand-written admin queue', () =>
  withFunction((pci) => {
    const ring = startAdminRing(pci)
    // More commands than the ring has entries.
    for (let i = 0; i < 40; i++) {
      ring.bytes.fill(0, 8192, 12288)
      ring.identify(ring.arena.iova + 8192)
      assert.equal(ring.bytes.toString('latin1', 8192 + 24, 8192 + 38), 'QEMU NVMe Ctrl')
      assert.equal(ring.bytes.toString('latin1', 8192 + 4, 8192 + 10), 'lba512')
    }
    ring.disable()
  }),
)

check('arenas: aligned, apart, within what the IOMMU allows, and their addresses are used again', () =>
  withFunction((pci) => {
    const arenas = [4096, 8 * MiB, 12288, 2 * MiB].map((bytes) => pci.mapDma(bytes))
    for (const { iova, bytes } of arenas) {
      assert.equal(iova % (bytes >= 2 * MiB ? 2 * MiB : 4096), 0)
      assert.ok(iova + bytes <= 2 ** 39)
      assert.ok(iova + bytes <= 0xfee0_0000 || iova >= 0xfef0_0000)
      for (const other of arenas) {
        assert.ok(other.iova === iova || other.iova + other.bytes <= iova || iova + bytes <= other.iova)
      }
    }
    const [, large] = arenas as [DmaArena, DmaArena]
    pci.unmapDma(large)
    assert.equal(pci.mapDma(8 * MiB).iova, large.iova)
    assert.throws(() => pci.mapDma(100), { code: 'ERR_OUT_OF_RANGE' })
  }),
)

check('no arena lies where a BAR or a bridge window is, which QEMU would take for its own', () =>
  withFunction((pci) => {
    const windows = readPciMemory()
    assert.ok(
      windows.some(({ first }) => first >= 2 ** 32),
      'BARs where IOVAs are handed out from',
    )
    const arenas = Array.from({ length: 8 }, () => pci.mapDma(8 * MiB))
    for (const { iova, bytes } of arenas) {
      assert.ok(windows.every(({ first, last }) => last < iova || first >= iova + bytes))
    }
  }),
)

check('arenas are transparent huge pages, which the system by default keeps from shared memory', async () => {
  const setting = '/sys/kernel/mm/transparent_hugepage/shmem_enabled'
  assert.match(fs.readFileSync(setting, 'utf8'), /\[never\]/)
  const hugeKib = () =>
    Number(/^ShmemHugePages:\s+(\d+)/m.exec(fs.readFileSync('/proc/meminfo', 'utf8'))?.[1])
  const before = hugeKib()
  await withFunction((pci) => {
    const ring = startAdminRing(pci, 4 * MiB)
    assert.equal(hugeKib() - before, 4096)
    // Buffers in the middle of a huge page, as a pool cuts them.
    const view = mapView(ring.arena.fd, 2 * MiB + 4096, 8192)
    ring.identify(ring.arena.iova + 2 * MiB + 4096)
    assert.equal(Buffer.from(view.buffer).toString('latin1', 24, 28), 'QEMU')
    retireView(view)
    ring.disable()
  })
  assert.equal(hugeKib(), before)
})

check('a transfer outside of every mapping reaches no memory, and is reported as a fault', () =>
  withFunction((pci) => {
    const ring = startAdminRing(pci, 4 * MiB)
    const gone = pci.mapDma(2 * MiB)
    // A view of its own keeps the memory, though the device's mapping goes.
    const view = mapView(gone.fd, 0, 2 * MiB)
    const memory = Buffer.from(view.buffer).fill(0xa5)
    ring.bytes.fill(0xa5, 8192)
    pci.unmapDma(gone)
    const faults = countFaults()
    for (const iova of [gone.iova, gone.iova + 4096, ring.arena.iova + 4 * MiB, 0x1000_0000]) {
      try {
        ring.identify(iova)
      } catch {
        // QEMU's controller reports success, a real one a Data Transfer Error.
      }
    }
    assert.ok(memory.equals(Buffer.alloc(memory.length, 0xa5)))
    const others = ring.bytes.subarray(8192)
    assert.ok(others.equals(Buffer.alloc(others.length, 0xa5)))
    assert.ok(countFaults() > faults, 'the kernel logged DMAR faults')
    retireView(view)
    ring.disable()
  }),
)

const countFaults = () => {
  const fd = fs.openSync('/dev/kmsg', fs.constants.O_RDONLY | fs.constants.O_NONBLOCK)
  const line = Buffer.alloc(8192)
  let count = 0
  try {
    for (;;) count += /DMAR:.*fault/i.test(line.toString('latin1', 0, fs.readSync(fd, line))) ? 1 : 0
  } catch {
    return count
  } finally {
    fs.closeSync(fd)
  }
}

check('an MSI-X interrupt wakes an armed vector, and only that', () =>
  withFunction(async (pci) => {
    const fired: number[] = []
    pci.enableInterrupts(3, (vector) => fired.push(vector))
    const ring = startAdminRing(pci)
    const data = ring.arena.iova + 8192
    ring.identify(data)
    await delay(20)
    assert.deepEqual(fired, [], 'nobody waits')
    // The one that came before is forgotten when armed.
    pci.arm(0)
    pci.arm(2)
    await delay(20)
    assert.deepEqual(fired, [])
    for (let i = 1; i <= 3; i++) {
      ring.post(data)
      for (let waited = 0; fired.length < i && waited < 200; waited++) await delay(5)
      assert.deepEqual(fired, Array(i).fill(0))
      assert.ok(ring.reap(), 'the completion is there when the handler runs')
    }
    pci.disarm(0)
    ring.identify(data)
    await delay(20)
    assert.equal(fired.length, 3)
    assert.throws(() => pci.enableInterrupts(66, () => {}), { code: 'ERR_OUT_OF_RANGE' })
    ring.disable()
  }),
)

check('a function reset: registers as after power on, mappings and interrupts stay', () =>
  withFunction(async (pci) => {
    let fired = 0
    pci.enableInterrupts(1, () => fired++)
    const before = startAdminRing(pci)
    before.identify(before.arena.iova + 8192)
    const resetting = pci.reset()
    assert.equal(pci.readRegister(0x1c), ALL_ONES, 'nothing touches the device meanwhile')
    pci.doorbells[0] = 5
    await assert.rejects(pci.reset(), { code: 'ERR_UNVME_CLOSED' })
    await resetting
    assert.equal(pci.readRegister(0x14), 0, 'CC')
    assert.deepEqual(readPciCommand(NAME), { memory: true, busMaster: true, intxDisabled: true })
    const after = startAdminRing(pci)
    pci.arm(0)
    after.post(before.arena.iova + 8192)
    for (let waited = 0; fired === 0 && waited < 200; waited++) await delay(5)
    assert.equal(fired, 1)
    assert.ok(after.reap())
    assert.equal(before.bytes.toString('latin1', 8192 + 24, 8192 + 28), 'QEMU')
    after.disable()
  }),
)

check('what is left of a closed function is harmless', async () => {
  const pci = await openVfio(ADDRESS)
  const { doorbells } = pci
  const arena = pci.mapDma(2 * MiB)
  await Promise.all([pci.close(), pci.close()])
  await pci.close()
  assert.equal(pci.readRegister(0x1c), ALL_ONES)
  pci.writeRegister(0x14, 1)
  doorbells[0] = 1
  assert.ok(doorbells[1] === ALL_ONES || doorbells.length === 0)
  assert.throws(() => pci.mapDma(4096), { code: 'ERR_UNVME_CLOSED' })
  await assert.rejects(pci.reset(), { code: 'ERR_UNVME_CLOSED' })
  pci.unmapDma(arena)
  pci.quiesce()
  pci.arm(0)
  assert.equal(pci.checkRemoved(), true)
})

check('a second open here and in another process: one sentence that says who has it', async () => {
  await withFunction(async () => {
    await assert.rejects(openVfio(NAME), {
      code: 'ERR_UNVME_IN_USE',
      message: `${NAME} is open in this process already`,
    })
    const other = runProgram(
      `await openVfio('${NAME}').catch((error) => console.log(error.code, error.message))`,
    )
    assert.equal(other.stdout, `ERR_UNVME_IN_USE ${NAME} is in use by process ${process.pid} (node)\n`)
  })
  // An open that comes while the function is being closed waits for that.
  const first = await openVfio(ADDRESS)
  const closing = first.close()
  const second = await openVfio(ADDRESS)
  await closing
  assert.equal(second.readRegister(8), 0x0001_0400)
  await second.close()
})

check('two functions of one group share it, in whichever order they close', async () => {
  assert.equal(readPciFacts(GROUP[0]).iommuGroup, readPciFacts(GROUP[1]).iommuGroup)
  for (const order of [0, 1]) {
    const pair = await Promise.all(GROUP.map((name) => openVfio(name)))
    const rings = pair.map((pci) => startAdminRing(pci))
    assert.notEqual(rings[0]!.arena.iova, rings[1]!.arena.iova)
    for (const ring of rings) ring.identify(ring.arena.iova + 8192)
    const [first, last] = order === 0 ? [0, 1] : [1, 0]
    await pair[first]!.close()
    const ring = rings[last]!
    ring.bytes.fill(0, 8192, 12288)
    ring.identify(ring.arena.iova + 8192)
    assert.equal(ring.bytes.toString('latin1', 8192 + 24, 8192 + 28), 'QEMU')
    await pair[last]!.close()
  }
})

check('a group with a device of the kernel in it is named with that device', async () => {
  bind(GROUP[1], 'nvme')
  try {
    const { iommuGroup } = readPciFacts(GROUP[0])
    await assert.rejects(openVfio(GROUP[0]), (error: Error & { code: string }) => {
      assert.equal(error.code, 'ERR_UNVME_SETUP')
      assert.ok(error.message.includes(`IOMMU group ${iommuGroup}`), error.message)
      assert.ok(error.message.includes(`${GROUP[1]} (nvme)`), error.message)
      return true
    })
    await assert.rejects(openVfio(GROUP[1]), {
      code: 'ERR_UNVME_SETUP',
      message: `${GROUP[1]} is not bound to vfio-pci: the driver 'nvme' has it; 'unvme setup ${GROUP[1]}' binds it; as it is, it opens by its path below /dev (unvme list)`,
    })
  } finally {
    bind(GROUP[1], 'vfio-pci')
  }
  await withFunction((pci) => assert.equal(pci.readRegister(8), 0x0001_0400), GROUP[0])
})

check('a function that is not there', () =>
  assert.rejects(openVfio('7f:1f.7'), { code: 'ERR_UNVME_ADDRESS' }),
)

check(
  'without root: refused with advice, granted by the owner of the group, RLIMIT_MEMLOCK explained',
  () => {
    const { iommuGroup, vfioDevice } = readPciFacts(NAME)
    const files =
      iommufd === 'always' ? ['/dev/iommu', `/dev/vfio/devices/${vfioDevice}`] : [`/dev/vfio/${iommuGroup}`]
    const asNobody = 'exec setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all'
    const report = 'const say = (e) => { console.log(e.code, e.message) };'
    const refused = runProgram(`${report} await openVfio('${NAME}').catch(say)`, asNobody)
    assert.match(
      refused.stdout,
      /^ERR_UNVME_SETUP .*no permission to open \/dev\/(vfio|iommu).*unvme setup --user/,
    )

    for (const file of files) fs.chownSync(file, 65534, 65534)
    const code = `${report} const pci = await openVfio('${NAME}');
    console.log(pci.readRegister(8)); pci.mapDma(1 << 20);
    try { pci.mapDma(8 << 20) } catch (e) { say(e) } await pci.close()`
    const limited = runProgram(code, `ulimit -l 4096; ${asNobody}`)
    for (const file of files) fs.chownSync(file, 0, 0)
    const [version, explained] = limited.stdout.split('\n')
    assert.equal(version, String(0x0001_0400), limited.stderr)
    assert.match(
      explained ?? '',
      /^ERR_UNVME_OUT_OF_MEMORY .*8 MiB.*1 MiB are locked.*RLIMIT_MEMLOCK is 4 MiB.*at least 9 MiB.*ulimit -l 9216/,
    )
  },
)

check("the container's limit of mappings is explained", async () => {
  // iommufd has no such limit.
  if (iommufd === 'always') return
  const parameter = '/sys/module/vfio_iommu_type1/parameters/dma_entry_limit'
  const before = fs.readFileSync(parameter, 'utf8')
  fs.writeFileSync(parameter, '3')
  try {
    await withFunction((pci) => {
      const arenas = [1, 2, 3].map(() => pci.mapDma(4096))
      const count = readHoldings()
      assert.throws(() => pci.mapDma(4096), { code: 'ERR_UNVME_OUT_OF_MEMORY', message: /no more mappings/ })
      assert.deepEqual(readHoldings(), count)
      pci.unmapDma(arenas[0]!)
      pci.mapDma(4096)
    })
  } finally {
    fs.writeFileSync(parameter, before)
  }
})

check('opens that fail, and cycles of open and close, leave nothing behind', async () => {
  const settle = async () => {
    for (let i = 0; i < 3; i++) {
      globalThis.gc?.()
      await delay(10)
    }
    return readHoldings()
  }
  const before = await settle()
  for (let i = 0; i < Number(process.env.UNVME_TEST_CYCLES ?? 20); i++) {
    const pci = await openVfio(ADDRESS)
    pci.enableInterrupts(4, () => {})
    pci.arm(1)
    const arenas = [pci.mapDma(2 * MiB), pci.mapDma(4096)]
    new Uint8Array(viewOf(arenas[1]!.address, 4096))[0] = 1
    if (i % 2 === 0) pci.unmapDma(arenas[0]!)
    await pci.close()
  }
  await assert.rejects(openVfio('7f:1f.7'))
  fs.writeFileSync(`/sys/bus/pci/devices/${NAME}/driver/unbind`, NAME)
  await assert.rejects(openVfio(NAME), { code: 'ERR_UNVME_SETUP', message: /no driver has it/ })
  fs.writeFileSync('/sys/bus/pci/drivers_probe', NAME)
  assert.deepEqual(await settle(), before)
  assert.deepEqual(before, { files: before.files, mappings: 0, lockedKib: 0 })
})

await runChecks()
