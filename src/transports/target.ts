// What an address means, as every way to a controller says it.

import type { RecoveryPolicy } from '../../lib/nvme/host/recovery.ts'
import type { Transport } from '../../lib/nvme/host/transport.ts'
import type { SeveralPaths } from '../../lib/nvme/paths/paths.ts'
import type { FaultRule } from '../../lib/sim/faults/syntax.ts'

/** Options of `open` that a transport takes note of. */
export interface ConnectOptions {
  readonly signal?: AbortSignal | undefined
  readonly timeout?: number | undefined
  readonly shadowDoorbells?: boolean | undefined
  readonly sgl?: boolean | undefined
  readonly recovery?: RecoveryPolicy | undefined
  readonly reconnect?: number | undefined
  readonly reconnectDelay?: number | undefined
  readonly ctrlLossTimeout?: number | undefined
  readonly fastIoFail?: number | undefined
  readonly dhchapSecretFile?: string | undefined
  readonly dhchapCtrlSecretFile?: string | undefined
  readonly tlsKeyFile?: string | undefined
  readonly paths?: readonly string[] | undefined
  readonly noIommu?: boolean | undefined
  readonly iommufd?: 'auto' | 'always' | 'never' | undefined
  readonly faults?: readonly FaultRule[] | undefined
  readonly threads?: boolean | undefined
  readonly force?: boolean | undefined
}

/** What an address means: how to make its transport, and what tells its controller from others. */
export interface Target {
  /** What tells the controller from others as it is now, whatever its address; null where each open makes a new one. */
  key(): string | null
  readonly nsid: number | undefined
  /** I/O queues that the address asks for, where the caller does not. */
  readonly queues?: number | undefined
  connect(): Promise<Transport>
  /** Where the address has several paths: what they are, in place of `connect`. */
  several?(): SeveralPaths
  /** Throws InUseError where the address asks for another controller than the one that is open. */
  check?(open: Transport): void
}

/** Throws AddressError for an address of the right form that means nothing. */
export type Resolve = (address: string, options: ConnectOptions) => Target
