// Imports go one way: see docs/architecture.md.

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

const BASE = ['lib/errors.ts', 'lib/sys', 'lib/log']
const DRIVER = [...BASE, 'lib/memory', 'lib/nvme/spec', 'lib/nvme/host', 'lib/nvme/paths', 'src/queue']

// For each folder, what it may import from beside itself.
const ALLOWED: Record<string, string[]> = {
  'lib/errors.ts': [],
  'lib/sys': ['lib/errors.ts'],
  'lib/log': ['lib/errors.ts', 'lib/sys'],
  'lib/memory': BASE,
  // VFIO's structures, which the kernel and vfio-user share.
  'lib/vfio-abi': BASE,
  'lib/pci': [...BASE, 'lib/memory', 'lib/vfio-abi'],
  'lib/vfio': [...BASE, 'lib/memory', 'lib/vfio-abi', 'lib/pci'],
  'lib/vfio-user': [...BASE, 'lib/memory', 'lib/vfio-abi', 'lib/pci'],
  'lib/nvme/spec': BASE,
  'lib/nvme/host': [...BASE, 'lib/memory', 'lib/nvme/spec'],
  'lib/nvme/linux': [...BASE, 'lib/memory', 'lib/nvme/spec', 'lib/nvme/host'],
  'lib/nvme/pcie': [...BASE, 'lib/memory', 'lib/pci', 'lib/nvme/spec', 'lib/nvme/host'],
  // Several controllers as one, whatever their transports.
  'lib/nvme/paths': [...BASE, 'lib/memory', 'lib/nvme/spec', 'lib/nvme/host'],
  // The target in it serves what it is given: it knows no controller. An address says how paths are chosen.
  'lib/nvme/tcp': [...BASE, 'lib/memory', 'lib/nvme/spec', 'lib/nvme/host', 'lib/nvme/paths'],
  // The driver and the controller share the specification's tables, not code.
  'lib/sim': [...BASE, 'lib/memory', 'lib/pci', 'lib/nvme/spec'],
  'lib/nbd': BASE,
  'src/queue': DRIVER.filter((folder) => folder !== 'src/queue'),
  'src/controller': DRIVER,
  'src/streams': [...DRIVER, 'src/controller'],
  // A queue of another thread is a ring in memory that both have.
  'src/shares': [...DRIVER, 'src/controller', 'lib/pci', 'lib/nvme/pcie'],
  'src/namespace': [...DRIVER, 'src/controller', 'src/streams', 'src/shares'],
  // The engine under a server knows blocks, and no namespace.
  'src/servers/block-server.ts': [...DRIVER, 'src/servers/command-engine.ts', 'src/servers/memory.ts'],
  'src/servers/command-engine.ts': DRIVER,
  'src/servers/memory.ts': DRIVER,
  // What other code takes a device for: on the same engine.
  'src/adapters': [
    ...BASE,
    'lib/nvme/spec',
    'src/queue',
    'src/namespace',
    'src/servers/block-server.ts',
    'src/servers/clear-limits.ts',
    'src/servers/memory.ts',
  ],
  // A kernel's device has users, who are asked for.
  'src/transports': [...BASE, 'lib', 'src/system'],
  'src/system': [...BASE, 'lib/pci'],
  src: ['lib'],
  'examples/admin': ['examples/support', 'lib'],
  // What they do with a device is the public API; words and output are the command's.
  'examples/unvme': ['src/index.ts', 'src/cli', 'lib/log', 'lib/sys', 'src/bench/random.ts'],
}

test('an import of the driver is seen, by a path or by the package’s name', (t) => {
  t.true(imports('examples/passthrough.ts').includes('src/index.ts'))
  t.true(imports('examples/admin/open.ts').includes('lib/vfio/index.ts'))
  t.true(imports('src/cli/admin/command.ts').includes('src/index.ts'))
})

for (const [folder, allowed] of Object.entries(ALLOWED)) {
  test(`${folder} imports only from itself and ${allowed.join(', ') || 'nothing else of the project'}`, (t) => {
    const files = folder.endsWith('.ts') ? [folder] : sources(folder)
    for (const file of files) {
      for (const target of imports(file)) {
        const ok = [folder, ...allowed].some((prefix) => target === prefix || target.startsWith(`${prefix}/`))
        t.true(ok, `${file} imports ${target}`)
      }
    }
    t.true(files.length > 0)
  })
}

/** Those of a graph that lead back to themselves, and others between which they stand. */
function circles(graph: ReadonlyMap<string, ReadonlySet<string>>): string[] {
  const left = new Map(graph)
  for (let before = -1; left.size !== before; ) {
    before = left.size
    for (const [node, targets] of left) {
      const used = [...left.values()].some((others) => others.has(node))
      if (!used || ![...targets].some((target) => left.has(target))) left.delete(node)
    }
  }
  return [...left.keys()]
}

/** What each group of files of src imports of the others. */
function graphOf(group: (file: string) => string): Map<string, Set<string>> {
  const graph = new Map<string, Set<string>>()
  for (const file of sources('src')) {
    const targets = graph.get(group(file)) ?? new Set()
    for (const target of imports(file).filter((target) => target.startsWith('src/'))) {
      if (group(target) !== group(file)) targets.add(group(target))
    }
    graph.set(group(file), targets)
  }
  return graph
}

/** Files that stand in src itself are by themselves. */
const folderOf = (file: string) => file.split('/').slice(0, 2).join('/')

test('no files of src import each other in a circle, types included, and no folders', (t) => {
  const example = { a: ['b'], b: ['c'], c: ['b', 'd'], d: [] }
  const graph = new Map(Object.entries(example).map(([name, targets]) => [name, new Set<string>(targets)]))
  t.deepEqual(circles(graph), ['b', 'c'])
  t.deepEqual(circles(graphOf((file) => file)), [])
  t.deepEqual(circles(graphOf(folderOf)), [])
})

/** A file, and all that it imports of the project's. */
function reachable(file: string, found = new Set<string>()): Set<string> {
  if (!found.has(file) && fs.existsSync(path.join(root, file))) {
    found.add(file)
    for (const target of imports(file)) reachable(target, found)
  }
  return found
}

test('what runs in the virtual machine imports no test runner, which ends a program that it did not start', (t) => {
  const programs = sources('test/vm').filter((file) => file.endsWith('-checks.ts'))
  t.true(programs.length > 10)
  for (const program of programs) {
    for (const file of reachable(program)) {
      t.notRegex(fs.readFileSync(path.join(root, file), 'utf8'), /from 'ava'/, `${program} reaches ${file}`)
    }
  }
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

test('onAbort is the one who listens to an AbortSignal: a program gives one signal to any number of calls', (t) => {
  const files = [...sources('lib'), ...sources('src')].filter((file) => file !== 'lib/sys/abort.ts')
  for (const file of files) {
    const text = fs.readFileSync(path.join(root, file), 'utf8')
    t.notRegex(text, /addEventListener\('abort'/, file)
    t.notRegex(text, /if \(signal\??\.aborted\) throw new AbortError/, `${file}: throwIfAborted`)
  }
  t.true(files.length > 0)
})
