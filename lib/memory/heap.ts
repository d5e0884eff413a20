// Settles how the C library treats the memory of large Buffers that come and go.
// Trade-off: for the whole process, which may keep up to twice as much freed memory as before its first stream;
// without it every chunk of 128 KiB is mapped, faulted in page by page, and unmapped again: half of a stream's time.

import { logger } from '../log/index.ts'
import { free, malloc } from '../sys/libc.ts'

const log = logger('memory')

// Below glibc's own limit of 32 MiB. Twice as much is what it then keeps: more than a collection of garbage frees at
// once of a stream's chunks. With 16 MiB it gave back, and took again, up to 80 000 pages in half a GiB.
const BYTES = 31 << 20

let settled = false

/**
 * From now on freed Buffers of up to 31 MiB stay mapped for the next ones. glibc gets there by itself when a
 * program frees one as large; where MALLOC_MMAP_THRESHOLD_ or MALLOC_TRIM_THRESHOLD_ is set, that counts. Without glibc
 * all stays as it is: streams of devices in the network need none.
 */
export function keepFreedMemory(): void {
  if (settled) return
  settled = true
  if (process.platform !== 'linux') return
  try {
    free(malloc(BYTES))
  } catch (error) {
    log('the C library can not be called: %s', (error as Error).message)
  }
}
