// The libc calls that Node's own modules do not have, declared once through koffi.
// Bare calls with C's return values, so that a caller decides what a failure means; errno must be
// read (systemCallError) before anything else runs, since any fs call changes it.

import os from 'node:os'
import { SystemCallError } from '../errors.ts'
import { func, native } from './native.ts'

type Address = bigint
type Bytes = Uint8Array

/** memfd_create(2) */
export const memfd_create = func('int memfd_create(const char *name, unsigned int flags)') as (
  name: string,
  flags: number,
) => number
export const ftruncate = func('int ftruncate(int fd, int64_t length)') as (
  fd: number,
  length: number,
) => number
export const close = func('int close(int fd)') as (fd: number) => number
/** mmap(2): a failure comes back as MAP_FAILED. */
export const mmap = func(
  'uintptr_t mmap(uintptr_t addr, size_t length, int prot, int flags, int fd, int64_t offset)',
) as (
  addr: Address,
  length: number,
  prot: number,
  flags: number,
  fd: number,
  offset: number,
) => bigint | number
export const munmap = func('int munmap(uintptr_t addr, size_t length)') as (
  addr: Address,
  length: number,
) => number
/** madvise(2) */
export const madvise = func('int madvise(uintptr_t addr, size_t length, int advice)') as (
  addr: Address,
  length: number,
  advice: number,
) => number
export const malloc = func('uintptr_t malloc(size_t size)') as (size: number) => number | bigint
export const free = func('void free(uintptr_t address)') as (address: number | bigint) => void
const fallocateFunction = func('int fallocate(int fd, int mode, int64_t offset, int64_t length)')
const lseekFunction = func('int64_t lseek(int fd, int64_t offset, int whence)')
/** fallocate(2) */
export const fallocate = fallocateFunction as (
  fd: number,
  mode: number,
  offset: number,
  length: number,
) => number
/** fallocate(2) on a thread of libuv's: of a block device it takes as long as the device needs. */
export const fallocateAsync = (fd: number, mode: number, offset: number, length: number): Promise<number> =>
  new Promise((resolve, reject) => {
    fallocateFunction.async(fd, mode, offset, length, (error: Error | null, value: number) =>
      error ? reject(error) : resolve(value),
    )
  })
/** lseek(2) for SEEK_DATA and SEEK_HOLE, which Node has no call for: -1 where there is none, or a failure. */
export const lseek = (fd: number, offset: number, whence: number): number =>
  Number(lseekFunction(fd, offset, whence))
/** fcntl(2) for commands whose argument is an integer. */
export const fcntl = func('int fcntl(int fd, int command, int value)') as (
  fd: number,
  command: number,
  value: number,
) => number
/** fcntl(2) for commands whose argument is a struct flock. */
export const fcntlLock = func('int fcntl(int fd, int command, _Inout_ uint8_t *lock)') as (
  fd: number,
  command: number,
  lock: Bytes,
) => number
/** flock(2) */
export const flock = func('int flock(int fd, int operation)') as (fd: number, operation: number) => number
export const eventfd = func('int eventfd(unsigned int count, int flags)') as (
  count: number,
  flags: number,
) => number
const O_CLOEXEC = 0o2000000
const pipe2 = func('int pipe2(_Inout_ int *fds, int flags)') as (fds: Int32Array, flags: number) => number
/** A pipe(2) that no program inherits and that holds `bytes`, or what the system lets it. Throws SystemCallError. */
export function createPipe(bytes: number): { readonly reader: number; readonly writer: number } {
  const fds = new Int32Array(2)
  if (pipe2(fds, O_CLOEXEC) !== 0) throw systemCallError('pipe2')
  const [reader = -1, writer = -1] = fds
  fcntl(writer, F.SETPIPE_SZ, bytes)
  return { reader, writer }
}
/** _exit(2): at once, without the end of libuv's threads, which `process.exit` waits for. */
export const _exit = func('void _exit(int status)') as (status: number) => void
/** read(2), where the exception of fs.readSync would be the normal case. */
export const read = func('int64_t read(int fd, _Out_ uint8_t *buf, size_t count)') as (
  fd: number,
  buf: Bytes,
  count: number,
) => number | bigint
/** socket(2) and its kin; a sockaddr is bytes, a msghdr an address in mapped memory. */
export const socket = func('int socket(int domain, int type, int protocol)') as (
  domain: number,
  type: number,
  protocol: number,
) => number
export const connect = func('int connect(int fd, uint8_t *address, unsigned int length)') as (
  fd: number,
  address: Bytes,
  length: number,
) => number
export const bind = func('int bind(int fd, uint8_t *address, unsigned int length)') as (
  fd: number,
  address: Bytes,
  length: number,
) => number
export const listen = func('int listen(int fd, int backlog)') as (fd: number, backlog: number) => number
/** accept4(2), where no one asks for the peer's address. */
export const accept4 = func('int accept4(int fd, uintptr_t address, uintptr_t length, int flags)') as (
  fd: number,
  address: Address,
  length: Address,
  flags: number,
) => number
export const sendmsg = func('int64_t sendmsg(int fd, uintptr_t msg, int flags)') as (
  fd: number,
  msg: Address,
  flags: number,
) => number | bigint
export const recvmsg = func('int64_t recvmsg(int fd, uintptr_t msg, int flags)') as (
  fd: number,
  msg: Address,
  flags: number,
) => number | bigint
export const setsockopt = func(
  'int setsockopt(int fd, int level, int name, uint8_t *value, unsigned int length)',
) as (fd: number, level: number, name: number, value: Bytes, length: number) => number
export const shutdown = func('int shutdown(int fd, int how)') as (fd: number, how: number) => number
const memmove = func('uintptr_t memmove(uint8_t *to, uint8_t *from, size_t bytes)')
/** Where bytes are, for structures that point to them: until their ArrayBuffer is transferred or collected. */
export const addressOf = (bytes: Bytes): number => Number(memmove(bytes, bytes, 0))
/** poll(2) on an array of struct pollfd. */
export const poll = func('int poll(_Inout_ uint8_t *fds, unsigned long nfds, int timeout)') as (
  fds: Bytes,
  nfds: number,
  timeout: number,
) => number

/** write(2), on a thread that must not allocate for it. */
export const write = func('int64_t write(int fd, uint8_t *buf, size_t count)') as (
  fd: number,
  buf: Bytes,
  count: number,
) => number | bigint

// What glibc has no function for goes by number, the same on x86-64 and arm64.
const SYS = { IO_URING_SETUP: 425, IO_URING_ENTER: 426, IO_URING_REGISTER: 427 } as const
const syscallSetup = func('long syscall(long number, unsigned int entries, _Inout_ uint8_t *params)')
const syscallEnter = func(
  'long syscall(long number, int fd, unsigned int submit, unsigned int complete, unsigned int flags, uintptr_t set, size_t bytes)',
)
const syscallRegister = func(
  'long syscall(long number, int fd, unsigned int opcode, uint8_t *argument, unsigned int count)',
)

/** io_uring_setup(2): a descriptor. */
export const io_uring_setup = (entries: number, params: Bytes): number =>
  Number(syscallSetup(SYS.IO_URING_SETUP, entries, params))
/** io_uring_enter(2): how many entries were taken. */
export const io_uring_enter = (fd: number, submit: number, complete: number, flags: number): number =>
  syscallEnter(SYS.IO_URING_ENTER, fd, submit, complete, flags, 0, 0) as number
/** io_uring_register(2) */
export const io_uring_register = (
  fd: number,
  opcode: number,
  argument: Bytes | null,
  count: number,
): number => Number(syscallRegister(SYS.IO_URING_REGISTER, fd, opcode, argument, count))

// One symbol, declared for each type of argument: a variadic declaration needs the types with every call.
const ioctlInt = func('int ioctl(int fd, unsigned long request, int64_t value)')
const ioctlBytes = func('int ioctl(int fd, unsigned long request, _Inout_ uint8_t *bytes)')
const ioctlString = func('int ioctl(int fd, unsigned long request, const char *text)')

/** ioctl(2): the argument is an integer, a structure that is read and written, or a string. */
export function ioctl(fd: number, request: number, argument: number | Bytes | string): number {
  if (typeof argument === 'number') return ioctlInt(fd, request, argument) as number
  if (typeof argument === 'string') return ioctlString(fd, request, argument) as number
  return ioctlBytes(fd, request, argument) as number
}

/**
 * ioctl(2) on libuv's thread pool, for calls that take the kernel 100 ms (device reset): the event loop goes on.
 * errno stays behind on that thread: a caller that needs it repeats the call with `ioctl`.
 */
export function ioctlAsync(fd: number, request: number, argument: number | string): Promise<number> {
  const call = typeof argument === 'number' ? ioctlInt : ioctlString
  return new Promise((resolve, reject) => {
    call.async(fd, request, argument, (error: Error | null, value: number) => {
      if (error) reject(error)
      else resolve(value)
    })
  })
}

export const PROT = { NONE: 0, READ: 1, WRITE: 2 } as const
export const MAP = {
  SHARED: 1,
  PRIVATE: 2,
  FIXED: 0x10,
  ANONYMOUS: 0x20,
  NORESERVE: 0x4000,
  POPULATE: 0x8000,
} as const
export const MFD = { CLOEXEC: 1, ALLOW_SEALING: 2, HUGETLB: 4 } as const
export const F = {
  GETFL: 3,
  SETFL: 4,
  OFD_GETLK: 36,
  DUPFD_CLOEXEC: 1030,
  SETPIPE_SZ: 1031,
  ADD_SEALS: 1033,
  GET_SEALS: 1034,
} as const
export const SEAL = { SEAL: 1, SHRINK: 2, GROW: 4 } as const
export const MADV = { DONTNEED: 4, DONTFORK: 10, HUGEPAGE: 14, POPULATE_WRITE: 23, COLLAPSE: 25 } as const
/** Of lseek: where data, or a hole, begins next. */
export const SEEK = { DATA: 3, HOLE: 4 } as const
export const FALLOC_FL = { KEEP_SIZE: 1, PUNCH_HOLE: 2 } as const
export const LOCK = { EX: 2, NB: 4 } as const
export const EFD = { NONBLOCK: 0x800, CLOEXEC: 0x80000 } as const
export const POLL = { IN: 1, OUT: 4, ERR: 8, HUP: 0x10, RDHUP: 0x2000 } as const
export const AF = { UNIX: 1, INET: 2, INET6: 10 } as const
export const SOCK = { STREAM: 1, NONBLOCK: 0x800, CLOEXEC: 0x80000 } as const
export const MSG = { CTRUNC: 8, DONTWAIT: 0x40, NOSIGNAL: 0x4000, CMSG_CLOEXEC: 0x4000_0000 } as const
export const SOL_SOCKET = 1
export const IPPROTO_TCP = 6
export const TCP_NODELAY = 1
export const SHUT_WR = 1
export const SHUT_RDWR = 2
export const SCM_RIGHTS = 1
export const ERRNO = os.constants.errno

/** What mmap returns where it failed: -1, and it comes back unsigned. */
export const MAP_FAILED = 0xffff_ffff_ffff_ffffn

/** errno of the call that has just failed. */
export const errno = (): number => native().errno()

/** `EINVAL` and the like. */
export function errnoName(value: number): string {
  return Object.entries(os.constants.errno).find(([, known]) => known === value)?.[0] ?? `errno ${value}`
}

/** The error of the libc call that has just failed: call it before anything else can change errno. */
export function systemCallError(syscall: string, path?: string): SystemCallError {
  const errno = native().errno()
  const name = errnoName(errno)
  const fields = { code: name, errno, syscall, ...(path === undefined ? {} : { path }) }
  return new SystemCallError(`system call failed (errno ${errno})`, fields)
}
