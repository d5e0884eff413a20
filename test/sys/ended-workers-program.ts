// Worker threads that watch descriptors, and are terminated or end themselves: this process has to outlive them.

import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'
import { eventfd, write } from '../../lib/sys/libc.ts'
import { Signal } from '../../lib/sys/signal.ts'
import { watchDescriptor } from '../../lib/sys/watch-descriptor.ts'

const ONE = Buffer.from([1, 0, 0, 0, 0, 0, 0, 0])
const WAYS = ['idle', 'busy', 'exit'] as const

async function main(rounds: number): Promise<void> {
  for (let i = 0; i < rounds; i++) {
    const worker = new Worker(fileURLToPath(import.meta.url), { workerData: WAYS[i % WAYS.length] })
    await once(worker, 'message')
    await worker.terminate()
  }
  console.log(`outlived ${rounds}`)
}

function watch(way: (typeof WAYS)[number]): void {
  const signal = new Signal(() => signal.arm())
  signal.arm()
  const fd = eventfd(0, 0)
  let seen = 0
  watchDescriptor(fd, { readable: true }, () => {
    // It is never read: each look finds it ready.
    if (seen++ === 3) parentPort!.postMessage('seen')
    if (seen > 3 && way === 'exit') process.exit(3)
  })
  watchDescriptor(fd, { writable: true }, () => {
    write(way === 'idle' ? fd : signal.fd, ONE, ONE.length)
    if (way !== 'idle') write(fd, ONE, ONE.length)
  })
}

if (isMainThread) await main(Number(process.argv[2]))
else watch(workerData as (typeof WAYS)[number])
