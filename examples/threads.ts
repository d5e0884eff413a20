// Counts the blocks in use with two threads, each with a queue and half of the device of its own.
//
//   node dist/examples/threads.js [ADDRESS]
//
// One file is the program and its threads' task, which is short; a task of any size has its own file.

import { isMainThread } from 'node:worker_threads'
import { open, spread, type TaskContext, task } from 'unvme'
import './support/one-line.ts'

const JOBS = 2

if (isMainThread) await main(process.argv[2])
else task(countUsed)

async function main(address = 'sim:?size=64M'): Promise<void> {
  // `threads`: a software controller needs a thread of its own, to be shared by others.
  await using ns = await open(address, { qcount: JOBS, threads: true })
  if (process.argv[2] === undefined) {
    // Something to find, on both sides of the middle.
    await ns.promises.write(Buffer.alloc(1000 * ns.blocksize, 'used'), ns.blockcount / 2 - 400)
  }
  const counts = await spread<number>(ns, new URL(import.meta.url), {
    jobs: JOBS,
    onMessage: (message, index) => console.log(`thread ${index}: ${message}`),
  })
  const sum = counts.reduce((total, count) => total + count, 0)
  console.log(`${counts.join(' + ')} = ${sum} blocks in use`)
}

/** What each thread does with its part of the range. */
async function countUsed({ ns, slba, nlb, signal, send }: TaskContext): Promise<number> {
  send(`LBA ${slba} to ${slba + nlb - 1}`)
  const empty = Buffer.alloc(ns.blocksize)
  let used = 0
  for await (const block of ns.blocks({ slba, nlb, chunk: 256, signal })) {
    for (let at = 0; at < block.data.length; at += ns.blocksize) {
      if (block.data.compare(empty, 0, empty.length, at, at + ns.blocksize) !== 0) used++
    }
  }
  return used
}
