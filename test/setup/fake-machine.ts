// A made-up machine in a temporary folder: sysfs, proc and device nodes, and a kernel that answers writes to
// driver_override, unbind and drivers_probe as Linux does.

import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { type Machine, thisMachine } from '../../src/system/machine.ts'

interface FakeFunction {
  vendor?: number
  device?: number
  class?: number
  driver?: string
  group?: number
  /** Number of the controller and of the namespaces that the kernel shows while its driver has the device. */
  controller?: number
  namespaces?: FakeNamespace[]
}

interface FakeNamespace {
  nsid: number
  /** Bytes. */
  size?: number
  lbaSize?: number
  partitions?: number
  /** Shown as a path of a namespace with several (nvme0c0n1), its block device elsewhere. */
  multipath?: boolean
}

export class FakeMachine implements Machine {
  readonly root = fs.mkdtempSync(path.join(os.tmpdir(), 'unvme-machine-'))
  readonly sys = path.join(this.root, 'sys')
  readonly proc = path.join(this.root, 'proc')
  readonly dev = path.join(this.root, 'dev')
  /** Every write, below the root: `sys/… = value`. */
  readonly writes: string[] = []
  readonly loaded: string[] = []
  readonly chowned: string[] = []
  readonly claimed = new Set<string>()
  /** Devices that vfio-pci does not take. */
  readonly refusing = new Set<string>()
  readonly #functions = new Map<string, FakeFunction>()

  constructor({ vfio = true }: { vfio?: boolean } = {}) {
    for (const folder of ['sys/bus/pci/devices', 'sys/bus/pci/drivers/nvme', 'sys/class/block', 'dev/vfio']) {
      fs.mkdirSync(path.join(this.root, folder), { recursive: true })
    }
    this.file('sys/bus/pci/drivers_probe', '')
    this.file('proc/self/mountinfo', '')
    this.file('proc/swaps', 'Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n')
    if (vfio) this.#loadVfio()
  }

  /** Writes a file below the root, and the folders above it. */
  file(name: string, content: string): void {
    const file = path.join(this.root, name)
    fs.mkdirSync(path.dirname(file), { recursive: true })
    fs.writeFileSync(file, content)
  }

  add(name: string, what: FakeFunction = {}): void {
    const folder = `sys/bus/pci/devices/${name}`
    const hex = (value: number) => `0x${value.toString(16)}\n`
    this.file(`${folder}/vendor`, hex(what.vendor ?? 0x1b36))
    this.file(`${folder}/device`, hex(what.device ?? 0x10))
    this.file(`${folder}/class`, hex(what.class ?? 0x010802))
    this.file(`${folder}/driver_override`, '(null)\n')
    this.#functions.set(name, what)
    if (what.group !== undefined) {
      const group = `sys/kernel/iommu_groups/${what.group}`
      fs.mkdirSync(path.join(this.root, group, 'devices'), { recursive: true })
      this.#link(group, `${folder}/iommu_group`)
      this.#link(folder, `${group}/devices/${name}`)
    }
    if (what.driver) this.#bind(name, what.driver)
  }

  /** A process with these files open. */
  process(pid: number, command: string, open: readonly string[]): void {
    this.file(`proc/${pid}/comm`, `${command}\n`)
    fs.mkdirSync(path.join(this.proc, String(pid), 'fd'))
    open.forEach((target, fd) => {
      fs.symlinkSync(target, path.join(this.proc, String(pid), 'fd', String(fd)))
    })
  }

  mount(number: string, source: string, point: string, type = 'ext4'): void {
    const file = path.join(this.proc, 'self/mountinfo')
    fs.appendFileSync(file, `22 1 ${number} / ${point} rw,relatime shared:1 - ${type} ${source} rw\n`)
  }

  driver(name: string): string | null {
    const link = path.join(this.sys, 'bus/pci/devices', name, 'driver')
    return fs.existsSync(link) ? path.basename(fs.readlinkSync(link)) : null
  }

  remove(): void {
    fs.rmSync(this.root, { recursive: true })
  }

  // The acts of Machine, answered as by a kernel.

  write(file: string, value: string): void {
    if (!fs.existsSync(file)) throw Object.assign(new Error(`ENOENT: ${file}`), { code: 'ENOENT' })
    this.writes.push(`${path.relative(this.root, file)} = ${value}`)
    // As it comes, through the device's folder: `driver` is a link.
    const [, , , , name = '', act] = path.relative(this.root, file).split(path.sep)
    if (file.endsWith('drivers_probe')) this.#probe(value)
    else if (act === 'driver') this.#unbind(name)
    else fs.writeFileSync(file, value === '\n' ? '(null)\n' : `${value}\n`)
  }

  loadModule(name: string): void {
    this.loaded.push(name)
    if (name === 'vfio-pci') this.#loadVfio()
  }

  claim(file: string): (() => void) | null {
    const block = path.basename(file)
    if (this.claimed.has(block)) return null
    this.claimed.add(block)
    return () => this.claimed.delete(block)
  }

  chown(file: string, { uid, gid }: { uid: number; gid: number }): void {
    fs.accessSync(file)
    this.chowned.push(`${path.relative(this.root, file)} ${uid}:${gid}`)
  }

  findAccount(name: string) {
    return name === 'alice' ? { uid: 1000, gid: 1001 } : undefined
  }

  #loadVfio(): void {
    fs.mkdirSync(path.join(this.sys, 'bus/pci/drivers/vfio-pci'), { recursive: true })
    fs.mkdirSync(path.join(this.sys, 'module/vfio_iommu_type1'), { recursive: true })
  }

  #probe(name: string): void {
    const override = fs
      .readFileSync(path.join(this.sys, 'bus/pci/devices', name, 'driver_override'), 'utf8')
      .trim()
    const driver = override === '(null)' ? 'nvme' : override
    if (this.driver(name) === null && !(driver === 'vfio-pci' && this.refusing.has(name)))
      this.#bind(name, driver)
  }

  #bind(name: string, driver: string): void {
    const what = this.#functions.get(name)!
    fs.mkdirSync(path.join(this.sys, 'bus/pci/drivers', driver), { recursive: true })
    this.#link(`sys/bus/pci/drivers/${driver}`, `sys/bus/pci/devices/${name}/driver`)
    // Of the driver's folder, in truth; the link leads there.
    this.file(`sys/bus/pci/drivers/${driver}/unbind`, '')
    if (driver === 'vfio-pci' && what.group !== undefined) this.file(`dev/vfio/${what.group}`, '')
    if (driver === 'nvme' && what.controller !== undefined) this.#showNamespaces(name, what)
  }

  #unbind(name: string): void {
    fs.rmSync(path.join(this.sys, 'bus/pci/devices', name, 'driver'))
    fs.rmSync(path.join(this.sys, 'bus/pci/devices', name, 'nvme'), { recursive: true, force: true })
    const { group, controller, namespaces = [] } = this.#functions.get(name)!
    fs.rmSync(path.join(this.dev, 'vfio', String(group)), { force: true })
    for (const { nsid } of namespaces) {
      fs.rmSync(path.join(this.dev, `nvme${controller}n${nsid}`), { force: true })
      fs.rmSync(path.join(this.sys, 'class/block', `nvme${controller}n${nsid}`), {
        recursive: true,
        force: true,
      })
    }
  }

  #showNamespaces(name: string, { controller, namespaces = [] }: FakeFunction): void {
    const folder = `sys/bus/pci/devices/${name}/nvme/nvme${controller}`
    this.file(`${folder}/model`, 'QEMU NVMe Ctrl                          \n')
    this.file(`${folder}/serial`, `S${controller}                  \n`)
    this.file(`${folder}/firmware_rev`, '1.0     \n')
    this.file(`${folder}/state`, 'live\n')
    for (const { nsid, size = 1 << 30, lbaSize = 512, partitions = 0, multipath } of namespaces) {
      const block = `nvme${controller}n${nsid}`
      fs.mkdirSync(path.join(this.root, folder, multipath ? `nvme${controller}c0n${nsid}` : block))
      this.file(`sys/class/block/${block}/size`, `${size / 512}\n`)
      this.file(`sys/class/block/${block}/nsid`, `${nsid}\n`)
      this.file(`sys/class/block/${block}/dev`, `259:${nsid}0\n`)
      this.file(`sys/class/block/${block}/queue/logical_block_size`, `${lbaSize}\n`)
      this.file(`dev/${block}`, '')
      this.file(`dev/ng${controller}n${nsid}`, '')
      for (let at = 1; at <= partitions; at++) {
        this.file(`sys/class/block/${block}/${block}p${at}/partition`, `${at}\n`)
        this.file(`sys/class/block/${block}p${at}/dev`, `259:${nsid}${at}\n`)
        this.file(`dev/${block}p${at}`, '')
      }
    }
  }

  #link(target: string, link: string): void {
    fs.symlinkSync(path.join(this.root, target), path.join(this.root, link))
  }
}

/** The machine behind `--sysroot`, for comparison with what the made-up kernel says. */
export const copyOf = (machine: FakeMachine): Machine => thisMachine(machine.root)
