// Namespaces that may have other users: each is asked about before it is first written, whatever else is written before.

import test from 'ava'
import { type DmaAllocation, tagFor } from '../../lib/memory/tag.ts'
import { NVM } from '../../lib/nvme/spec/opcodes.ts'
import { IoQueue } from '../../src/queue/io-queue.ts'
import { FakeQueue, fakeGeometry } from '../support/fake-queue.ts'

test('IoQueue asks about a namespace also after writes to one that is not open', (t) => {
  const asked: number[] = []
  const pair = new FakeQueue()
  const geometries = [1, 2, 3].map((nsid) => fakeGeometry(nsid, 8))
  const controller = {
    ...{ timeout: 1e9, retries: 0, anatt: 0, retryDelays: [0, 0, 0] },
    ...{ checkHealth() {}, expired: () => false, namespaces: () => [1, 2] },
    mayWrite(nsid: number) {
      asked.push(nsid)
      return nsid === 2 ? new Error('in use') : null
    },
  }
  const queue = new IoQueue(controller, pair, geometries[0]!)
  for (const nsid of [1, 2]) queue.guardWrites(nsid)
  const allocation: DmaAllocation = {
    ...{ owner: null, iova: 0, bytes: 4096, users: 0, discarded: false },
    pool: { tagOf: () => tagFor(allocation, 0), reclaim() {} },
  }
  const errors = [3, 1, 2, 2].map((nsid) => {
    const op = queue.operations.take()
    queue.transfer(op, geometries[nsid - 1]!, NVM.WRITE, Buffer.alloc(0), tagFor(allocation, 0), 0, 1)
    return op.error()?.message
  })
  t.deepEqual(errors, [undefined, undefined, 'in use', 'in use'])
  t.deepEqual(
    pair.posted.map(({ nsid }) => nsid),
    [3, 1],
  )
  t.deepEqual(asked, [3, 1, 2, 2])
})
