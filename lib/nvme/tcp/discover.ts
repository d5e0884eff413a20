// Reads a discovery log whole: its header, its records, and again where it has changed meanwhile (NVMe 2.0 base, 5.16.1.23).

import { ProtocolError } from '../../errors.ts'
import { type AdminSender, getLogPage } from '../host/admin-commands.ts'
import {
  DISCOVERY_LOG,
  DISCOVERY_RECORD_BYTES,
  type DiscoveryLog,
  decodeDiscoveryHeader,
  decodeDiscoveryLog,
} from './fabrics.ts'

const ATTEMPTS = 10
/** More than any service has; what says so may say anything. */
const MOST_RECORDS = 65_536

/** @param controller of the discovery service */
export async function readDiscoveryLog(controller: AdminSender): Promise<DiscoveryLog> {
  for (let attempt = 1; ; attempt++) {
    const { genctr, numrec } = decodeDiscoveryHeader(await read(controller, DISCOVERY_RECORD_BYTES))
    if (numrec > MOST_RECORDS) throw new ProtocolError(`discovery log: NUMREC is ${numrec}`)
    const bytes = await read(controller, (numrec + 1) * DISCOVERY_RECORD_BYTES)
    // Records came in several commands, perhaps: the counter after them says whether they belong together.
    const after = decodeDiscoveryHeader(await read(controller, DISCOVERY_RECORD_BYTES))
    if (after.genctr === genctr && after.numrec === numrec) return decodeDiscoveryLog(bytes)
    if (attempt === ATTEMPTS)
      throw new ProtocolError(`discovery log: it changed ${ATTEMPTS} times while it was read`)
  }
}

function read(controller: AdminSender, bytes: number): Promise<Buffer> {
  return getLogPage(controller, DISCOVERY_LOG, bytes, { nsid: 0 })
}
