// The seam between the driver and what carries its commands: a submission queue with its completion queue.
// The rings of a PCI function implement it in lib/nvme/pcie; other transports implement it beside that.

/** Counters of one queue since it was made. */
export interface QueueCounters {
  submitted: number
  /** Stores to this queue's doorbells, or what a transport does in place of them: one for a batch. */
  doorbells: number
  /** Completions of commands that had been given up. */
  late: number
  /** Completions of nothing that was in flight: a command's second one, or of an identifier never used. */
  stray: number
}

/** What an I/O queue is made with. */
export interface QueueOptions {
  readonly qid: number
  /** At least 2, at most CAP.MQES. */
  readonly entries: number
  /** Most bytes of one command's data that will be posted. */
  readonly maxBytes: number
  /** Milliseconds after which a command without an answer is lost. */
  readonly timeout: number
}

/**
 * One queue, owned by one thread at a time: nothing here locks. `post` and `ring` are apart, so that a batch shares
 * what telling the controller costs; so are `step` and `reap`, so that one look serves a batch of completions.
 * Everything from `post` to `reap` is the hot path: no allocation, no promise, no closure.
 */
export interface Queue {
  readonly qid: number
  /** Entries, at least 2; one less can be in flight. */
  readonly entries: number
  /** Most bytes of one command's data. */
  readonly maxBytes: number
  /** Milliseconds between two calls of `expire`, at most, for timeouts to be kept. */
  readonly sliceMs: number
  readonly counters: QueueCounters
  /** False where no command can have metadata in a buffer of its own: then `pointMetadata` is for 0 alone. */
  readonly takesMetadata?: boolean
  /** True where what one path has refused may go by another: any command that was refused for the access there. */
  readonly severalPaths?: boolean
  /** Identifiers that are out of use since their commands had no answer, until one comes after all. */
  readonly lost: number
  /** Called by `reap` for a command that had no answer in time and has one now: its identifier is free again. */
  onLate: ((cid: number) => void) | null
  /** Where completions come by turns of the event loop: set by who wants to hear of each that has brought some. */
  onCompletions?: (() => void) | null
  /** Commands posted and not reaped. */
  readonly inFlight: number
  /** Commands that can be posted now. */
  readonly available: number
  /** True where something was posted that the controller does not know of yet. */
  readonly dirty: boolean
  /** Status field of the completion that `reap` has just given: bits 31:16 of its dword 3, phase cleared. */
  readonly status: number
  /** Dwords 0 and 1 of the completion that `reap` has just given. */
  readonly result: number
  readonly resultHigh: number
  /**
   * Where commands go through somebody else: why the one that `reap` has just given did not come to the controller. Its
   * `status` is one of the path then (SCT 3h), which says whether it may pass.
   */
  readonly fault?: Error | null

  /**
   * Posts a command; the controller sees it at the next `ring`. All numbers are taken modulo 2^32.
   * @param lo @param hi address of the data in the pool, in halves, dword-aligned; `bytes` 0 where there is none
   * @returns the command identifier, or -1 where all are in use
   */
  post(
    opcode: number,
    nsid: number,
    lo: number,
    hi: number,
    bytes: number,
    cdw10: number,
    cdw11: number,
    cdw12: number,
    cdw13: number,
    cdw14: number,
    cdw15: number,
  ): number
  /**
   * Metadata pointer of the commands posted from now on, in halves; 0 where there is no metadata.
   * @param blockBytes metadata of each of their blocks
   */
  pointMetadata(lo: number, hi: number, blockBytes?: number): void
  /** Lets the controller know of what was posted. */
  ring(): void
  /** Lets the controller know of what was reaped; `ring` does so in time by itself. */
  acknowledge(): void
  /** Brings completions in, where they do not come by themselves: before a series of `reap`. */
  step(): void
  /** Takes the next completion: the identifier of its command, free again from now on; or -1 where there is none. */
  reap(): number

  /**
   * Counts time: commands older than the timeout are lost from now on, and handed to `give` one by one.
   * @param now milliseconds of a steady clock
   */
  expire(now: number, give: (cid: number) => void): void
  /** Makes a command young again: for those that may rightly wait for ever, as Asynchronous Event Request. */
  refresh(cid: number): void
  /** The identifier that the controller knows a command by that is in flight, or had no answer: for Abort. */
  idOf(cid: number): number
  /** Gives up every command in flight. */
  abandon(give: (cid: number) => void): void
  /**
   * Where there are several paths: gives up those in flight of some namespaces alone. They stay in flight, and their answers
   * are late ones.
   */
  abandonOf?(which: (nsid: number) => boolean, give: (cid: number) => void): void
  /** As new, for a controller that was reset: every identifier free. Counters go on. */
  reset(): void
  /** Gives its memory back. The controller must not know the queue any more. */
  free(): void
  /** Where there is one: how long commands posted from now on may take, in milliseconds; 0 as the queue was made. */
  allow?(milliseconds: number): void
  /**
   * Where there is one: an idle queue as plain data, with which another thread goes on where this one stopped. Until the
   * queue was made again (`IoQueues.recreate`) nothing may be posted here.
   */
  share?(): QueueShareFacts
}

/** A queue as plain data; what more there is to it is its transport's own. */
export interface QueueShareFacts {
  readonly qid: number
}
