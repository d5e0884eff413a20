// What Linux's nvme driver and io_uring are asked by: requests, structures and offsets of their interfaces
// (linux/nvme_ioctl.h, linux/io_uring.h).

/** Requests of ioctl(2) on a controller's or a namespace's file. */
export const IOCTL = {
  ADMIN64_CMD: 0xc050_4e47,
  IO64_CMD: 0xc050_4e48,
  RESET: 0x4e44,
  SUBSYS_RESET: 0x4e45,
} as const

/** A command as io_uring carries it to a namespace's character device (`cmd_op`). */
export const NVME_URING_CMD_IO = 0xc048_4e80

/** struct nvme_passthru_cmd64: bytes, and fields as indices of 32-bit words. */
export const PASSTHRU_BYTES = 80
export const PASSTHRU = {
  /** Opcode, flags and two reserved bytes. */
  OPCODE: 0,
  NSID: 1,
  METADATA: 4,
  ADDRESS: 6,
  METADATA_BYTES: 8,
  BYTES: 9,
  CDW10: 10,
  TIMEOUT_MS: 16,
  RESULT: 18,
} as const

/** struct io_uring_params: bytes, and fields as indices of 32-bit words. */
export const PARAMS_BYTES = 120
export const PARAMS = {
  SQ_ENTRIES: 0,
  CQ_ENTRIES: 1,
  FLAGS: 2,
  SQ_IDLE_MS: 4,
  SQ_OFFSETS: 10,
  CQ_OFFSETS: 20,
} as const
/** Within SQ_OFFSETS and CQ_OFFSETS. */
export const SQ_OFFSET = { HEAD: 0, TAIL: 1, FLAGS: 4, ARRAY: 6 } as const
export const CQ_OFFSET = { HEAD: 0, TAIL: 1, CQES: 5, FLAGS: 6 } as const

export const SETUP = {
  SQPOLL: 1 << 1,
  CLAMP: 1 << 4,
  /** An entry that can't be sent does not keep those behind it. */
  SUBMIT_ALL: 1 << 7,
  /** Completions come when this thread enters the kernel, without an interrupt of its own. */
  COOP_TASKRUN: 1 << 8,
  /** Says so in the submission ring's flags. */
  TASKRUN_FLAG: 1 << 9,
  SQE128: 1 << 10,
  CQE32: 1 << 11,
} as const

/** Offsets for mmap(2). */
export const MAP_RINGS = 0
export const MAP_SQES = 0x1000_0000

/** Bits of the submission ring's flags. */
export const SQ_FLAG = { NEED_WAKEUP: 1, CQ_OVERFLOW: 2, TASKRUN: 4 } as const
/** Bits of the completion ring's flags. */
export const CQ_EVENTFD_DISABLED = 1

export const ENTER = { GETEVENTS: 1, SQ_WAKEUP: 2 } as const
export const REGISTER_EVENTFD = 4

/** An entry of 128 bytes, in 32-bit words. */
export const SQE_WORDS = 32
export const SQE = {
  /** Opcode and flags. */
  OPCODE: 0,
  FD: 1,
  CMD_OP: 2,
  USER_DATA: 8,
  /** A `struct nvme_uring_cmd`, whose fields are those of PASSTHRU but for the result. */
  COMMAND: 12,
} as const
export const IORING_OP_URING_CMD = 46

/** An entry of 32 bytes, in 32-bit words. */
export const CQE_WORDS = 8
export const CQE = { USER_DATA: 0, RESULT: 2, RESULT64: 4 } as const
