// The worker of the soak: attaches to one ticket after another, does what it is asked to, and says what came of it.

import { parentPort } from 'node:worker_threads'
import type { Namespace, QueueTicket } from '../../src/index.ts'
import { attach } from '../../src/threads/attach.ts'
import { loadAttach } from '../../src/transports/attach.ts'
import { BLOCK_BYTES, fill, valuesOf } from './medium.ts'

export interface Job {
  readonly ticket: QueueTicket
  readonly steps: readonly Step[]
}

export interface Step {
  readonly kind: 'read' | 'write' | 'spin-read' | 'spin-write' | 'blocks'
  readonly slba: number
  readonly nlb: number
  readonly value: number
}

/** Of a step: what was read, or the error's code; a failure of the data's is a message. */
export interface StepResult {
  readonly values?: number[]
  readonly code?: string
  readonly message?: string
}

async function run(ns: Namespace, { kind, slba, nlb, value }: Step): Promise<StepResult> {
  if (kind === 'blocks') {
    const values: number[] = []
    for await (const block of ns.blocks({ slba, nlb, chunk: 4 }))
      values.push(...valuesOf(block.data, block.slba))
    return { values }
  }
  const buf = ns.alloc(nlb * BLOCK_BYTES)
  try {
    if (kind.endsWith('write')) {
      fill(buf, slba, value)
      if (kind === 'spin-write') ns.write(0, buf, slba, nlb)
      else await ns.promises.write(buf, slba)
      return {}
    }
    if (kind === 'spin-read') ns.read(0, buf, slba, nlb)
    else await ns.promises.read(buf, slba)
    return { values: valuesOf(buf, slba) }
  } finally {
    ns.pool.discard(buf)
  }
}

// One that is terminated while it loads its modules leaves descriptors of their files open, whatever they are:
// also those that the first `attach` loads.
await loadAttach('pcie')
parentPort!.postMessage('ready')

parentPort!.on('message', async ({ ticket, steps }: Job) => {
  const results: StepResult[] = []
  let ns: Namespace | undefined
  try {
    ns = await attach(ticket)
    for (const step of steps) {
      results.push(
        await run(ns, step).catch(({ code, message, stack }) => ({ code, message: code ? message : stack })),
      )
    }
  } catch (error) {
    const { code, message } = error as { code: string; message: string }
    while (results.length < steps.length) results.push({ code, message })
  } finally {
    await ns?.close()
  }
  parentPort!.postMessage(results)
})
