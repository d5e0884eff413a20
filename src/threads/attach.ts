// A namespace in a worker thread, on queues that another thread has lent.
// Trade-off: the same Namespace on the same queue code; only the controller behind it is another.

import { threadId } from 'node:worker_threads'
import { ArgumentTypeError, ClosedError, QueueOwnerError } from '../../lib/errors.ts'
import { Device } from '../controller/device.ts'
import { Namespace } from '../namespace/namespace.ts'
import { AttachedController } from './attached-controller.ts'
import { LOAN, type QueueTicket, WORD } from './protocol.ts'

/** See index.ts. */
export async function attach(ticket: QueueTicket): Promise<Namespace> {
  if (ticket?.kind !== 'unvme.queues') {
    throw new ArgumentTypeError('attach: a ticket from lend is needed, with its port in the transfer list')
  }
  const { device: share, words, owner } = ticket
  if (owner === threadId) {
    throw new QueueOwnerError(
      `attach: the queues of ${share.address} are lent by this thread; attach in another`,
    )
  }
  const state = Atomics.compareExchange(words, WORD.STATE, LOAN.OFFERED, LOAN.ATTACHED)
  if (state === LOAN.ENDED) throw new ClosedError(`attach: the queues of ${share.address} were recalled`)
  if (state !== LOAN.OFFERED)
    throw new QueueOwnerError(`attach: the queues of ${share.address} are attached already`)
  const controller = new AttachedController(ticket)
  const device = new Device(controller, share.namespaces, share.retries)
  device.qsize = share.qsize
  device.maxqcount = share.maxqcount
  for (const pair of share.pairs) {
    device.addQueue(controller.attachQueue(pair), share.geometry)
  }
  const buffers = share.buffers.map((buffer) => controller.pool.adopt(buffer))
  const ns = new Namespace(device, share.geometry, share.address, buffers)
  controller.onRecall = () => {
    // Other namespaces of the controller that this thread opened do not keep the queues.
    void ns.close().finally(() => controller.close())
  }
  return ns
}
