// Preloaded (`--import`), makes the process take its machine for another: UNVME_TEST_MACHINE is `platform arch`. One that is
// no Linux has no /proc and no /sys, and koffi can't be had on it.

import fs from 'node:fs'
import Module, { createRequire } from 'node:module'

const [platform, arch] = process.env.UNVME_TEST_MACHINE!.split(' ')

const isLinux = (file: unknown) => typeof file === 'string' && /^\/(proc|sys)\b/.test(file)

if (platform === 'linux') {
  // Before it looks for a build of its own for this processor.
  createRequire(import.meta.url)('koffi')
} else {
  const loader = Module as unknown as { _load(name: string, ...rest: unknown[]): unknown }
  const load = loader._load
  loader._load = (name, ...rest) => {
    if (name === 'koffi') throw Object.assign(new Error('no koffi here'), { code: 'MODULE_NOT_FOUND' })
    return load.call(loader, name, ...rest)
  }
  const files = fs as unknown as Record<string, (...words: unknown[]) => unknown>
  const exists = fs.existsSync
  fs.existsSync = (file) => !isLinux(file) && exists(file)
  for (const name of ['openSync', 'readFileSync', 'readdirSync', 'readlinkSync', 'statSync', 'lstatSync']) {
    const call = files[name]!
    files[name] = (file, ...rest) => {
      if (!isLinux(file)) return call(file, ...rest)
      throw Object.assign(new Error(`ENOENT: no such file or directory, ${name} '${file}'`), {
        code: 'ENOENT',
      })
    }
  }
}
for (const [name, value] of Object.entries({ platform, arch })) {
  Object.defineProperty(process, name, { ...Object.getOwnPropertyDescriptor(process, name), value })
}
