// What a target needs of a controller that it serves: commands are handed to it with their data, properties are registers.
// The software controller is one (lib/sim/hosts/capsules.ts), the discovery service another.

/** Memory for the data of a command. */
export interface DataBlock {
  readonly bytes: Uint8Array
}

/** @param status bits 31:17 of a completion's last dword; -1 where the command is never answered */
export type CommandDone = (status: number, result: number) => void

export interface ServedController<Block extends DataBlock = DataBlock> {
  /** Largest transfer of one command in bytes. */
  readonly maxBytes: number
  /** Called when the controller is gone for good. */
  onGone: (() => void) | null
  readRegister(offset: number): number
  writeRegister(offset: number, value: number): void
  /** Called when there may be memory again, where `alloc` had none. */
  onRoom: (() => void) | null
  /**
   * Memory for a command's data; null where there is none now: `onRoom` says when to ask again.
   * @param qid of its queue, @param nsid namespace that it names
   */
  alloc(bytes: number, qid: number, nsid: number): Block | null
  free(block: Block): void
  createQueue(qid: number, entries: number, done: (status: number) => void): void
  /** What is in flight on the queue has ended before `done` is called. */
  deleteQueue(qid: number, done: () => void): void
  /**
   * Takes a command, which `run` executes.
   * @param sqe 16 dwords, whose data pointer means nothing; it and the block are the controller's until `done`, which it
   * calls once
   */
  submit(qid: number, sqe: Uint32Array, block: Block | null, done: CommandDone): void
  /** Ends a command that is not begun, with Command Abort Requested; false where it can't. */
  withdraw(done: CommandDone): boolean
  /** The identifier that the controller itself knows a command in flight by; undefined where there is none. */
  idOf(done: CommandDone): number | undefined
  run(): void
  /**
   * As after power on: its host has gone. `ended` is called when nothing that the host has sent is being done any more.
   */
  reset(ended: () => void): void
  close(): void
}
