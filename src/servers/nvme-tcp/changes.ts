// What a server hears of changes of a device's namespaces: by the device's events, which it is asked for after each reset as well,
// and by what this process itself sends, of which there is no event.

import { UnsupportedError } from '../../../lib/errors.ts'
import { logger } from '../../../lib/log/index.ts'
import { ASYNC_EVENT, ASYNC_NOTICE, decodeAsyncEvent } from '../../../lib/nvme/spec/async-event.ts'
import { FEATURE } from '../../../lib/nvme/spec/features.ts'
import { CHANGED_NAMESPACES_LOG_BYTES, LOG_PAGE } from '../../../lib/nvme/spec/logs.ts'
import { ADMIN, ALL_NAMESPACES } from '../../../lib/nvme/spec/opcodes.ts'
import type { DeviceNamespace } from './namespace.ts'

const log = logger('serve')

const NOTICES = 1 << 8

export interface ChangeWatcher {
  /** What may change namespaces was sent; `ended` resolves when it has ended. */
  onFormat(ended: Promise<unknown>): void
  /** Namespaces were changed, by whomever. */
  onChange(): void
}

/** Returns what ends it. */
export function watchChanges(controller: DeviceNamespace['controller'], watcher: ChangeWatcher): () => void {
  const failed = ({ message }: Error) => log('events of namespaces: %s', message)
  // Where it is set already it is not set again: somebody may want more.
  const ask = async () => {
    if ((controller.identity.oaes & NOTICES) === 0) return
    const cdw10 = FEATURE.ASYNC_EVENT_CONFIGURATION
    const { result } = await controller.admin({ opcode: ADMIN.GET_FEATURES, cdw10 })
    if ((result & NOTICES) !== 0) return
    await controller.admin({ opcode: ADMIN.SET_FEATURES, cdw10, cdw11: (result | NOTICES) >>> 0 })
  }
  const onEvent = (dword: number) => {
    const { type, info } = decodeAsyncEvent(dword)
    if (type !== ASYNC_EVENT.NOTICE || info !== ASYNC_NOTICE.NAMESPACE_ATTRIBUTE_CHANGED) return
    // The next event comes when the list has been read.
    const cdw10 = (((CHANGED_NAMESPACES_LOG_BYTES / 4 - 1) << 16) | LOG_PAGE.CHANGED_NAMESPACES) >>> 0
    const data = Buffer.alloc(CHANGED_NAMESPACES_LOG_BYTES)
    const read = controller.admin({ opcode: ADMIN.GET_LOG_PAGE, nsid: ALL_NAMESPACES, cdw10, data })
    void read.catch(failed).then(() => watcher.onChange())
  }
  const forget: (() => void)[] = []
  // Some are another's: the kernel's, or the thread's that opened the device.
  const attempt = (subscribe: () => void) => {
    try {
      subscribe()
    } catch (error) {
      if (!(error instanceof UnsupportedError)) throw error
    }
  }
  attempt(() => forget.push(controller.onFormat((ended) => watcher.onFormat(ended))))
  attempt(() => {
    forget.push(controller.onEvent(onEvent))
    forget.push(controller.addQueueUser({ suspend() {}, resume: () => void ask().catch(failed) }))
    ask().catch(failed)
  })
  return () => {
    for (const stop of forget) stop()
  }
}
