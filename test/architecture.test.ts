// Imports go one way: errors, abort, options, log, sys <- pci <- {nvme, vfio, vfio-user, sim} <- src <- {cli, examples}.

import fs from 'node:fs'
import path from 'node:path'
import test from 'ava'

const root = path.resolve(import.meta.dirname, '../..')

function sources(folder: string): string[] {
  const at = path.join(root, folder)
  if (!fs.existsSync(at)) return []
  return fs
    .readdirSync(at, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts'))
    .map((name) => path.join(folder, name))
}

/** The package's own names, as examples import them: by name, the file below dist that each stands for. */
const EXPORTS: Record<string, string> = JSON.parse(
  fs.readFileSync(path.join(root, 'package.json'), 'utf8'),
).exports

/** Project files that a file imports, types included, as paths from the root. */
function imports(file: string): string[] {
  const text = fs.readFileSync(path.join(root, file), 'utf8')
  const found = text.matchAll(/(?:from|import)\s*\(?\s*'(\.{1,2}\/[^']+|unvme(?:\/[^']+)?)'/g)
  return [...found].map(([, target]) =>
    target!.startsWith('.') ? path.join(path.dirname(file), target!) : exported(target!),
  )
}

function exported(name: string): string {
  const target = EXPORTS[name.replace(/^unvme/, '.')]!
  return target.replace(/^\.\/dist\//, '').replace(/\.js$/, '.ts')
}

const DRIVER_HALF = [
  'admin-commands',
  'controller',
  'queue-pair',
  'admin-queue',
  'bring-up',
  'event-watch',
  'io-queue-pairs',
  'failure',
  'index',
].map((name) => `lib/nvme/${name}.ts`)

// For each folder, the folders and files that it may import from.
const ALLOWED: Record<string, string[]> = {
  'lib/errors.ts': [],
  'lib/sys/abort.ts': [],
  'lib/sys/options.ts': ['lib/errors.ts'],
  'lib/log': ['lib/log', 'lib/errors.ts'],
  'lib/sys': ['lib/sys', 'lib/errors.ts'],
  'lib/pci': ['lib/pci', 'lib/sys', 'lib/log', 'lib/errors.ts'],
  'lib/nvme': [
    'lib/nvme',
    'lib/pci',
    'lib/sys',
    'lib/log',
    'lib/errors.ts',
    'lib/sys/abort.ts',
    'lib/sys/options.ts',
  ],
  'lib/vfio': ['lib/vfio', 'lib/pci', 'lib/sys', 'lib/log', 'lib/errors.ts'],
  'lib/vfio-user': ['lib/vfio-user', 'lib/pci', 'lib/sys', 'lib/log', 'lib/errors.ts', 'lib/sys/abort.ts'],
  'lib/sim': ['lib/sim', 'lib/nvme', 'lib/pci', 'lib/sys', 'lib/log', 'lib/errors.ts'],
  src: ['src', 'lib'],
  'examples/admin': ['examples/admin', 'examples/support', 'lib'],
  // What they do with a device is the public API; words and output are the command's.
  'examples/unvme': ['examples/unvme', 'src/index.ts', 'src/cli', 'lib/log', 'src/bench/random.ts'],
}

test('an import of the driver is seen, by a path or by the package’s name', (t) => {
  t.true(imports('examples/passthrough.ts').includes('src/index.ts'))
  t.true(imports('examples/admin/open.ts').includes('lib/vfio/index.ts'))
  t.true(imports('src/cli/admin/command.ts').includes('src/index.ts'))
})

for (const [folder, allowed] of Object.entries(ALLOWED)) {
  test(`${folder} imports only from ${allowed.join(', ') || 'nothing of the project'}`, (t) => {
    const files = folder.endsWith('.ts') ? [folder] : sources(folder)
    for (const file of files) {
      for (const target of imports(file)) {
        const ok = allowed.some((prefix) => target === prefix || target.startsWith(`${prefix}/`))
        t.true(ok, `${file} imports ${target}`)
      }
    }
    t.true(files.length > 0)
  })
}

test('the software controller uses the specification half of lib/nvme alone', (t) => {
  const files = sources('lib/sim')
  for (const file of files) {
    for (const target of imports(file)) t.false(DRIVER_HALF.includes(target), `${file} imports ${target}`)
  }
  t.true(files.length > 0)
})

test('the driver does not import the command line', (t) => {
  const files = sources('src').filter((file) => !file.startsWith('src/cli/'))
  for (const file of files) {
    for (const target of imports(file)) t.false(target.startsWith('src/cli/'), `${file} imports ${target}`)
  }
  t.true(files.length > 0)
})

test('nothing of the package is exported by default', (t) => {
  const files = [...sources('lib'), ...sources('src')]
  for (const file of files) {
    t.notRegex(fs.readFileSync(path.join(root, file), 'utf8'), /^export default /m, file)
  }
  t.true(files.length > 0)
})
