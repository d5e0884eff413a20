// Which block devices of the kernel this process may write: asked before the first write to each, by the one rule for what
// is overwritten, and held from then on so that no other user comes in between.

import fs from 'node:fs'
import { close, F, fcntl, systemCallError } from '../../lib/sys/libc.ts'
import { claimToWrite } from './writable.ts'

// Namespaces of one controller. Each has two words: what is known of it, and further on whether its writing is forced.
const WORDS = 4096
// What is known of a namespace: nothing, that it may be written though it can't be held, that a thread is about to find
// out, or the descriptor that holds it, plus one.
// As a program and as a command line write it.
const FORCE_WORD = 'force: true, or --force,'
const UNKNOWN = 0
const FREE = -1
const ASKING = -2
// A look at every process of a machine takes some tens of milliseconds.
const PATIENCE_MS = 10_000

/** The namespaces of one controller that are held, for all threads that write them. */
export class WriteClaims {
  /** For another thread, which makes its own object of them. */
  readonly words: Int32Array

  constructor(words = new Int32Array(new SharedArrayBuffer(4 * 2 * WORDS))) {
    this.words = words
  }

  /**
   * From now on a namespace is written whoever uses it.
   * @param block `nvme0n1`; undefined for every one
   */
  force(block?: string): void {
    if (block === undefined) this.words.fill(1, WORDS)
    else Atomics.store(this.words, WORDS + indexOf(block), 1)
  }

  /**
   * Why a namespace's block device must not be written, or null where it may, and is held from now on.
   * @param block `nvme0n1`
   */
  check(block: string): Error | null {
    const { words } = this
    const at = indexOf(block)
    const force = Atomics.load(words, WORDS + at) !== 0
    for (;;) {
      const word = Atomics.compareExchange(words, at, UNKNOWN, ASKING)
      if (word === UNKNOWN) break
      if (word !== ASKING) return null
      // Another thread asks, and holds it for this one, too.
      if (Atomics.wait(words, at, ASKING, PATIENCE_MS) !== 'timed-out') continue
      // It was ended meanwhile.
      Atomics.compareExchange(words, at, ASKING, UNKNOWN)
    }
    let answer = UNKNOWN
    try {
      const fd = keep(claimToWrite(`/dev/${block}`, { force, forceWord: FORCE_WORD }))
      answer = fd === null ? FREE : fd + 1
      return null
    } catch (error) {
      return error as Error
    } finally {
      Atomics.store(words, at, answer)
      Atomics.notify(words, at)
    }
  }

  /** Lets go of all of them. */
  close(): void {
    for (let at = 0; at < WORDS; at++) {
      const word = Atomics.exchange(this.words, at, UNKNOWN)
      if (word > 0) close(word - 1)
    }
  }
}

const indexOf = (block: string) => Number(/\d+$/.exec(block)![0]) % WORDS

// A thread closes at its end what it has opened by Node: a copy of the descriptor is the process's.
function keep(fd: number | null): number | null {
  if (fd === null) return null
  const copy = fcntl(fd, F.DUPFD_CLOEXEC, 0)
  fs.closeSync(fd)
  if (copy < 0) throw systemCallError('fcntl')
  return copy
}
