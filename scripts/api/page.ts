// docs/api.md from the compiler's declarations and the comments in them.
// Which export stands under which heading is said here; everything else comes from the source.

import fs from 'node:fs'
import path from 'node:path'
import { type Declaration, type Doc, exportsOf, lookUp, type Member } from './declarations.ts'

/** Exports by heading, in order. Errors are all the rest: the page finds them by their classes. */
const GROUPS: readonly (readonly [title: string, text: string, names: string])[] = [
  [
    'Opening',
    'An address names a device: a PCI name, `sim:…`, or `vfio-user:…`. See [the guide](guide.md#addresses).',
    'open openController OpenOptions OpeningOptions DeviceOptions FaultRule FaultAction',
  ],
  [
    'Namespaces',
    "LBAs and numbers of blocks are in blocks of the namespace (`ns.blocksize` bytes). The calls with a queue id first are UNVMe's, and take DMA memory from `alloc`; those of `ns.promises` take any Buffer.",
    'Namespace NamespacePromises CallOptions IoDescriptor IoCommand LbaRange Stats',
  ],
  [
    'Streams and iterators',
    'Memory is bounded: one and a half times `depth` times the chunk at most, however long the range is.',
    'ReadStream ReadStreamOptions ReadableWebStreamOptions WriteStream WriteStreamOptions Block BlockIterator BlocksOptions PlacedBlock WriteSource WriteBlocksOptions TransferToOptions TransferSink TransferFromOptions TransferSource',
  ],
  [
    'Copy and compare',
    'Files, devices and open namespaces in any combination.',
    'copy CopyOptions CopyResult CopyTarget BadBlocks CopyReport compare CompareOptions CompareResult Difference DifferingEndpoint EndpointSpec wipe WipeOptions WipeRecord',
  ],
  [
    'Controllers and admin commands',
    'What needs more than these (log pages, features, formats, decoders) is in the module `unvme/nvme`.',
    'ControllerHandle NamespaceController AdminCommand AdminOptions AdminResult LbaStatusOptions LbaStatusList LbaStatus LBA_STATUS_ACTION LBA_STATUS_END PathInfo PathState PathChange ADMIN NVM',
  ],
  [
    'Threads',
    'A queue belongs to one thread at a time, and can be shared with another.',
    'attach QueueShare QueueTicket ShareOptions spread SpreadOptions task TaskContext',
  ],
  [
    'Serving',
    'Namespaces for NBD clients and for hosts in the network, and the software controller for other processes.',
    'serveNbd ServeNbdOptions NbdTlsOptions NbdServer NbdServerStats serveNvmeTcp NvmeTcpServerOptions NvmeTcpServer NvmeTcpListener NvmeTcpServerStats AnaState serve ServeOptions Server ServerStats SimControls HealthChange',
  ],
]

interface Page {
  text: string
  /** Every export that has an entry, and entries, members included, that say nothing. */
  names: string[]
  mute: string[]
}

/** @param root of the checkout, built */
export function apiPage(root: string): Page {
  const all = exportsOf(path.join(root, 'dist/src/index.d.ts'))
  const errors = [...exportsOf(path.join(root, 'dist/lib/errors.d.ts')).values()]
  const codes = errorCodes(fs.readFileSync(path.join(root, 'lib/errors.ts'), 'utf8'))
  const page: Page = { text: '', names: [], mute: [] }
  const sections = GROUPS.map(([title, text, names]) => [
    `## ${title}`,
    text,
    ...names.split(' ').flatMap((name) => {
      const declaration = all.get(name)
      if (declaration === undefined) throw new Error(`${name} is not exported`)
      return entry(declaration, all, page)
    }),
  ])
  page.names.push(...errors.map(({ name }) => name))
  const parts = [
    '# The API',
    '<!-- Made by npm run docs from the comments in src/: change those, not this page. -->',
    "Everything here is exported by `unvme`. Options that are left out have the default that is said. Where a call throws, so does its promise; errors link to what they mean. Sizes are bytes, times milliseconds, numbers JavaScript's.",
    GROUPS.map(([title, , names]) => `- [${title}](#${anchor(title)}): ${contents(names)}`).join('\n'),
    ...sections.flat(),
    '## Errors',
    'Each has a `code`, and extends `UnvmeError`. [Errors](errors.md) says of each what it means and what to do.',
    errors.map((error) => errorLine(error, codes)).join('\n'),
    '## Modules',
    'The modules below the driver can be used by themselves, as [examples/admin](../examples/admin) does. The comments in their files say what they offer.',
    modules(root),
  ]
  page.text = `${link(parts.join('\n\n'), codes)}\n`
  return page
}

const anchor = (title: string) => title.toLowerCase().replaceAll(' ', '-')
const contents = (names: string) =>
  names
    .split(' ')
    .map((name) => `[${name}](#${name.toLowerCase()})`)
    .join(', ')

function entry(declaration: Declaration, all: ReadonlyMap<string, Declaration>, page: Page): string[] {
  const { name, kind, doc } = declaration
  page.names.push(name)
  const members = allMembers(declaration, all)
  if (doc === undefined && (kind !== 'interface' || members.length === 0)) page.mute.push(name)
  const body = kind === 'const' ? [values(declaration)] : memberLists(name, members, page)
  return [
    `### ${name}`,
    `\`\`\`ts\n${shortSignature(declaration, members.length > 0, all)}\n\`\`\``,
    ...(doc ? describe(doc) : []),
    ...body,
  ]
}

function shortSignature(
  { signature, kind, parents, file }: Declaration,
  hasMembers: boolean,
  all: ReadonlyMap<string, Declaration>,
): string {
  // A long Pick says nothing that the list of members does not; nor does a parent of ours that is no export.
  if (kind === 'type' && hasMembers) return signature.replace(/ = [\s\S]*/, '')
  const hidden = parents.filter(
    (parent) => parent.startsWith('Pick<') || (!all.has(parent) && lookUp(file, parent) !== undefined),
  )
  const shown = parents.filter((parent) => !hidden.includes(parent))
  const list = shown.length > 0 ? ` extends ${shown.join(', ')}` : ''
  const short = hidden.length > 0 ? signature.replace(/ extends .*?(?= implements |$)/s, list) : signature
  return short.replace(/:$/, '')
}

/** Those of types that are no exports are shown where they are inherited. */
function allMembers(declaration: Declaration, all: ReadonlyMap<string, Declaration>): Member[] {
  const { members, parents, file, signature, kind } = declaration
  const picks = kind === 'type' ? (/ = (Pick<[\s\S]*>)$/.exec(signature)?.slice(1) ?? []) : []
  const inherited = [...parents, ...picks].flatMap((parent) => {
    const [, picked, keys] = /^Pick<(\w+), ([\s\S]*)>$/.exec(parent) ?? []
    const found = lookUp(file, picked ?? parent)
    if (found === undefined || (picked === undefined && all.has(found.name))) return []
    const wanted = keys && new Set([...keys.matchAll(/'(\w+)'/g)].map(([, key]) => key!))
    const theirs = allMembers(found, wanted ? new Map() : all)
    return wanted ? theirs.filter(({ name }) => wanted.has(name)) : theirs
  })
  const own = new Set(members.map(({ name }) => name))
  return [...inherited.filter(({ name }) => !own.has(name)), ...members]
}

function memberLists(owner: string, members: readonly Member[], page: Page): string[] {
  const lines: string[] = []
  members.forEach((member, i) => {
    const { signature, method, name } = member
    // What a console shows is no call of anybody's.
    if (name === '[inspect.custom]') return
    // Fields without a comment belong to the one before them.
    if (!method && member.doc === undefined && i > 0 && !members[i - 1]!.method) {
      lines[lines.length - 1] = lines.at(-1)!.replace(/^(- `.*?`)(?=: |$)/, `$1, \`${signature}\``)
      return
    }
    const doc = member.doc ?? (name === '[Symbol.asyncDispose]' ? DISPOSE : undefined)
    if (doc === undefined) page.mute.push(`${owner}.${name}`)
    const [first = '', ...rest] = doc ? describe(doc) : []
    const more = rest.flatMap((text) => ['', ...text.split('\n').map((line) => `  ${line}`)])
    lines.push([`- \`${signature}\`${first && `: ${first}`}`, ...more].join('\n'))
  })
  return lines.length > 0 ? [lines.join('\n')] : []
}

const DISPOSE: Doc = { text: 'Closes it at the end of an `await using`.', params: [], internal: false }

function describe({ text, params, returns, throws }: Doc): string[] {
  const list = [
    ...params.map(([name, what]) => `- \`${name}\`: ${what}`),
    ...(returns ? [`- Returns ${returns}`] : []),
    ...(throws ? [`- Throws ${throws}`] : []),
  ]
  return [...text.split('\n\n').filter(Boolean), ...(list.length > 0 ? [list.join('\n')] : [])]
}

/** `IDENTIFY` 06h, … */
function values({ members }: Declaration): string {
  return members
    .map(({ name, signature }) => {
      const number = Number(/: (\d+)$/.exec(signature)?.[1])
      return `\`${name}\` ${number.toString(16).padStart(2, '0')}h`
    })
    .join(', ')
}

/** Codes by class; a system call's is its errno's name. */
function errorCodes(source: string): Map<string, string> {
  const classes = source.matchAll(/^export class (\w+)[\s\S]*?^ {2}readonly code(?: = '(\w+)'|: string)/gm)
  return new Map([...classes].map(([, name, code]) => [name!, code ?? 'System call errors']))
}

function errorLine({ name, doc }: Declaration, codes: ReadonlyMap<string, string>): string {
  const code = codes.get(name)
  const shown = code === undefined || code.includes(' ') ? '' : ` \`${code}\``
  return `- ${name}${shown}: ${doc?.text ?? ''}`
}

/** Names of errors as links, outside of code. */
function link(text: string, codes: ReadonlyMap<string, string>): string {
  return text
    .split(/(```[\s\S]*?```|`[^`]*`|\[[^\]]*\]\([^)]*\))/)
    .map((part, i) =>
      i % 2 === 1
        ? part
        : part.replace(/\b\w+Error\b/g, (name) => {
            const code = codes.get(name)
            return code === undefined ? name : `[${name}](errors.md#${anchor(code)})`
          }),
    )
    .join('')
}

function modules(root: string): string {
  const { exports } = JSON.parse(fs.readFileSync(path.join(root, 'package.json'), 'utf8')) as {
    exports: Record<string, string>
  }
  return Object.entries(exports)
    .filter(([, target]) => target.startsWith('./dist/lib/'))
    .map(([name, target]) => {
      const source = target.replace('./dist/', '').replace(/\.js$/, '.ts')
      const [, what] = /^\/\/ (?:[\w-]+: )?([\s\S]*?)\n(?:\/\/ Trade-off|\n)/.exec(
        fs.readFileSync(path.join(root, source), 'utf8'),
      )!
      return `- [\`unvme${name.slice(1)}\`](../${source}): ${what!.replace(/\n\/\/ /g, ' ')}`
    })
    .join('\n')
}
