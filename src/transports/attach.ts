// A transport in a worker thread, by the kind that its owner has opened: each is loaded when a ticket asks for it.

import type { SharedDma } from '../../lib/memory/source.ts'
import type { AttachedTransport, TransportShare } from '../../lib/nvme/host/transport.ts'
import type { KernelShare } from '../../lib/nvme/linux/transport.ts'
import type { TcpShare } from '../../lib/nvme/tcp/connect.ts'
import type { FunctionShare } from '../../lib/pci/function.ts'
import { WriteClaims } from '../system/claims.ts'

/** @param dma asks the owner for memory */
export type AttachTransport = (share: TransportShare, dma: SharedDma) => AttachedTransport

export async function loadAttach(kind: string): Promise<AttachTransport> {
  if (kind === 'tcp') {
    const { AttachedTcp } = await import('../../lib/nvme/tcp/attach.ts')
    return (share) => new AttachedTcp(share as TcpShare)
  }
  if (kind !== 'kernel') {
    const { AttachedPcie } = await import('../../lib/nvme/pcie/attach.ts')
    return (share, dma) => new AttachedPcie(share as FunctionShare, dma)
  }
  const { AttachedKernel } = await import('../../lib/nvme/linux/attach.ts')
  return (share, dma) => {
    const kernel = share as KernelShare
    const { words } = kernel.extra as { words: Int32Array<SharedArrayBuffer> }
    const claims = new WriteClaims(words)
    return new AttachedKernel(kernel, dma, (block) => claims.check(block))
  }
}
