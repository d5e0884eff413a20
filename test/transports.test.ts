// Ways to a controller: each is loaded when an address asks for it, and can be taken out of the package.

import fs from 'node:fs'
import path from 'node:path'
import test from 'ava'
import { testFolder } from './support/folder.ts'
import { run } from './support/run.ts'

const dist = path.resolve(import.meta.dirname, '..')
const file = testFolder()

/** Runs a module's text, with `unvme` as the package's code at a folder. */
async function runOn(folder: string, text: string, environment?: NodeJS.ProcessEnv) {
  const program = path.join(folder, `program-${process.pid}-${Math.random().toString(36).slice(2)}.mjs`)
  fs.writeFileSync(program, text.replaceAll('unvme', path.join(folder, 'src/index.js')))
  try {
    return await run(program, [], undefined, environment)
  } finally {
    fs.rmSync(program)
  }
}

test('open: without the files of VFIO and vfio-user, software controllers open, and an address of those says so', async (t) => {
  // Inside the package, so that its dependencies are found.
  const folder = fs.mkdtempSync(path.join(dist, 'without-vfio-'))
  try {
    for (const part of ['lib', 'src']) {
      fs.cpSync(path.join(dist, part), path.join(folder, part), { recursive: true })
    }
    for (const part of ['vfio', 'vfio-user']) fs.rmSync(path.join(folder, 'lib', part), { recursive: true })
    const { code, stdout, stderr } = await runOn(
      folder,
      `import { copy, open } from 'unvme'
       const ns = await open('sim:?size=1M')
       console.log((await copy(ns, ns, { bytes: 4096, dstSlba: 100 })).bytes)
       await ns.close()
       for (const address of ['0a:00.0', 'vfio-user:/run/x']) {
         await open(address).catch((error) => console.log(error.code, error.message))
       }`,
    )
    t.is(stderr, '')
    t.is(code, 0)
    t.is(
      stdout,
      '4096\n' +
        'ERR_UNVME_UNSUPPORTED "0a:00.0": this package has no vfio\n' +
        'ERR_UNVME_UNSUPPORTED "vfio-user:/run/x": this package has no vfio-user\n',
    )
  } finally {
    fs.rmSync(folder, { recursive: true })
  }
})

// By hooks in this thread where Node has them, in another one where it has not (before 22.15).
const LOADS = `
import module from 'node:module'
import { MessageChannel } from 'node:worker_threads'
const own = new Set()
if (module.registerHooks) {
  module.registerHooks({ load(url, context, next) { own.add(url); return next(url, context) } })
} else {
  const { port1, port2 } = new MessageChannel()
  port1.on('message', (url) => own.add(url))
  port1.unref()
  const hook = \`let port
  export const initialize = (data) => { port = data.port }
  export const load = (url, context, next) => { port.postMessage(url); return next(url, context) }\`
  module.register('data:text/javascript,' + encodeURIComponent(hook), { data: { port: port2 }, transferList: [port2] })
}
if (process.env.UNVME_TEST_COPY) {
  process.argv.splice(2, 99, 'copy', ...process.env.UNVME_TEST_COPY.split(' '))
  await import(import.meta.resolve('unvme').replace('src/index.js', 'src/cli/main.js'))
}
const { open } = process.env.UNVME_TEST_COPY ? {} : await import('unvme')
if (process.env.UNVME_TEST_OPEN) await open(process.env.UNVME_TEST_OPEN).catch((error) => console.error(error.code))
await new Promise((resolve) => setTimeout(resolve, 200))
console.log([...own].filter((url) => /dist.(lib|src)/.test(url)).length)
console.log([...own].filter((url) => /lib.(sim|vfio|vfio-user|vfio-abi|pci|nvme.pcie|nvme.tcp).(?!address|faults)/.test(url)).join('\\n'))
console.log('driver ' + [...own].some((url) => /src.(open|namespace.namespace|servers)|lib.(nvme.host.controller|nbd)/.test(url)))
console.log('koffi ' + Object.keys(module._cache).some((file) => /koffi/.test(file)))
`

test('import of the package loads no transport, and at most 100 modules', async (t) => {
  const { code, stdout, stderr } = await runOn(dist, LOADS)
  t.is(stderr, '')
  t.is(code, 0)
  const [count, transports] = stdout.split('\n')
  t.true(Number(count) > 50 && Number(count) <= 100, count)
  t.is(transports, '')
  t.regex(stdout, /^koffi false$/m)
})

test('a copy of a file to a file loads no driver, and at most 80 modules', async (t) => {
  fs.writeFileSync(file('copied'), 'data')
  const { code, stdout, stderr } = await runOn(dist, LOADS, {
    UNVME_TEST_COPY: `${file('copied')} ${file('copy')}`,
  })
  t.is(stderr, '')
  t.is(code, 0)
  const [, count] = stdout.split('\n')
  t.true(Number(count) > 30 && Number(count) <= 80, stdout)
  t.regex(stdout, /^driver false$/m)
})

test('an nvme+tcp address loads nothing of PCI functions, VFIO or the software controller, and no native code', async (t) => {
  const { code, stdout, stderr } = await runOn(dist, LOADS, {
    UNVME_TEST_OPEN: 'nvme+tcp://127.0.0.1:1/nqn.2024-01.org.example:disk?hostnqn=nqn.2024-01.org.example:me',
  })
  t.is(stderr, 'ERR_UNVME_SETUP\n')
  t.is(code, 0)
  t.regex(stdout, /^koffi false$/m)
  const transports = stdout
    .split('\n')
    .slice(1)
    .filter((line) => line.includes('/'))
  t.true(transports.length > 5)
  for (const url of transports) t.true(url.includes('/lib/nvme/tcp/'), url)
})
