// Get Log Page: what its dwords 10 to 14 say (NVMe 1.4 base, section 5.14; fields of 2.0 included).
// Trade-off: the length and the offset are bytes here, as numbers; the specification's dwords and halves are not seen.

import { OutOfRangeError } from '../../errors.ts'
import { bits, flag, u32, word } from '../codec.ts'

const dw10 = word('Get Log Page dword 10', {
  lid: [0, bits(u32, 0, 8)],
  lsp: [0, bits(u32, 8, 7)],
  rae: [0, flag(u32, 15)],
  numdl: [0, bits(u32, 16, 16)],
})
const dw11 = word('Get Log Page dword 11', {
  numdu: [0, bits(u32, 0, 16)],
  lsi: [0, bits(u32, 16, 16)],
})
const dw14 = word('Get Log Page dword 14', {
  uuid: [0, bits(u32, 0, 7)],
  ot: [0, flag(u32, 23)],
  csi: [0, bits(u32, 24, 8)],
})

/** What a Get Log Page command asks for. */
export interface LogPageRequest {
  /** Log page identifier: see LOG_PAGE. */
  lid: number
  /** Bytes to transfer, a multiple of 4. */
  bytes: number
  /** Log page offset in bytes, a multiple of 4. */
  lpo?: number | undefined
  /** Log specific field and identifier. */
  lsp?: number | undefined
  lsi?: number | undefined
  /** Retain asynchronous event: the event that names this page stays reported. */
  rae?: boolean | undefined
  /** UUID index, command set identifier, offset type (the offset is an index, 2.0). */
  uuid?: number | undefined
  csi?: number | undefined
  ot?: boolean | undefined
}

/** The same, with every field. */
type KnownRequest = { [Field in keyof LogPageRequest]-?: NonNullable<LogPageRequest[Field]> }

export interface LogPageDwords {
  cdw10: number
  cdw11: number
  cdw12: number
  cdw13: number
  cdw14: number
}

/** Throws OutOfRangeError for a value that does not fit. */
export function encodeGetLogPage(request: LogPageRequest): LogPageDwords {
  const { lid, bytes, lpo = 0, lsp = 0, lsi = 0, rae = false, uuid = 0, csi = 0, ot = false } = request
  if (!Number.isInteger(bytes / 4) || bytes < 4 || bytes > 2 ** 34) {
    throw new OutOfRangeError(`length of a log page: ${bytes} bytes, where a multiple of 4 is needed`)
  }
  if (!Number.isSafeInteger(lpo) || lpo < 0 || (!ot && lpo % 4 !== 0)) {
    throw new OutOfRangeError(`log page offset ${lpo}: a multiple of 4 is needed`)
  }
  const numd = bytes / 4 - 1
  return {
    cdw10: dw10.encode({ lid, lsp, rae, numdl: numd & 0xffff }),
    cdw11: dw11.encode({ numdu: Math.floor(numd / 0x1_0000), lsi }),
    cdw12: lpo >>> 0,
    cdw13: Math.floor(lpo / 2 ** 32),
    cdw14: dw14.encode({ uuid, ot, csi }),
  }
}

export function decodeGetLogPage(dwords: LogPageDwords): KnownRequest {
  const { lid, lsp, rae, numdl } = dw10.decode(dwords.cdw10)
  const { numdu, lsi } = dw11.decode(dwords.cdw11)
  const bytes = (numdu * 0x1_0000 + numdl + 1) * 4
  const lpo = dwords.cdw13 * 2 ** 32 + dwords.cdw12
  return { lid, lsp, rae, bytes, lsi, lpo, ...dw14.decode(dwords.cdw14) }
}
