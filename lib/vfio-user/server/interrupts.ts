// Eventfds of a client, signalled for its MSI-X vectors.
// They are made non-blocking when they come, and looked at before each write, since their client can undo that: a full
// one does not hold the server up.

import fs from 'node:fs'
import { logger } from '../../log/index.ts'
import { close, F, fcntl, POLL } from '../../sys/libc.ts'
import { IRQ, IRQ_SET, type IrqSet } from '../../vfio-abi/device.ts'
import { waitFor } from '../socket.ts'
import { Refusal } from './refusal.ts'

const log = logger('vfio-user')
const ONE = Buffer.from([1, 0, 0, 0, 0, 0, 0, 0])

export class ServedInterrupts {
  readonly #vectors: (number | undefined)[]

  constructor(vectors: number) {
    this.#vectors = new Array<number | undefined>(vectors).fill(undefined)
  }

  /** SET_IRQS: takes the descriptors that it keeps out of `fds`. */
  set({ flags, index, start, count }: IrqSet, fds: number[]): void {
    if (index > IRQ.REQ) throw new Refusal('EINVAL', `SET_IRQS of index ${index}`)
    const kind = flags & ~IRQ_SET.ACTION_TRIGGER
    if ((flags & IRQ_SET.ACTION_TRIGGER) === 0) throw new Refusal('ENOTSUP', 'SET_IRQS that masks')
    if (kind === IRQ_SET.DATA_NONE && count === 0) {
      if (index === IRQ.MSIX) this.clear()
      return
    }
    if (index !== IRQ.MSIX) throw new Refusal('EINVAL', `SET_IRQS: index ${index} has no interrupts`)
    if (start + count > this.#vectors.length) {
      throw new Refusal('EINVAL', `SET_IRQS of ${count} from ${start} on: there are ${this.#vectors.length}`)
    }
    if (kind === IRQ_SET.DATA_NONE) {
      for (let vector = start; vector < start + count; vector++) this.signal(vector)
      return
    }
    if (kind !== IRQ_SET.DATA_EVENTFD) throw new Refusal('ENOTSUP', `SET_IRQS with flags ${flags}`)
    // No descriptors: these vectors signal no one any more.
    if (fds.length !== 0 && fds.length !== count) {
      throw new Refusal('EINVAL', `SET_IRQS of ${count} with ${fds.length} descriptors`)
    }
    // Anything else could hold the server up when it is written to.
    if (!fds.every(isEventfd)) throw new Refusal('EINVAL', 'SET_IRQS: a descriptor is no eventfd')
    if (!fds.every(setNonBlocking))
      throw new Refusal('EINVAL', 'SET_IRQS: a descriptor can’t be made non-blocking')
    for (let vector = start; vector < start + count; vector++) {
      this.#drop(vector)
      this.#vectors[vector] = fds.shift()
    }
  }

  signal(vector: number): void {
    const fd = this.#vectors[vector]
    if (fd === undefined) return
    try {
      // It is full: whoever reads it is signalled.
      if ((waitFor(fd, POLL.OUT, 0) & POLL.OUT) === 0) return
      fs.writeSync(fd, ONE)
    } catch (error) {
      // Filled by somebody else meanwhile.
      if ((error as NodeJS.ErrnoException).code === 'EAGAIN') return
      log('vector %d is not signalled any more: %s', vector, error)
      this.#drop(vector)
    }
  }

  clear(): void {
    for (let vector = 0; vector < this.#vectors.length; vector++) this.#drop(vector)
  }

  #drop(vector: number): void {
    const fd = this.#vectors[vector]
    this.#vectors[vector] = undefined
    if (fd !== undefined) close(fd)
  }
}

function setNonBlocking(fd: number): boolean {
  const flags = fcntl(fd, F.GETFL, 0)
  return flags >= 0 && fcntl(fd, F.SETFL, flags | fs.constants.O_NONBLOCK) === 0
}

const isEventfd = (fd: number): boolean => fs.readlinkSync(`/proc/self/fd/${fd}`) === 'anon_inode:[eventfd]'
