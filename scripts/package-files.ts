// `files` of package.json: the modules that the entry points and the command load, and the declarations that the
// entry points' declarations import. `npm run package-files` writes it; test/package.test.ts compares it.

import fs from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'

interface Manifest {
  bin: Record<string, string>
  exports: Record<string, string>
  files: string[]
}

const SHIPPED = ['dist/lib', 'dist/src']
const OTHERS = ['scripts/unvme-setup', 'CHANGELOG.md', 'SECURITY.md']
const IMPORT = /(?:from|import|new URL)\s*\(?\s*['"](\.{1,2}\/[^'"]+)\.[jt]s['"]/g

/** Files with this extension that the modules named import, directly or not, with those modules. */
function reached(modules: readonly string[], extension: string): Set<string> {
  const found = new Set<string>()
  const open = [...modules]
  for (let module = open.pop(); module !== undefined; module = open.pop()) {
    const file = module + extension
    if (found.has(file) || !fs.existsSync(file)) continue
    found.add(file)
    const folder = path.dirname(file)
    for (const [, target] of fs.readFileSync(file, 'utf8').matchAll(IMPORT)) {
      open.push(path.join(folder, target!))
    }
  }
  return found
}

/** Patterns that leave out what is not in `kept`: a whole folder where it has none of them, else by name. */
function exclusions(folder: string, extension: string, kept: ReadonlySet<string>): string[] {
  const files = fs
    .readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith(extension))
    .map((name) => path.join(folder, name))
  if (files.length === 0) return []
  if (!files.some((file) => kept.has(file))) return [`!${folder}/**/*${extension}`]
  const names = files
    .filter((file) => path.dirname(file) === folder && !kept.has(file))
    .map((file) => path.basename(file, extension))
    .sort()
  const list = names.length > 1 ? `{${names.join(',')}}` : names[0]
  const folders = fs.readdirSync(folder, { withFileTypes: true }).filter((entry) => entry.isDirectory())
  return [
    ...(list === undefined ? [] : [`!${folder}/${list}${extension}`]),
    ...folders
      .map(({ name }) => `${folder}/${name}`)
      .sort()
      .flatMap((name) => exclusions(name, extension, kept)),
  ]
}

/** What `files` has to be for the compiled files in dist. */
export function packageFiles(manifest: Manifest): string[] {
  const modules = (targets: Record<string, string>) =>
    Object.values(targets).flatMap((target) =>
      target.endsWith('.js') ? [path.normalize(target).slice(0, -'.js'.length)] : [],
    )
  const entries = modules(manifest.exports)
  const extensions = [
    ['.js', reached([...entries, ...modules(manifest.bin)], '.js')],
    ['.d.ts', reached(entries, '.d.ts')],
  ] as const
  return [
    ...SHIPPED.flatMap((folder) => extensions.map(([extension]) => `${folder}/**/*${extension}`)),
    ...extensions.flatMap(([extension, kept]) =>
      SHIPPED.flatMap((folder) => exclusions(folder, extension, kept)),
    ),
    ...OTHERS,
  ]
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const manifest = JSON.parse(fs.readFileSync('package.json', 'utf8'))
  manifest.files = packageFiles(manifest)
  fs.writeFileSync('package.json', `${JSON.stringify(manifest, null, 2)}\n`)
}
