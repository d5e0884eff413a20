// Block maps of images (bmaptool's .bmap, XML): which blocks of an image are mapped, with a checksum for each range of them.
// Versions 1.3, 1.4 and 2.0 are read, and those before, which have no checksums; 2.0 is written.
// A parser of its own for the few elements that there are: an XML library would be the largest dependency.

import { createHash, getHashes, type Hash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { DecodeError, UnsupportedError, VerifyError } from '../../lib/errors.ts'
import type { Extent } from './extents.ts'

/** Mapped blocks, from `first` to `last`, with the checksum of their bytes. */
interface MappedRange {
  readonly first: number
  readonly last: number
  readonly checksum: string | undefined
}

export interface BlockMap {
  /** Bytes of the image; the last block may be cut by it. */
  readonly imageBytes: number
  readonly blockBytes: number
  readonly mappedBlocks: number
  /** Name of the hash, as node:crypto has it; undefined where there are no checksums. */
  readonly hash: string | undefined
  readonly ranges: readonly MappedRange[]
}

const MAX_MAJOR = 2
/** Bytes of a block of the maps that are made. */
export const MAP_BLOCK_BYTES = 4096
const HASH = 'sha256'

// A pattern would look for the end of each comment again, where none has one.
function withoutComments(text: string): string {
  let plain = ''
  for (let at = 0; ; ) {
    const start = text.indexOf('<!--', at)
    const end = start < 0 ? -1 : text.indexOf('-->', start)
    if (end < 0) return plain + text.slice(at)
    plain += text.slice(at, start)
    at = end + 3
  }
}

/**
 * @param name for messages
 * @throws DecodeError for what is no block map, or contradicts itself; VerifyError where its own checksum is another;
 * UnsupportedError for a version above 2
 */
export function parseBlockMap(text: string, name: string): BlockMap {
  const fail = (what: string): never => {
    throw new DecodeError(`${name}: ${what}`)
  }
  const plain = withoutComments(text)
  const version = /<bmap\s+[^>]*\bversion\s*=\s*"\s*(\d+)\.(\d+)\s*"/.exec(plain) ?? fail('no block map')
  if (Number(version[1]) > MAX_MAJOR) {
    throw new UnsupportedError(
      `${name}: a block map of version ${version[1]}.${version[2]}, and not 1.x or 2.x`,
    )
  }
  const element = (tag: string) => new RegExp(`<${tag}\\s*>([^<]*)</${tag}\\s*>`).exec(plain)?.[1]?.trim()
  const count = (tag: string) => {
    const value = Number(element(tag) ?? fail(`no ${tag}`))
    return Number.isSafeInteger(value) && value >= 0 ? value : fail(`${tag} is ${element(tag)}`)
  }
  const imageBytes = count('ImageSize')
  const blockBytes = count('BlockSize')
  const blocks = count('BlocksCount')
  const mappedBlocks = count('MappedBlocksCount')
  if (blockBytes === 0 || blocks !== Math.ceil(imageBytes / blockBytes)) {
    fail(`${imageBytes} bytes are not ${blocks} blocks of ${blockBytes}`)
  }
  const hash = hashOf(element('ChecksumType'), version, name)
  checkFile(text, element('BmapFileChecksum') ?? element('BmapFileSHA1'), hash, name)
  const body = /<BlockMap\s*>([\s\S]*?)<\/BlockMap\s*>/.exec(plain)?.[1] ?? fail('no BlockMap')
  const ranges: MappedRange[] = []
  let next = 0
  for (const [, attributes, words] of body.matchAll(/<Range\b([^>]*)>([^<]*)<\/Range\s*>/g)) {
    const parts = /^\s*(\d+)\s*(?:-\s*(\d+)\s*)?$/.exec(words!) ?? fail(`Range ${words}`)
    const first = Number(parts[1])
    const last = Number(parts[2] ?? first)
    if (first < next || last < first || last >= blocks) fail(`Range ${words!.trim()} of ${blocks} blocks`)
    next = last + 1
    const checksum = /\b(?:chksum|sha1)\s*=\s*"\s*([0-9a-fA-F]+)\s*"/.exec(attributes!)?.[1]?.toLowerCase()
    if (hash !== undefined && checksum === undefined) fail(`Range ${words!.trim()} has no checksum`)
    ranges.push({ first, last, checksum })
  }
  const sum = ranges.reduce((all, { first, last }) => all + last - first + 1, 0)
  if (sum !== mappedBlocks) fail(`its ranges have ${sum} blocks, and MappedBlocksCount is ${mappedBlocks}`)
  return { imageBytes, blockBytes, mappedBlocks, hash, ranges }
}

function hashOf(type: string | undefined, version: RegExpExecArray, name: string): string | undefined {
  const [major, minor] = [Number(version[1]), Number(version[2])]
  // 1.3 is the first that has checksums, by an element of their own name.
  if (type === undefined) return major === 1 && minor === 3 ? 'sha1' : undefined
  const hash = type.toLowerCase()
  if (getHashes().includes(hash)) return hash
  throw new UnsupportedError(`${name}: checksums of the type ${type}, which this Node does not have`)
}

// The checksum of the whole file, with zeroes in place of its digits.
function checkFile(text: string, wanted: string | undefined, hash: string | undefined, name: string): void {
  if (wanted === undefined || hash === undefined) return
  const cleared = text.replace(
    /(<(BmapFileChecksum|BmapFileSHA1)\s*>\s*)([0-9a-fA-F]+)(\s*<)/,
    (_, before, _tag, digits, after) => before + '0'.repeat(digits.length) + after,
  )
  const found = createHash(hash).update(cleared).digest('hex')
  if (found !== wanted.toLowerCase()) {
    throw new VerifyError(`${name} is damaged: its ${hash} is ${found}, and it says ${wanted}`)
  }
}

/** Reads a block map. Undefined where there is no such file. */
export async function readBlockMap(file: string): Promise<BlockMap | undefined> {
  const text = await readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT' && error.code !== 'ENOTDIR') throw error
  })
  return text === undefined ? undefined : parseBlockMap(text, file)
}

/** Where the block map of an image may be: its path with .bmap, also without extensions, one by one. */
export function blockMapPaths(image: string): string[] {
  const paths = [`${image}.bmap`]
  for (let rest = image; /[^/.]\.[^/.]+$/.test(rest); ) {
    rest = rest.replace(/\.[^/.]+$/, '')
    paths.push(`${rest}.bmap`)
  }
  return paths
}

/** What the bytes of the image are. @param holes of what is not mapped: nothing is written there, or zeroes */
export function* mapExtents(map: BlockMap, holes: 'keep' | 'zero'): Generator<Extent> {
  const kind = holes === 'keep' ? 'unmapped' : 'zero'
  let at = 0
  for (const { first, last } of map.ranges) {
    const from = first * map.blockBytes
    const to = Math.min(map.imageBytes, (last + 1) * map.blockBytes)
    if (from > at) yield { at, bytes: from - at, kind }
    yield { at: from, bytes: to - from, kind: 'data' }
    at = to
  }
  if (at < map.imageBytes) yield { at, bytes: map.imageBytes - at, kind }
}

/**
 * What checks an image's bytes while they are read in order, with gaps: a range that is read in part is not checked.
 * Throws VerifyError where a range has another checksum.
 */
export function mapChecker(map: BlockMap, name: string): ((data: Buffer, at: number) => void) | undefined {
  const { hash, blockBytes, imageBytes, ranges } = map
  if (hash === undefined) return undefined
  let index = 0
  let sum: Hash | undefined
  let expected = 0
  return (data, position) => {
    for (let at = position; at < position + data.length; ) {
      while (index < ranges.length && endOf(ranges[index]!) <= at) {
        index++
        sum = undefined
      }
      const range = ranges[index]
      if (range === undefined) return
      const start = range.first * blockBytes
      const from = Math.max(at, start)
      const to = Math.min(position + data.length, endOf(range))
      if (to <= from) return
      if (from === start) sum = createHash(hash)
      else if (from !== expected) sum = undefined
      sum?.update(data.subarray(from - position, to - position))
      expected = to
      at = to
      if (to < endOf(range) || sum === undefined) continue
      const found = sum.digest('hex')
      if (found !== range.checksum) {
        throw new VerifyError(
          `${name}: blocks ${range.first} to ${range.last} (from byte ${start} on) are not what its block map says: ${hash} ${found}, and not ${range.checksum}`,
        )
      }
    }
  }
  function endOf({ last }: MappedRange): number {
    return Math.min(imageBytes, (last + 1) * blockBytes)
  }
}

/** Makes a block map of what passes: data in order, with gaps for holes. */
export class BlockMapMaker {
  readonly #ranges: { first: number; last: number; checksum: string }[] = []
  #sum: Hash | undefined
  #first = 0
  #at = -1

  /** @param at a multiple of the block size */
  add(data: Buffer, at: number): void {
    if (at !== this.#at) {
      this.#close()
      this.#first = at / MAP_BLOCK_BYTES
      this.#sum = createHash(HASH)
    }
    this.#sum!.update(data)
    this.#at = at + data.length
  }

  /** The map's text. @param bytes of the image */
  end(bytes: number): string {
    this.#close()
    const blocks = Math.ceil(bytes / MAP_BLOCK_BYTES)
    const mapped = this.#ranges.reduce((sum, { first, last }) => sum + last - first + 1, 0)
    const lines = [
      '<?xml version="1.0" ?>',
      '<bmap version="2.0">',
      `    <ImageSize> ${bytes} </ImageSize>`,
      `    <BlockSize> ${MAP_BLOCK_BYTES} </BlockSize>`,
      `    <BlocksCount> ${blocks} </BlocksCount>`,
      `    <MappedBlocksCount> ${mapped} </MappedBlocksCount>`,
      `    <ChecksumType> ${HASH} </ChecksumType>`,
      `    <BmapFileChecksum> ${'0'.repeat(64)} </BmapFileChecksum>`,
      '    <BlockMap>',
      ...this.#ranges.map(
        ({ first, last, checksum }) =>
          `        <Range chksum="${checksum}"> ${first === last ? first : `${first}-${last}`} </Range>`,
      ),
      '    </BlockMap>',
      '</bmap>',
      '',
    ]
    const text = lines.join('\n')
    return text.replace('0'.repeat(64), createHash(HASH).update(text).digest('hex'))
  }

  #close(): void {
    if (this.#sum === undefined) return
    const last = Math.ceil(this.#at / MAP_BLOCK_BYTES) - 1
    this.#ranges.push({ first: this.#first, last, checksum: this.#sum.digest('hex') })
    this.#sum = undefined
  }
}
