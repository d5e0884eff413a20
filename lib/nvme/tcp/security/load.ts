// Where a host's keys come from: a file that an option or the address names, else the environment. Never the address
// itself, which is logged, shown and kept in the shell's history.

import fs from 'node:fs'
import { SetupError } from '../../../errors.ts'
import type { TcpAddress } from '../address.ts'
import type { TcpSecurity } from './index.ts'
import { DHCHAP_KEY, type KeyForm, parseKey, type SecurityKey, TLS_KEY } from './keys.ts'

/** Files, of options that count before the address. */
export interface SecretFiles {
  readonly dhchapSecretFile?: string | undefined
  readonly dhchapCtrlSecretFile?: string | undefined
  readonly tlsKeyFile?: string | undefined
}

/** Variables of the environment with the text of a key. */
export const SECRET_VARIABLES = {
  dhchapSecret: 'UNVME_DHCHAP_SECRET',
  dhchapCtrlSecret: 'UNVME_DHCHAP_CTRL_SECRET',
  tlsKey: 'UNVME_TLS_KEY',
} as const

/** Throws SetupError where a key can't be read, or is needed and missing. Its messages name where it was looked for alone. */
export function loadSecurity(
  address: TcpAddress,
  files: SecretFiles = {},
  env: NodeJS.ProcessEnv = process.env,
): TcpSecurity {
  const { dhchapSecret, dhchapCtrlSecret, tlsKey } = SECRET_VARIABLES
  const load = (form: KeyForm, file: string | undefined, variable: string) =>
    file === undefined ? fromVariable(form, variable, env) : keyFromFile(form, file)
  const key = load(DHCHAP_KEY, files.dhchapSecretFile ?? address.dhchap, dhchapSecret)
  const controllerKey = load(
    ...[DHCHAP_KEY, files.dhchapCtrlSecretFile ?? address.dhchapctrl, dhchapCtrlSecret],
  )
  if (key === null && controllerKey !== null) {
    throw new SetupError(`${address.address}: a key of the controller is given, and none of this host`)
  }
  const dhchap =
    key === null ? null : { key, controllerKey, leastHash: address.dhhash, leastGroup: address.dhgroup }
  if (!address.tls && files.tlsKeyFile === undefined) return { dhchap, tls: null }
  const psk = load(TLS_KEY, files.tlsKeyFile ?? address.tlskey, tlsKey)
  if (psk === null) {
    throw new SetupError(`${address.address}: TLS needs a key: tlskey=FILE, tlsKeyFile or ${tlsKey}`)
  }
  return { dhchap, tls: { key: psk, version: address.tlsid } }
}

function fromVariable(form: KeyForm, variable: string, env: NodeJS.ProcessEnv): SecurityKey | null {
  const text = env[variable]
  return text === undefined || text === '' ? null : parse(form, text, variable)
}

/** The key in a file. Throws SetupError, as `loadSecurity` does. */
export function keyFromFile(form: KeyForm, file: string): SecurityKey {
  let text: string
  try {
    text = fs.readFileSync(file, 'utf8')
  } catch (cause) {
    throw new SetupError(`${form.name}: ${(cause as Error).message}`, { cause })
  }
  return parse(form, text, file)
}

function parse(form: KeyForm, text: string, where: string): SecurityKey {
  try {
    return parseKey(form, text)
  } catch (cause) {
    throw new SetupError(`${where}: ${(cause as Error).message}`, { cause })
  }
}
