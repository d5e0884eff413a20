// Reads declarations with their comments out of the compiler's .d.ts files, for docs/api.md.
// By lines and braces, not by a parser: the compiler writes these files in one form, and what is not
// understood has no entry, which the test of the page finds.

import fs from 'node:fs'
import path from 'node:path'

/** A comment taken apart. */
export interface Doc {
  text: string
  params: readonly (readonly [name: string, text: string])[]
  returns?: string
  throws?: string
  internal: boolean
}

export interface Member {
  /** Its declaration in one line, without the semicolon. */
  signature: string
  name: string
  method: boolean
  doc: Doc | undefined
}

export interface Declaration {
  name: string
  kind: 'function' | 'class' | 'interface' | 'type' | 'const'
  /** What stands before a body, or all of it. */
  signature: string
  doc: Doc | undefined
  members: readonly Member[]
  /** Types that it extends. */
  parents: readonly string[]
  file: string
}

/** What an index file exports, by name, types included: follows `export … from` to the declarations. */
export function exportsOf(file: string): Map<string, Declaration> {
  const found = new Map<string, Declaration>()
  const text = fs.readFileSync(file, 'utf8')
  for (const declaration of declarationsOf(file)) found.set(declaration.name, declaration)
  for (const [, names, target] of text.matchAll(/^export (?:type )?(\*|\{[^}]*\}) from '([^']+)';/gm)) {
    const others = exportsOf(resolve(file, target!))
    const wanted = names === '*' ? [...others.keys()] : namesIn(names!)
    for (const name of wanted) {
      const declaration = others.get(name)
      if (declaration === undefined) throw new Error(`${file}: ${name} is not found in ${target}`)
      found.set(name, declaration)
    }
  }
  return found
}

/** The declaration of a name as a file sees it: its own, or an imported one. */
export function lookUp(file: string, name: string): Declaration | undefined {
  const own = declarationsOf(file, true).find((one) => one.name === name)
  if (own) return own
  for (const [, names, target] of fs
    .readFileSync(file, 'utf8')
    .matchAll(/^import (?:type )?(\{[^}]*\}) from '(\.[^']+)';/gm)) {
    if (namesIn(names!).includes(name)) return exportsOf(resolve(file, target!)).get(name)
  }
  return undefined
}

const namesIn = (braces: string) =>
  braces
    .slice(1, -1)
    .split(',')
    .map((word) => word.trim().replace(/^type /, ''))
    .filter(Boolean)

const resolve = (file: string, target: string) =>
  path.join(path.dirname(file), target.replace(/\.ts$/, '.d.ts'))

const HEAD = /^(export )?(?:declare )?(?:abstract )?(function|class|interface|type|const) (\w+)/

function declarationsOf(file: string, local = false): Declaration[] {
  const parts = split(fs.readFileSync(file, 'utf8').split('\n'), 0)
  return parts.flatMap(({ comment, lines }) => {
    const [, exported, kind, name] = HEAD.exec(lines[0]!) ?? []
    if (kind === undefined || name === undefined || (!exported && !local)) return []
    const whole = lines.join('\n')
    const body = kind !== 'function' && kind !== 'type' && whole.includes('{\n')
    const head = body ? lines[0]! : whole
    return [
      {
        name,
        kind: kind as Declaration['kind'],
        signature: head.replace(/^export (declare )?/, '').replace(/( \{|;)$/, ''),
        doc: comment === undefined ? undefined : readDoc(comment),
        members: body ? membersOf(lines.slice(1, -1)) : [],
        parents: parentsOf(whole.split('{')[0]!),
        file,
      },
    ]
  })
}

/** `extends A, Pick<B, 'x' | 'y'> implements …`. */
function parentsOf(head: string): string[] {
  const list = / extends (.*?)(?: implements .*)?$/s.exec(head.trim())?.[1] ?? ''
  return list.split(/,(?![^<]*>)/).flatMap((word) => (word.trim() === '' ? [] : [word.trim()]))
}

interface Part {
  comment: string | undefined
  lines: string[]
}

/** Parts of a file, or of a body, at one depth of indentation: each a comment, if any, and a declaration. */
function split(lines: readonly string[], indent: number): Part[] {
  const parts: Part[] = []
  let comment: string[] = []
  let part: string[] = []
  let inComment = false
  for (const line of lines.map((one) => one.slice(indent))) {
    if (part.length === 0 && line.startsWith('/**')) {
      inComment = true
      comment = []
    }
    if (inComment) {
      comment.push(line)
      inComment = !line.endsWith('*/')
      continue
    }
    if (part.length === 0 && line.trim() === '') continue
    part.push(line)
    if (!/^\s/.test(line) && /[;}]$/.test(line) && isClosed(part)) {
      parts.push({ comment: comment.length > 0 ? comment.join('\n') : undefined, lines: part })
      part = []
      comment = []
    }
  }
  return parts
}

function isClosed(lines: readonly string[]): boolean {
  const code = lines.join('\n').replace(/\/\*\*[\s\S]*?\*\//g, '')
  return code.split('{').length === code.split('}').length
}

function membersOf(lines: readonly string[]): Member[] {
  return split(lines, 4).flatMap(({ comment, lines: [first, ...rest] }) => {
    const text = [first, ...rest.map((line) => line.trim())].join(' ').replace(/;$/, '')
    const [, getter, name] = /^(?:readonly |abstract )*(get )?(\[[\w.]+\]|[#\w]+)/.exec(text) ?? []
    const doc = comment === undefined ? undefined : readDoc(comment)
    const hidden = name === undefined || /^(#private|constructor$|_|private)/.test(name) || doc?.internal
    if (hidden) return []
    const signature = getter ? text.replace(/^get (\w+)\(\)/, 'readonly $1') : text
    const method = /^(\[[\w.]+\]|\w+)\??(<.*?>)?\(/.test(signature)
    return [{ name, signature, method, doc }]
  })
}

function readDoc(comment: string): Doc {
  const text = comment
    .replace(/^\/\*\*\s?|\s*\*\/$/g, '')
    .split('\n')
    .map((line) => line.replace(/^\s*\* ?/, ''))
    .join('\n')
  const [prose, ...tags] = text.split(/^@|(?<=\s)@(?=internal)/m)
  const tagged = (name: string) =>
    tags.filter((tag) => tag.startsWith(`${name} `)).map((tag) => flat(tag.slice(name.length + 1)))
  const [returns] = tagged('returns')
  const [throws] = tagged('throws')
  return {
    text: prose!
      .trim()
      .split(/\n\s*\n/)
      .map(flat)
      .join('\n\n'),
    params: tagged('param').map((tag) => {
      const [, name, what] = /^(\w+) (.*)$/s.exec(tag)!
      return [name!, what!] as const
    }),
    ...(returns !== undefined && { returns }),
    ...(throws !== undefined && { throws }),
    internal: tags.some((tag) => tag.startsWith('internal')),
  }
}

const flat = (text: string) => text.trim().replace(/\s*\n\s*/g, ' ')
