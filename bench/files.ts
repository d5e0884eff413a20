// Files for fs's side of the benchmark of streams: in tmpfs, and on a disk past the page cache.
// Trade-off: what the machine does not have, or its file system refuses, is left out with a note.

import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'

const TMPFS_MAGIC = 0x01021994
const SHM = '/dev/shm'
const PIECE = 2 ** 20

interface ReadOptions {
  highWaterMark: number
  /** Last byte. */
  end: number
}

interface WriteOptions {
  highWaterMark: number
  /** To another file than the one that is read. */
  second?: boolean
}

export interface StreamFile {
  /** Where it is. */
  name: string
  /** fs.createReadStream can: with O_DIRECT it can't where the file system wants aligned memory. */
  reads: boolean
  read(options: ReadOptions): fs.ReadStream
  write(options: WriteOptions): fs.WriteStream
}

export interface Files {
  files: StreamFile[]
  notes: string[]
  remove(): void
}

/** Files of `bytes`, written to; call `remove` at the end. */
export function makeFiles(bytes: number): Files {
  const files: StreamFile[] = []
  const notes: string[] = []
  const folders: string[] = []
  const make = (parent: string) => {
    const folder = fs.mkdtempSync(path.join(parent, 'unvme-bench-'))
    folders.push(folder)
    for (const name of ['a', 'b']) writeFile(path.join(folder, name), bytes)
    return folder
  }
  if (fs.existsSync(SHM) && fs.statfsSync(SHM).type === TMPFS_MAGIC) {
    files.push(streamFile('tmpfs', make(SHM), 0))
  } else {
    notes.push(`${SHM} is not tmpfs here: fs on tmpfs is left out`)
  }
  const parent = os.tmpdir()
  const { O_DIRECT } = fs.constants
  const folder = make(parent)
  if (fs.statfsSync(parent).type !== TMPFS_MAGIC && opens(path.join(folder, 'a'), O_DIRECT)) {
    files.push(streamFile('O_DIRECT', folder, O_DIRECT))
  } else {
    notes.push(`${parent} is on no disk, or its file system refuses O_DIRECT: fs with O_DIRECT is left out`)
  }
  const remove = () => {
    for (const folder of folders) fs.rmSync(folder, { recursive: true })
  }
  return { files, notes, remove }
}

function writeFile(file: string, bytes: number): void {
  const fd = fs.openSync(file, 'w')
  const data = Buffer.alloc(PIECE, 0x5a)
  for (let at = 0; at < bytes; at += PIECE) fs.writeSync(fd, data)
  fs.fsyncSync(fd)
  fs.closeSync(fd)
}

function opens(file: string, flag: number): boolean {
  try {
    fs.closeSync(fs.openSync(file, fs.constants.O_RDONLY | flag))
    return true
  } catch {
    return false
  }
}

function streamFile(name: string, folder: string, flag: number): StreamFile {
  const { O_RDONLY, O_WRONLY } = fs.constants
  const first = path.join(folder, 'a')
  const second = path.join(folder, 'b')
  return {
    name,
    reads: flag === 0 || canRead(first, flag),
    // With a descriptor, since createReadStream takes flags as a word only.
    read: (options) =>
      fs.createReadStream(first, { ...options, fd: fs.openSync(first, O_RDONLY | flag), start: 0 }),
    write({ highWaterMark, second: other = false }) {
      const file = other ? second : first
      return fs.createWriteStream(file, { highWaterMark, fd: fs.openSync(file, O_WRONLY | flag), start: 0 })
    },
  }
}

/** Reads as fs.createReadStream does, into memory from anywhere. */
function canRead(file: string, flag: number): boolean {
  const fd = fs.openSync(file, fs.constants.O_RDONLY | flag)
  try {
    for (const bytes of [4096, 65536, PIECE]) fs.readSync(fd, Buffer.allocUnsafeSlow(bytes), 0, bytes, 0)
    return true
  } catch {
    return false
  } finally {
    fs.closeSync(fd)
  }
}
