// A queue of one path whose commands are answered by a test.

import type { PathLegQueue } from '../../lib/nvme/paths/path-queue.ts'
import type { Geometry } from '../../src/queue/geometry.ts'

/** Entries of each. */
export const FAKE_ENTRIES = 9

/** A queue whose commands are answered by the test. */
export class FakeQueue implements PathLegQueue {
  readonly qid = 1
  readonly entries = FAKE_ENTRIES
  readonly maxBytes = 4096
  readonly sliceMs = 1
  readonly counters = { submitted: 0, doorbells: 0, late: 0, stray: 0 }
  lost = 0
  onLate: ((cid: number) => void) | null = null
  dirty = false
  status = 0
  result = 0
  resultHigh = 0
  /** In flight, in order, and answered: each with its first address dword (cdw10) as a tag. */
  readonly posted: { cid: number; opcode: number; nsid: number; tag: number }[] = []
  readonly answered: { cid: number; tag: number; status: number }[] = []
  #free = Array.from({ length: FAKE_ENTRIES - 1 }, (_, i) => i)

  get inFlight() {
    return this.posted.length + this.answered.length
  }
  get available() {
    return this.#free.length
  }
  post(...[opcode, nsid, , , , tag]: Parameters<PathLegQueue['post']>) {
    const cid = this.#free.shift()
    if (cid === undefined) return -1
    this.posted.push({ cid, opcode, nsid, tag })
    this.counters.submitted++
    return cid
  }
  answer(at: number, status: number) {
    const [one] = this.posted.splice(at % this.posted.length, 1)
    if (one !== undefined) this.answered.push({ cid: one.cid, tag: one.tag, status })
    return one
  }
  reap() {
    const one = this.answered.shift()
    if (one === undefined) return -1
    this.#free.push(one.cid)
    this.status = one.status
    this.result = one.tag
    return one.cid
  }
  abandon() {
    this.lost += this.posted.length
    this.posted.length = 0
  }
  reset() {
    this.lost = 0
    this.posted.length = this.answered.length = 0
    this.#free = Array.from({ length: FAKE_ENTRIES - 1 }, (_, i) => i)
  }
  pointMetadata() {}
  ring() {}
  acknowledge() {}
  step() {}
  expire() {}
  refresh() {}
  idOf(cid: number) {
    return cid
  }
  free() {}
}

/** A namespace of 512-byte blocks. */
export const fakeGeometry = (nsid: number, maxbpio: number): Geometry => ({
  ...{ nsid, blockcount: 2 ** 20, blocksize: 512, blockshift: 9, maxbpio },
  ...{ metadataBytes: 0, separateBytes: 0, interleavedBytes: 0, flags: 0 },
})
