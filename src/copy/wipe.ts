// Wipes a namespace, and says with what proof: marks are written to some blocks before, and looked for afterwards, on the
// medium. The method is the quickest that the controller has for this namespace alone, or the one that is asked for.
// Trade-off: the marks overwrite a few blocks before anything else does; a wipe that is refused afterwards has done so much
// damage. Without them a controller that says "done" and has done nothing is believed.

import { randomBytes, randomInt } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { AbortError, UnsupportedError } from '../../lib/errors.ts'
import { formatNvm, getLogPage, sanitize } from '../../lib/nvme/host/admin-commands.ts'
import { FORMAT_ERASE, SANITIZE_ACTION } from '../../lib/nvme/spec/commands.ts'
import { FNA, OACS, SANICAP } from '../../lib/nvme/spec/flags.ts'
import { formattedLba, type IdentifyNamespace } from '../../lib/nvme/spec/identify.ts'
import {
  decodeSanitizeLog,
  LOG_PAGE,
  SANITIZE_LOG_BYTES,
  SANITIZE_STATE,
  sanitizeStateName,
} from '../../lib/nvme/spec/logs.ts'
import { throwIfAborted } from '../../lib/sys/abort.ts'
import type { ControllerHandle } from '../namespace/controller-handle.ts'
import type { Namespace } from '../namespace/namespace.ts'
import type { WipeMethod } from './choices.ts'
import { prepareCopy } from './copy.ts'
import { createDeviceEndpoint, readBlocks } from './device-endpoint.ts'
import type { Endpoint } from './endpoint.ts'
import { isZero } from './writers.ts'

export interface WipeOptions {
  /** How; default `auto`: the best that there is for one namespace. */
  method?: WipeMethod | undefined
  /** Blocks that are marked before and looked at afterwards, default 64. */
  samples?: number | undefined
  /**
   * Ends the waiting with AbortError. A format and a sanitize operation go on. Like every error that comes after the first
   * write it has the `record` of what was done, whose result is `failed`.
   */
  signal?: AbortSignal | undefined
  /** Called with the share that is done, from 0 to 1, where that is known. */
  onProgress?: ((share: number) => void) | undefined
}

/** What was done, for the files of whoever must prove it. */
export interface WipeRecord {
  /** Which namespace of which device. */
  device: {
    address: string
    model: string
    serial: string
    firmware: string
    nsid: number
    nguid: string
    eui64: string
    blocks: number
    blocksize: number
  }
  /** The method that was used, and the namespaces that it is for. */
  method: Exclude<WipeMethod, 'auto'>
  scope: 'namespace' | 'every namespace'
  /** ISO 8601. */
  started: string
  ended: string
  seconds: number
  /** What the controller says of a sanitize operation. */
  sanitize?: { status: string; globalErased: boolean }
  /** Bytes of zeroes that were written, and read back as zeroes. */
  overwritten?: { written: number; verified: number }
  /** Blocks that were marked before, and what they read afterwards: the mark, zeroes, FFh, anything else, or nothing. */
  samples: { blocks: number; marked: number; zeroes: number; ones: number; other: number; unreadable: number }
  result: 'wiped' | 'failed'
  reason?: string
}

const SAMPLES = 64
const POLL_MS = 200

/** What a method does: which of Format NVM's or of Sanitize's. */
const FORMATS: Partial<Record<WipeMethod, number>> = {
  'format-crypto': FORMAT_ERASE.CRYPTO,
  'format-erase': FORMAT_ERASE.USER_DATA,
}
const SANITIZES: Partial<Record<WipeMethod, { action: number; bit: number }>> = {
  'sanitize-crypto': { action: SANITIZE_ACTION.CRYPTO_ERASE, bit: SANICAP.CRYPTO_ERASE },
  'sanitize-block': { action: SANITIZE_ACTION.BLOCK_ERASE, bit: SANICAP.BLOCK_ERASE },
  'sanitize-overwrite': { action: SANITIZE_ACTION.OVERWRITE, bit: SANICAP.OVERWRITE },
}

/** What would be done: the method, and whether other namespaces are wiped with it. */
export interface WipePlan {
  readonly method: Exclude<WipeMethod, 'auto'>
  readonly scope: WipeRecord['scope']
}

/**
 * Chooses, without doing anything.
 * @throws UnsupportedError for a method that the controller does not have
 */
export async function planWipe(handle: ControllerHandle, method: WipeMethod = 'auto'): Promise<WipePlan> {
  const { fna, oacs, sanicap } = handle.identity
  const single = (await handle.namespaces()).length === 1
  const canFormat = (oacs & OACS.FORMAT) !== 0
  const eraseAll = (fna & (FNA.ERASE_ALL | FNA.FORMAT_ALL)) !== 0
  const canCrypto = canFormat && (fna & FNA.CRYPTO_ERASE) !== 0
  const scope = eraseAll && !single ? 'every namespace' : 'namespace'
  if (method === 'auto') {
    if (canFormat && scope === 'namespace') {
      return { method: canCrypto ? 'format-crypto' : 'format-erase', scope }
    }
    return { method: 'zeroes', scope: 'namespace' }
  }
  const refuse = (what: string): never => {
    throw new UnsupportedError(`wipe: ${method}: ${handle.address} has no ${what}`)
  }
  if (method in FORMATS) {
    if (!canFormat) refuse('Format NVM')
    if (method === 'format-crypto' && !canCrypto) refuse('cryptographic erase in Format NVM')
    return { method, scope }
  }
  const chosen = SANITIZES[method]
  if (chosen !== undefined && (sanicap & chosen.bit) === 0) refuse('such sanitize operation')
  return { method, scope: chosen === undefined || single ? 'namespace' : 'every namespace' }
}

/** See index.ts. */
export async function wipe(
  handle: ControllerHandle,
  nsid: number,
  options: WipeOptions = {},
): Promise<WipeRecord> {
  const { signal, samples: wanted = SAMPLES, onProgress } = options
  throwIfAborted(signal)
  const { method, scope } = await planWipe(handle, options.method)
  const id = await handle.controller.identifyNamespace(nsid)
  const started = new Date()
  const before = performance.now()
  const { mn, sn, fr } = handle.identity
  type Facts = Pick<WipeRecord, 'sanitize' | 'overwritten'>
  const recordOf = (samples: WipeRecord['samples'], facts: Facts, reason?: string): WipeRecord => ({
    device: {
      ...{ address: handle.address, model: mn, serial: sn, firmware: fr, nsid },
      ...{ nguid: id.nguid, eui64: id.eui64, blocks: id.nsze, blocksize: formattedLba(id).bytes },
    },
    ...{ method, scope, started: started.toISOString(), ended: new Date().toISOString() },
    seconds: (performance.now() - before) / 1000,
    ...facts,
    samples,
    ...(reason === undefined ? { result: 'wiped' as const } : { result: 'failed' as const, reason }),
  })
  const found = { blocks: 0, marked: 0, zeroes: 0, ones: 0, other: 0, unreadable: 0 }
  try {
    const marks = await withNamespace(handle, nsid, (ns) => mark(ns, wanted))
    found.blocks = marks.size
    const done: Facts & { reason?: string } =
      method in FORMATS
        ? await formatWith(handle, nsid, id, FORMATS[method]!)
        : method in SANITIZES
          ? await sanitizeWith(handle, SANITIZES[method]!.action, signal, onProgress)
          : await withNamespace(handle, nsid, (ns) => overwrite(ns, signal, onProgress))
    const samples = await withNamespace(handle, nsid, (ns) => lookAt(ns, marks))
    const { reason = reasonOf(samples, method, wanted), ...facts } = done
    return recordOf(samples, facts, reason)
  } catch (error) {
    const { message, bytesWritten } = error as Error & { bytesWritten?: number }
    const facts = bytesWritten === undefined ? {} : { overwritten: { written: bytesWritten, verified: 0 } }
    throw Object.assign(error as Error, {
      record: recordOf(found, facts, `ended before its end: ${message}`),
    })
  }
}

async function withNamespace<T>(
  handle: ControllerHandle,
  nsid: number,
  work: (ns: Namespace) => Promise<T>,
): Promise<T> {
  const ns = await handle.openNamespace(nsid)
  try {
    return await work(ns)
  } finally {
    await ns.close()
  }
}

/** Writes blocks of noise to the first and the last block and to some between, and makes sure that they are on the medium. */
async function mark(
  { promises, blockcount, blocksize }: Namespace,
  count: number,
): Promise<Map<number, Buffer>> {
  const lbas = new Set([0, blockcount - 1])
  for (const most = Math.min(count, blockcount); lbas.size < most; )
    lbas.add(randomInt(Math.min(blockcount, 2 ** 47)))
  const marks = new Map<number, Buffer>()
  for (const lba of count === 0 ? [] : lbas) {
    const noise = randomBytes(blocksize)
    // A block that can't be written proves nothing either way.
    const written = await promises.write(noise, lba, 1).catch(() => undefined)
    if (written !== undefined) marks.set(lba, noise)
  }
  await promises.flush()
  return marks
}

async function formatWith(handle: ControllerHandle, nsid: number, id: IdentifyNamespace, ses: number) {
  const { index } = formattedLba(id)
  // As it is formatted now.
  await formatNvm(handle.controller, nsid, {
    ...{ lbaf: index, ses, pi: id.dps & 7, pil: (id.dps & 8) !== 0, mset: (id.flbas & 16) !== 0 },
  })
  return {}
}

async function sanitizeWith(
  handle: ControllerHandle,
  sanact: number,
  signal: AbortSignal | undefined,
  onProgress: WipeOptions['onProgress'],
) {
  const readLog = async () =>
    decodeSanitizeLog(await getLogPage(handle.controller, LOG_PAGE.SANITIZE_STATUS, SANITIZE_LOG_BYTES))
  await sanitize(handle.controller, { sanact, owpass: sanact === SANITIZE_ACTION.OVERWRITE ? 1 : 0 })
  // It has been accepted: a state that is an end is the end of this one.
  for (;;) {
    const { sstat, sprog } = await readLog()
    if (sstat.status !== SANITIZE_STATE.IN_PROGRESS) {
      const status = sanitizeStateName(sstat.status)
      const ok =
        sstat.status === SANITIZE_STATE.COMPLETED || sstat.status === SANITIZE_STATE.COMPLETED_DEALLOCATED
      return {
        sanitize: { status, globalErased: sstat.global_erased },
        ...(!ok && { reason: `the sanitize operation ended: ${status}` }),
      }
    }
    onProgress?.(sprog / 65536)
    await sleep(POLL_MS, undefined, { signal }).catch(() => {
      throw new AbortError(signal?.reason)
    })
  }
}

/** Writes zeroes as data to every block, and reads all of them back from the medium. */
async function overwrite(
  ns: Namespace,
  signal: AbortSignal | undefined,
  onProgress: WipeOptions['onProgress'],
) {
  const target = createDeviceEndpoint(ns, ns.device, 0, false)
  const size = target.size!
  const refuse = () => Promise.reject(new TypeError('zeroes are only read'))
  const source: Endpoint = {
    ...{
      name: 'zeroes',
      ns: null,
      slba: 0,
      blocksize: 1,
      size,
      rereadable: true,
      hardware: false,
      file: undefined,
    },
    // biome-ignore lint/correctness/useYield: it is read at any place
    read: async function* () {
      await refuse()
    },
    write: refuse,
    writer: refuse,
    readAt: (buffer) => {
      buffer.fill(0)
      return buffer.length
    },
    close: async () => {},
  }
  const planned = await prepareCopy(source, [target], { sparse: 'never', verify: true, signal })
  const { targets } = await planned.run({ onProgress: (bytes) => onProgress?.(bytes / size) })
  const { written, verified, error } = targets[0]!
  return { overwritten: { written, verified }, ...(error && { reason: error.message }) }
}

async function lookAt(ns: Namespace, marks: ReadonlyMap<number, Buffer>): Promise<WipeRecord['samples']> {
  const found = { blocks: marks.size, marked: 0, zeroes: 0, ones: 0, other: 0, unreadable: 0 }
  const block = Buffer.alloc(ns.blocksize)
  for (const [lba, mark] of marks) {
    try {
      await readBlocks(ns, block, lba)
    } catch {
      found.unreadable++
      continue
    }
    if (block.equals(mark)) found.marked++
    else if (isZero(block)) found.zeroes++
    else if (block.every((byte) => byte === 0xff)) found.ones++
    else found.other++
  }
  return found
}

// After a cryptographic erase anything may be read but what was there; what is overwritten reads as zeroes.
function reasonOf(
  { marked, blocks, zeroes }: WipeRecord['samples'],
  method: WipeMethod,
  wanted: number,
): string | undefined {
  if (wanted > 0 && blocks === 0) return 'no block could be marked before: there is no proof'
  if (marked > 0) return `${marked} of ${blocks} blocks still have what was written before`
  if (method === 'zeroes' && zeroes < blocks) return `${blocks - zeroes} of ${blocks} blocks are no zeroes`
  return undefined
}
