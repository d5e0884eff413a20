// A thread that makes the ioctls of another one, which go on for as long as their commands: see ioctl-thread.ts.

import { workerData } from 'node:worker_threads'
import { errno, ioctl, write } from '../../sys/libc.ts'
import { PASSTHRU_BYTES } from './abi.ts'
import { MAILBOX, STATE } from './ioctl-thread.ts'

const words = new Int32Array(workerData as SharedArrayBuffer)
const argument = new Int32Array(PASSTHRU_BYTES / 4)
const bytes = new Uint8Array(argument.buffer)
const one = new Uint8Array(new BigUint64Array([1n]).buffer)

for (;;) {
  Atomics.wait(words, MAILBOX.STATE, STATE.IDLE)
  if (Atomics.load(words, MAILBOX.STATE) !== STATE.ASKED) {
    Atomics.wait(words, MAILBOX.STATE, STATE.DONE)
    continue
  }
  argument.set(words.subarray(MAILBOX.ARGUMENT, MAILBOX.ARGUMENT + argument.length))
  const request = words[MAILBOX.REQUEST]! >>> 0
  const plain = words[MAILBOX.PLAIN] === 1
  const value = ioctl(words[MAILBOX.FD]!, request, plain ? 0 : bytes)
  words[MAILBOX.VALUE] = value
  words[MAILBOX.ERROR] = value < 0 ? errno() : 0
  words.set(argument, MAILBOX.ARGUMENT)
  const eventfd = words[MAILBOX.EVENTFD]!
  Atomics.store(words, MAILBOX.STATE, STATE.DONE)
  if (eventfd >= 0) write(eventfd, one, one.length)
}
