// The checksum that a file beside an image says: IMAGE.sha256, as sha256sum writes it, with and without --tag, or bare digits.

import { readFile } from 'node:fs/promises'
import path from 'node:path'
import { DecodeError } from '../../lib/errors.ts'

/**
 * Undefined where there is no such file, or it says nothing of this image.
 * @throws DecodeError for one that has no checksum at all
 */
export async function readSidecar(image: string): Promise<{ file: string; sum: string } | undefined> {
  const file = `${image}.sha256`
  const text = await readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT' && error.code !== 'ENOTDIR') throw error
  })
  if (text === undefined) return undefined
  const wanted = path.basename(image)
  let some = false
  for (const line of text.split('\n')) {
    const tagged = /^SHA256 \((.*)\) = ([0-9a-f]{64})\s*$/i.exec(line)
    const plain = /^\\?([0-9a-f]{64})(?: [ *](.*?))?\s*$/i.exec(line)
    const [sum, name] = tagged ? [tagged[2], tagged[1]] : [plain?.[1], plain?.[2]]
    if (sum === undefined) continue
    some = true
    if (name === undefined || path.basename(name) === wanted) return { file, sum: sum.toLowerCase() }
  }
  if (!some) throw new DecodeError(`${file} has no SHA-256`)
  return undefined
}
