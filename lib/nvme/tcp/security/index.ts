// What a host has for a target: keys, which were read from files or the environment.

import type { DhchapHost } from './authenticate.ts'
import type { IdentityVersion, SecurityKey } from './keys.ts'

/** TLS with a pre-shared key. */
export interface TlsHost {
  readonly key: SecurityKey
  readonly version: IdentityVersion
}

export interface TcpSecurity {
  readonly dhchap: DhchapHost | null
  readonly tls: TlsHost | null
}

export const NO_SECURITY: TcpSecurity = { dhchap: null, tls: null }
