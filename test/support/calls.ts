// UNVMe's calls as the suite makes them on every device: blocking where they can be, and otherwise sent and polled for
// between turns of the event loop.

import type { IoCommand, IoDescriptor, LbaRange, Namespace } from '../../src/index.ts'

type Soon<T> = T | Promise<T>

interface Calls {
  read(qid: number, buf: Buffer, slba: number, nlb: number): Soon<void>
  write(qid: number, buf: Buffer, slba: number, nlb: number): Soon<void>
  compare(qid: number, buf: Buffer, slba: number, nlb: number): Soon<void>
  writeZeroes(qid: number, slba: number, nlb: number): Soon<void>
  verify(qid: number, slba: number, nlb: number): Soon<void>
  flush(qid: number): Soon<void>
  deallocate(qid: number, ranges: readonly LbaRange[]): Soon<void>
  cmd(qid: number, command: IoCommand): Soon<number>
}

/** False where completions come by turns of the event loop alone. */
export const blocks = (ns: Namespace) => ns.controller.transport.eventDriven !== true

/** Waits for a descriptor. */
export async function done(ns: Namespace, iod: IoDescriptor): Promise<void> {
  if (blocks(ns)) while (!ns.apoll(iod, 10));
  else while (!ns.apoll(iod)) await new Promise(setImmediate)
}

/** The blocking calls, or what stands in for them. To be awaited. */
export function now(ns: Namespace): Calls {
  if (blocks(ns)) return ns
  return {
    read: async (qid, buf, slba, nlb) => done(ns, ns.aread(qid, buf, slba, nlb)),
    write: async (qid, buf, slba, nlb) => done(ns, ns.awrite(qid, buf, slba, nlb)),
    compare: async (qid, buf, slba, nlb) => done(ns, ns.acompare(qid, buf, slba, nlb)),
    writeZeroes: async (qid, slba, nlb) => done(ns, ns.awriteZeroes(qid, slba, nlb)),
    verify: async (qid, slba, nlb) => done(ns, ns.averify(qid, slba, nlb)),
    flush: async (qid) => done(ns, ns.aflush(qid)),
    deallocate: (qid, ranges) => ns.promises.deallocate(ranges, { qid }),
    cmd: (qid, command) => ns.promises.cmd(command, { qid }),
  }
}
