// The machine's first file system: busybox, guest/init and the kernel modules that reach the host's files,
// as an uncompressed cpio archive ("newc", Documentation/driver-api/early-userspace/buffer-format.rst).
// Written again for each run, since that takes less time than to find out if an old one still fits.

import fs from 'node:fs'
import path from 'node:path'

/** What the kernel needs to mount the host's root. A module that is not there is taken to be built in. */
const MODULES = ['virtio_pci', 'virtio_console', '9pnet_virtio', '9p', 'overlay']

interface Entry {
  name: string
  mode: number
  data: Buffer
}

const FILE = 0o100755
const FOLDER = 0o040755

/** Modules with what they depend on before them, as paths relative to the modules' folder. */
export function loadOrder(modules: string, names: readonly string[]): string[] {
  const dependencies = new Map<string, string[]>()
  const paths = new Map<string, string>()
  for (const line of fs.readFileSync(path.join(modules, 'modules.dep'), 'utf8').split('\n')) {
    const [file, rest = ''] = line.split(':')
    if (!file) continue
    dependencies.set(file, rest.split(' ').filter(Boolean))
    paths.set(path.basename(file).replace(/\.ko.*$/, ''), file)
  }
  const order = new Set<string>()
  const add = (file: string) => {
    if (order.has(file)) return
    for (const needed of dependencies.get(file) ?? []) add(needed)
    order.add(file)
  }
  for (const name of names) {
    const file = paths.get(name)
    if (file !== undefined) add(file)
  }
  return [...order]
}

/**
 * The archive as the kernel takes it.
 * @param modules folder of the kernel's modules with a modules.dep, or undefined where all is built in
 */
export function initramfs(parts: { busybox: string; init: string; modules: string | undefined }): Buffer {
  const order = parts.modules === undefined ? [] : loadOrder(parts.modules, MODULES)
  const entries: Entry[] = [
    { name: 'bin', mode: FOLDER, data: Buffer.alloc(0) },
    { name: 'modules', mode: FOLDER, data: Buffer.alloc(0) },
    { name: 'bin/busybox', mode: FILE, data: fs.readFileSync(parts.busybox) },
    { name: 'init', mode: FILE, data: fs.readFileSync(parts.init) },
    {
      name: 'modules/order',
      mode: FILE,
      data: Buffer.from(order.map((file) => `${path.basename(file)}\n`).join('')),
    },
    ...order.map((file) => ({
      name: `modules/${path.basename(file)}`,
      mode: FILE,
      data: fs.readFileSync(path.join(parts.modules ?? '', file)),
    })),
    { name: 'TRAILER!!!', mode: 0, data: Buffer.alloc(0) },
  ]
  return Buffer.concat(entries.flatMap(record))
}

function record({ name, mode, data }: Entry, index: number): Buffer[] {
  // inode, mode, uid, gid, links, mtime, size, device numbers (four), length of the name with its end, checksum
  const fields = [index + 1, mode, 0, 0, 1, 0, data.length, 0, 0, 0, 0, name.length + 1, 0]
  const header = `070701${fields.map((field) => field.toString(16).padStart(8, '0')).join('')}${name}\0`
  return [padded(Buffer.from(header, 'latin1')), padded(data)]
}

function padded(data: Buffer): Buffer {
  const missing = -data.length & 3
  return missing === 0 ? data : Buffer.concat([data, Buffer.alloc(missing)])
}
