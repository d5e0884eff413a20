// What sysfs says of a block device that was found by its node: its number and its sizes.

import fs from 'node:fs'

type Node = Pick<fs.Stats | fs.BigIntStats, 'rdev'>

/** `259:1`, as sysfs writes it. */
export function deviceNumber(node: Node): string {
  const rdev = Number(node.rdev)
  // Linux's encoding.
  const major = ((rdev >>> 8) & 0xfff) | (Math.floor(rdev / 2 ** 32) & ~0xfff)
  const minor = (rdev & 0xff) | ((rdev >>> 12) & 0xfff00)
  return `${major}:${minor}`
}

/** Its bytes. Throws Node's system error where sysfs can't be read. */
export function deviceBytes(node: Node): number {
  // In 512 bytes, whatever the device's own blocks are.
  return readNumber(node, 'size') * 512
}

/** Bytes of a logical block. Throws Node's system error where sysfs can't be read. */
export function deviceBlockBytes(node: Node): number {
  try {
    return readNumber(node, 'queue/logical_block_size')
  } catch {
    // A partition has its disk's.
    return readNumber(node, '../queue/logical_block_size')
  }
}

function readNumber(node: Node, file: string): number {
  return Number(fs.readFileSync(`/sys/dev/block/${deviceNumber(node)}/${file}`, 'utf8'))
}
