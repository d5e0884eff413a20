// Every error that unvme throws: one class for each kind, each with a stable `code` to match on.
// All kinds stand in one file below every module, so that callers have one place to look,
// and a module can't invent a kind that the documentation (docs/errors.md) does not have.

interface Options {
  cause?: unknown
}

/** Base of all errors of this package. Match on `code`, which never changes; messages may. */
export abstract class UnvmeError extends Error {
  abstract readonly code: string

  constructor(message: string, options?: Options) {
    super(message, options)
    // As Node's own errors: the class's name, with the code in the stack's first line left to `code`.
    this.name = new.target.name
  }
}

/** An argument has the wrong type: the message names the argument and what was given. */
export class ArgumentTypeError extends UnvmeError {
  readonly code = 'ERR_INVALID_ARG_TYPE'
}

/** An option that the call does not have, or a value that it can't have: the message names the nearest option. */
export class ArgumentValueError extends UnvmeError {
  readonly code = 'ERR_INVALID_ARG_VALUE'
}

/** An argument is of the right type and outside its range: LBAs, counts, depths, alignments of lengths. */
export class OutOfRangeError extends UnvmeError {
  readonly code = 'ERR_OUT_OF_RANGE'
}

/** A command line that can't be understood, or that leaves out a consent that no one is there to give. */
export class UsageError extends UnvmeError {
  readonly code = 'ERR_UNVME_USAGE'
}

/** An address (`0a:00.0/1`, `sim:…`) that can't be understood, or that names nothing. */
export class AddressError extends UnvmeError {
  readonly code = 'ERR_UNVME_ADDRESS'
}

/** A disk image of the software controller is missing, too short or not usable. */
export class ImageError extends UnvmeError {
  readonly code = 'ERR_UNVME_IMAGE'
}

/** A buffer of a raw call that is not DMA memory from `alloc` of the same device. */
export class NotDmaMemoryError extends UnvmeError {
  readonly code = 'ERR_UNVME_NOT_DMA_MEMORY'
}

/** A buffer that has been given back with `free`, or whose device was closed. */
export class FreedBufferError extends UnvmeError {
  readonly code = 'ERR_UNVME_FREED_BUFFER'
}

/** A buffer that can't be freed yet: commands in flight, or without an answer, still own it. */
export class BufferInUseError extends UnvmeError {
  readonly code = 'ERR_UNVME_BUFFER_IN_USE'
}

/** A buffer offset or an address that the hardware can't take, for instance not a multiple of 4 bytes. */
export class AlignmentError extends UnvmeError {
  readonly code = 'ERR_UNVME_ALIGNMENT'
}

/** A call on a device, namespace or queue that has been closed; also what pending calls get when it is. */
export class ClosedError extends UnvmeError {
  readonly code = 'ERR_UNVME_CLOSED'
}

/** A queue id that this namespace does not have. */
export class NoSuchQueueError extends UnvmeError {
  readonly code = 'ERR_UNVME_NO_SUCH_QUEUE'
}

/** A raw call found no free command identifier: poll, then try again. The scheduler waits instead. */
export class QueueFullError extends UnvmeError {
  readonly code = 'ERR_UNVME_QUEUE_FULL'
}

/** A queue that another thread owns. */
export class QueueOwnerError extends UnvmeError {
  readonly code = 'ERR_UNVME_QUEUE_OWNER'
}

/** A descriptor that is not in flight: already reported by `apoll`, or never one of this namespace's. */
export class DescriptorError extends UnvmeError {
  readonly code = 'ERR_UNVME_DESCRIPTOR'
}

/** A command had no answer within its time. Its identifier and memory stay out of use until reset or close. */
export class CommandTimeoutError extends UnvmeError {
  readonly code = 'ERR_UNVME_TIMEOUT'
}

/** The controller reported a fatal status (CSTS.CFS), or did not become ready in CAP.TO. */
export class ControllerFatalError extends UnvmeError {
  readonly code = 'ERR_UNVME_CONTROLLER_FATAL'
}

/** The device is gone: unplugged, or its registers read all-ones, or its server died. */
export class DeviceRemovedError extends UnvmeError {
  readonly code = 'ERR_UNVME_DEVICE_REMOVED'
}

/** The controller was reset while the command was in flight. */
export class ControllerResetError extends UnvmeError {
  readonly code = 'ERR_UNVME_CONTROLLER_RESET'
}

/** The controller was recovered by a reset, and whether it had done what the command asks for is not known. */
export class OutcomeUnknownError extends UnvmeError {
  readonly code = 'ERR_UNVME_OUTCOME_UNKNOWN'
}

/** The device, group or image is held by another process, or the system uses it. */
export class InUseError extends UnvmeError {
  readonly code = 'ERR_UNVME_IN_USE'
}

/** This controller, kernel, Node version or processor can't do what was asked. */
export class UnsupportedError extends UnvmeError {
  readonly code = 'ERR_UNVME_UNSUPPORTED'
}

/** The device is not set up for user space: wrong driver, group not viable, no rights, no IOMMU. */
export class SetupError extends UnvmeError {
  readonly code = 'ERR_UNVME_SETUP'
}

/** DMA memory or mappings ran out: RLIMIT_MEMLOCK, the container's limit, or no IOVA left. */
export class OutOfMemoryError extends UnvmeError {
  readonly code = 'ERR_UNVME_OUT_OF_MEMORY'
}

/** Addresses that were given as paths to one namespace lead to different ones: subsystem NQN or identifiers differ. */
export class PathMismatchError extends UnvmeError {
  readonly code = 'ERR_UNVME_PATH_MISMATCH'
}

/** Bytes that are no valid data structure of the specification. */
export class DecodeError extends UnvmeError {
  readonly code = 'ERR_UNVME_DECODE'
}

/** Data that was read back is not what was written there, or a source is not what its checksum says. */
export class VerifyError extends UnvmeError {
  readonly code = 'ERR_UNVME_VERIFY'
}

/** A peer (worker thread, socket) that breaks its protocol or does not answer. */
export class ProtocolError extends UnvmeError {
  readonly code = 'ERR_UNVME_PROTOCOL'
}

/** An NBD server answered a request with an error. */
export class NbdError extends UnvmeError {
  readonly code = 'ERR_UNVME_NBD'
  /** As the protocol has it: 5 is EIO, 28 ENOSPC, 1 EPERM. */
  readonly errno: number

  constructor(message: string, errno: number, options?: Options) {
    super(message, options)
    this.errno = errno
  }
}

/** A host and a target in the network do not prove to each other who they are: a key is missing, or a wrong one. */
export class AuthenticationError extends UnvmeError {
  readonly code = 'ERR_UNVME_AUTHENTICATION'
}

/** A write stream got more than its LBA range holds. What fitted was written: see `bytesWritten`. */
export class EndOfRangeError extends UnvmeError {
  readonly code = 'ERR_UNVME_END_OF_RANGE'
  /** Bytes of the stream that are on the device. */
  readonly bytesWritten: number

  constructor(message: string, bytesWritten: number, options?: Options) {
    super(message, options)
    this.bytesWritten = bytesWritten
  }
}

/** A source that is copied ended before as many bytes as were asked for. What came was written. */
export class EndOfSourceError extends UnvmeError {
  readonly code = 'ERR_UNVME_END_OF_SOURCE'
  /** Bytes that came, and are in the target. */
  readonly bytesWritten: number

  constructor(message: string, bytesWritten: number, options?: Options) {
    super(message, options)
    this.bytesWritten = bytesWritten
  }
}

/** An operation that its AbortSignal ended; `cause` is the signal's reason. Same code as Node's own. */
export class AbortError extends UnvmeError {
  readonly code = 'ABORT_ERR'
  /**
   * Of `copy`, `writeBlocks`, `transferTo` and `transferFrom`: bytes from the start of the data that had been written
   * without a gap.
   */
  bytesWritten?: number

  constructor(cause?: unknown) {
    super('The operation was aborted', { cause })
  }
}

/** A failed system call, with the fields of Node's system errors; `code` is the errno's name, as `EBUSY`. */
export class SystemCallError extends UnvmeError {
  readonly code: string
  readonly errno: number
  readonly syscall: string
  readonly path?: string

  constructor(message: string, fields: { code: string; errno: number; syscall: string; path?: string }) {
    super(`${fields.code}: ${message}, ${fields.syscall}${fields.path ? ` '${fields.path}'` : ''}`)
    this.code = fields.code
    this.errno = -fields.errno
    this.syscall = fields.syscall
    if (fields.path !== undefined) this.path = fields.path
  }
}

/** What a failed NVMe command was and what the controller answered. */
export interface NvmeFailure {
  /** Opcode, and its name in the specification. */
  opcode: number
  opcodeName: string
  /** 0 for the admin queue. */
  qid: number
  nsid: number
  /** First LBA and number of blocks, where the command has them. */
  slba?: number
  nlb?: number
  /** Status code type and status code (NVMe 1.4 base, 4.6.1), with the specification's name. */
  sct: number
  sc: number
  statusName: string
  /** Do Not Retry, and More (see the error log). */
  dnr: boolean
  more: boolean
}

/** The controller completed a command with an error. */
export class NvmeError extends UnvmeError implements NvmeFailure {
  readonly code = 'ERR_NVME_STATUS'
  readonly opcode: number
  readonly opcodeName: string
  readonly qid: number
  readonly nsid: number
  readonly slba?: number
  readonly nlb?: number
  readonly sct: number
  readonly sc: number
  readonly statusName: string
  readonly dnr: boolean
  readonly more: boolean
  /** As of AbortError. */
  bytesWritten?: number

  constructor(failure: NvmeFailure) {
    super(describe(failure))
    this.opcode = failure.opcode
    this.opcodeName = failure.opcodeName
    this.qid = failure.qid
    this.nsid = failure.nsid
    if (failure.slba !== undefined) this.slba = failure.slba
    if (failure.nlb !== undefined) this.nlb = failure.nlb
    this.sct = failure.sct
    this.sc = failure.sc
    this.statusName = failure.statusName
    this.dnr = failure.dnr
    this.more = failure.more
  }
}

function describe(f: NvmeFailure): string {
  const hex = (n: number) => `${n.toString(16).padStart(2, '0')}h`
  const range = f.slba === undefined ? '' : `, slba ${f.slba}, nlb ${f.nlb ?? 0}`
  const where = `opcode ${hex(f.opcode)}, qid ${f.qid}, nsid ${f.nsid}${range}`
  return `${f.opcodeName} failed: ${f.statusName} (sct ${f.sct}, sc ${hex(f.sc)}${f.dnr ? ', do not retry' : ''}; ${where})`
}
